# Prints which of the words of netplan's library are keys of an interface: a line
# for each kind, the kind first.
import os
import re

from netplan import NetplanException, Parser

with open("/usr/lib/x86_64-linux-gnu/libnetplan.so.1", "rb") as library:
    found = re.findall(rb"[a-z0-9-]{2,40}(?=\0)", library.read())
# A text that another ends with is stored once.
words = {part.decode() for word in found for part in (word[match.end():] for match in re.finditer(rb"^|-", word)) if part}

for kind in ("ethernets", "bonds", "bridges", "vlans"):
    keys = []
    for word in sorted(words):
        with os.fdopen(os.memfd_create("netplan"), "w+") as file:
            file.write(f"network:\n  version: 2\n  {kind}:\n    x0:\n      '{word}': {{zz: [zz]}}\n")
            file.flush()
            file.seek(0)
            try:
                Parser().load_yaml(file)
                keys.append(word)
            except NetplanException as error:
                if f"unknown key '{word}'" not in str(error):
                    keys.append(word)
    print(kind, *keys)
