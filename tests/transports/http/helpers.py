"""What the sender's tests share besides fixtures."""

import contextlib
import resource
from collections.abc import Iterator

from ringback.core.model import Request
from ringback.kit.clock import SystemClock

HEADERS = (("content-type", "application/json"), ("webhook-id", "msg_1"))
BODY = b'{"type":"a.b"}'


def allow_all(_address: str, _scheme: str) -> str | None:
    """Forbid nothing."""
    return None


def request(url: str, **changes: object) -> Request:
    """A delivery as the service makes it."""
    given = {"method": "POST", "headers": HEADERS, "body": BODY, "connect_timeout_s": 20.0, **changes}
    return Request(url=url, **given)


@contextlib.contextmanager
def out_of_files() -> Iterator[None]:
    """No further descriptor for this process, also where another thread closes one meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class ManualClock(SystemClock):
    """Monotonic time that moves only when told to."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        """The hand's position."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the hand."""
        self._now += seconds
