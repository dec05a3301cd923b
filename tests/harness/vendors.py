"""A receiver that does what each vendor's customers do: recomputes the signature with code of its own.

``python -m tests.harness.vendors SECRETS`` (a JSON object, path to secret) prints its port, then a JSON line for each
request: path, method, query, headers, body, and ``verified``. It ends with its standard input and shares no code with
the daemon.
"""

import base64
import hashlib
import hmac
import http.server
import json
import sys
import threading
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def prosa(secret, headers, body):
    """The vendor's sample: items split at commas, plain SHA-256 of secret, full stop, body."""
    items = [item.split("=") for item in headers["x-prosa-signature"].split(",")]
    wanted = hashlib.sha256((secret + "." + body.decode()).encode()).hexdigest()
    return items[0][0] == "t" and wanted in [value for key, value in items if key == "v1"]


def deepva(secret, _headers, body):
    """Parse, dump as Python does, HMAC."""
    envelope = json.loads(body)
    digest = hmac.new(secret.encode(), json.dumps(envelope["data"]).encode(), hashlib.sha256).digest()
    return base64.b64decode(envelope["hmac_signature"]) == digest


def azure(secret, headers, body):
    """HMAC over the body, base64."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return headers["x-microsoftspeechservices-signature"] == base64.b64encode(digest).decode()


def speechlive(secret, headers, body):
    """HMAC over the body under the signing key, and the shared secret in clear."""
    key, shared = secret.split("|")
    digest = hmac.new(key.encode(), body, hashlib.sha256).digest()
    return (
        headers["x-trouble-request-hash"] == base64.b64encode(digest).decode() and headers["x-trouble-secret"] == shared
    )


def v1a(secret, headers, body):
    """Ed25519 over id, timestamp and body."""
    seed = base64.b64decode(secret.removeprefix("whsk_"))[:32]
    text = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    version, _, item = headers["webhook-signature"].partition(",")
    Ed25519PrivateKey.from_private_bytes(seed).public_key().verify(base64.b64decode(item), text)
    return version == "v1a"


def unsigned(_secret, headers, _body):
    """Nothing claims to be a signature."""
    return not any("signature" in name for name in headers)


CHECKS = {
    "prosa": prosa, "deepva": deepva, "azure": azure, "speechlive": speechlive, "v1a": v1a, "pulse": unsigned,
}  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 200 and tells what came."""

    protocol_version = "HTTP/1.1"
    secrets: ClassVar[dict] = {}
    lock = threading.Lock()

    def do_POST(self):
        parts = urlsplit(self.path)
        name = parts.path.strip("/").split("/")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {key.lower(): value for key, value in self.headers.items()}
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        answer = query.get("validationToken", "ok").encode()
        try:
            verified = CHECKS[name](self.secrets.get(name, ""), headers, body)
        except Exception as problem:
            verified = repr(problem)
        told = {
            "path": parts.path, "method": self.command, "query": query, "headers": headers, "body": body.decode(),
            "verified": verified,
        }  # fmt: skip
        with self.lock:
            print(json.dumps(told), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815 - the base class looks for this name

    def log_message(self, *_):
        """Quiet."""


def main():
    """Serve until standard input ends."""
    Handler.secrets = json.loads(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
