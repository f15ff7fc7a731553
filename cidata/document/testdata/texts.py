# Reads cloud-config in base64 as cloud-init does, and shows the list "texts" of it as JSON.
import base64
import json
import sys

from cloudinit import util

print(json.dumps(util.load_yaml(base64.b64decode(json.loads(sys.stdin.readline())))["texts"]))
