"""What the sender's tests share besides fixtures."""

from ringback.core.model import Request

HEADERS = (("content-type", "application/json"), ("webhook-id", "msg_1"))
BODY = b'{"type":"a.b"}'


def allow_all(_address: str, _scheme: str) -> str | None:
    """Forbid nothing."""
    return None


def request(url: str, **changes: object) -> Request:
    """A delivery as the service makes it."""
    given = {"method": "POST", "headers": HEADERS, "body": BODY, "connect_timeout_s": 2.0, **changes}
    return Request(url=url, **given)
