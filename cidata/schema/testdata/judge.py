# Asks cloud-init for its verdicts: one JSON object a line on standard input
# ("type", "data" in base64), one on standard output.
import base64
import contextlib
import functools
import io
import json
import logging
import sys
import tempfile

import cloudinit.net.netplan
from cloudinit.config import schema

# Where netplan is installed cloud-init asks it instead of its own schema.
schema.LIBNETPLAN_AVAILABLE = False
cloudinit.net.netplan.available = lambda *_: False
logging.disable(logging.CRITICAL)
# Once is enough, and quicker.
schema.get_jsonschema_validator = functools.cache(schema.get_jsonschema_validator)
schema.get_schema = functools.cache(schema.get_schema)

for line in sys.stdin:
    case = json.loads(line)
    kind = schema.SchemaType(case["type"])
    said = io.StringIO()
    answer = {"valid": True}
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(case["data"]))
        file.flush()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                schema.validate_cloudconfig_file(file.name, schema.get_schema(kind), kind)
        except (Exception, SystemExit) as error:
            answer = {"valid": False, "why": type(error).__name__ + ": " + str(error)[:2000]}
    answer["deprecated"] = "deprecations: " in said.getvalue()
    print(json.dumps(answer))
