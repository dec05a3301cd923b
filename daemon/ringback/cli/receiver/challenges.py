"""Answering the handshakes as a well-made receiver does.

Role: from a received request to the answer its protocol wants, or None if it is no challenge.
Rules: the protocols' own rules (docs/receivers.md), written anew. Must not know: the terminal, sockets, the sender.
"""

import hashlib
import hmac
import json
from urllib.parse import parse_qs, urlsplit

import msgspec

from ringback.cli.receiver.captured import Captured


class Reply(msgspec.Struct, frozen=True):
    """What to answer. ``kind``: which protocol asked."""

    kind: str
    status: int = 200
    body: str = ""
    headers: dict[str, str] = {}


def reply_to(captured: Captured, secrets: tuple[str, ...]) -> Reply | None:
    """The answer to a challenge; None if the request is an ordinary delivery."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(captured.url).query).items()}
    plain = {"content-type": "text/plain; charset=utf-8"}
    if captured.method == "OPTIONS" and "webhook-request-origin" in captured.headers:
        rate = captured.headers.get("webhook-request-rate")
        allowed = {"webhook-allowed-origin": captured.headers["webhook-request-origin"], "allow": "POST, OPTIONS"}
        return Reply("cloudevents", headers=allowed | ({"webhook-allowed-rate": rate} if rate else {}))
    if captured.method == "GET" and "hub.challenge" in query:
        return Reply("websub", body=query["hub.challenge"], headers=plain)
    if captured.method == "POST" and "validationToken" in query:
        azure = "x-microsoftspeechservices-event" in captured.headers
        return Reply("azure-speech" if azure else "graph", body=query["validationToken"], headers=plain)
    return _zoom(captured, secrets)


def _zoom(captured: Captured, secrets: tuple[str, ...]) -> Reply | None:
    if b"endpoint.url_validation" not in captured.body:
        return None
    try:
        told = json.loads(captured.body)
        token = told["payload"]["plainToken"] if told["event"] == "endpoint.url_validation" else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(token, str) or not token.isprintable():  # a lone surrogate has no bytes to hash
        return None
    mac = hmac.new(secrets[0].encode() if secrets else b"", token.encode(), hashlib.sha256).hexdigest()
    body = json.dumps({"plainToken": token, "encryptedToken": mac})
    return Reply("zoom", body=body, headers={"content-type": "application/json"})
