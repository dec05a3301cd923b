"""The egress proxy: its address from one text, and what may be left to it.

Role: reads ``[egress] proxy``, and judges names that only the proxy can resolve.
Rules: the password is in no message, no representation and nothing that is shown. A name we resolve is judged by its
addresses like any other; one we can't is left to the proxy, whose network it is, unless by its form it can only lie
inside one.
Must not know: sockets, DNS, how a request goes out.
"""

import base64
import re
from urllib.parse import unquote_to_bytes

import msgspec

from ringback.core.egress import EgressPolicy
from ringback.core.model import Rejection
from ringback.core.target import parse_url

MAX_CREDENTIALS = 255  #: characters of user and password each, as written

#: Last labels that no public name has: the special-use names of RFC 6761, 6762, 7686, 8375, ICANN's ``internal``, and
#: those that networks took for themselves.
PRIVATE_NAMES = (
    "local", "localhost", "localdomain", "internal", "intranet", "private", "lan", "home", "corp", "home.arpa", "onion",
)  # fmt: skip

_FORM = "must be http://host:port or http://user:password@host:port"
_TEXT = re.compile(r"http://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<place>[^@/]+:[0-9]+)/?", re.IGNORECASE)
_CREDENTIAL = re.compile(r"(?:[!-$&-.0-9;-?A-~\[\]]|%[0-9A-Fa-f]{2})*")


class Proxy(msgspec.Struct, frozen=True, cache_hash=True):
    """Where the proxy listens; ``authorization`` is the value of its header, None if it wants none."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.place})"

    @property
    def place(self) -> str:
        """Host and port, fit to be shown."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(text: str) -> Proxy | None:
    """Read the setting; None for no proxy. Raises ValueError, whose message doesn't repeat the text."""
    if not text:
        return None
    if text[:8].lower() == "https://":
        raise ValueError(f"{_FORM}: the way to the proxy itself is not encrypted, https receivers are through it")
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{_FORM}, without a path, with its port; in user and password @ : / % are written %40 %3A %2F %25"
        )
    target = parse_url(f"http://{match['place']}")
    if isinstance(target, Rejection):
        raise ValueError(f"{_FORM}: {target.message}")  # noqa: TRY004 - the value is wrong, not its type
    return Proxy(target.host, target.port, _authorization(match["user"], match["password"]))


def masked(text: str) -> str:
    """The setting as it may be shown: without the password, and without all of it if it can't be read."""
    try:
        proxy = parse_proxy(text)
    except ValueError:
        return "****"
    if proxy is None or proxy.authorization is None:
        return text
    user = text.partition("//")[2].partition("@")[0].partition(":")[0]
    return f"http://{user}:****@{proxy.place}"


def judge_unresolved(policy: EgressPolicy, host: str, scheme: str) -> str | None:
    """Whether a name that has no address here may be left to the proxy: None if it may, else why not."""
    if "." not in host or any(host == name or host.endswith(f".{name}") for name in PRIVATE_NAMES):
        return "a name of a private network is not left to the proxy"
    if scheme == "http" and not policy.allow_http:
        return "plain http to an address nobody here knows; use https, or egress.allow_http"
    return None


def _authorization(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    for text in (user, password or ""):
        if len(text) > MAX_CREDENTIALS or not _CREDENTIAL.fullmatch(text):
            raise ValueError(
                f"user and password must be printable, at most {MAX_CREDENTIALS} characters, all else as %XX"
            )
    name, secret = unquote_to_bytes(user), unquote_to_bytes(password or "")
    if b":" in name or any(byte < 32 or byte == 127 for byte in name + secret):
        raise ValueError("the user must hold no colon, and neither user nor password a control character")
    return f"Basic {base64.b64encode(name + b':' + secret).decode()}"
