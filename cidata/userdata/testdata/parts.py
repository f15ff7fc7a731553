# Takes user-data apart as cloud-init does: one JSON string in base64 a line on standard input, the list of parts on
# standard output.
import base64
import json
import logging
import sys

from cloudinit import user_data, util

logging.disable(logging.CRITICAL)
util.fetch_ssl_details = lambda *_: {}

for line in sys.stdin:
    parts = []
    try:
        message = user_data.UserDataProcessor(None).process(base64.b64decode(json.loads(line)))
        for part in message.walk():
            if part.get_content_maintype() != "multipart":
                data = util.fully_decoded_payload(part)
                if isinstance(data, str):
                    data = data.encode()
                parts.append({"type": part.get_content_type(), "data": base64.b64encode(data).decode()})
    except Exception as error:
        parts = [{"type": "error " + repr(error), "data": ""}]
    print(json.dumps(parts))
