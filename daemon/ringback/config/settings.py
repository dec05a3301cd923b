"""What can be set: the sections, their types, ranges and defaults.

Rules: every number has a minimum and a maximum; a key whose behaviour isn't built takes only its default and says so.
``config/ringback.toml`` shows every key with its default; a test keeps the two equal.
Must not know: where a value comes from, or who uses it.
"""

import ipaddress
import os
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ringback import dialects
from ringback.core.callbacks import check_host_pattern
from ringback.core.names import check_aliases
from ringback.core.proxy import parse_proxy

MAX_SOCKET_PATH_BYTES = 107  # sun_path holds 108 with its closing NUL
MAX_PATH_BYTES = 4095
MAX_URL = 2048
MAX_PUBLIC_URL = 256  # what is built on it must fit into urls, too
MAX_LIST = 256
MAX_TENANTS = 10_000  # with settings of their own
MIN_DATABASE_BYTES = 64 * 1024 * 1024  # less leaves pruning nothing to work with
MAX_DATABASE_BYTES = 64 * 1024**4


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path: it must not depend on the working directory")
    if "\0" in path or len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ValueError(f"must be a path of at most {MAX_PATH_BYTES} bytes without NUL")
    return path


def _absolute_or_off(path: str) -> str:
    return _absolute(path) if path else path


def _socket_path(path: str) -> str:
    size = len(os.fsencode(_absolute(path)))
    if size > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"is {size} bytes; the system takes socket paths of at most {MAX_SOCKET_PATH_BYTES} bytes")
    return path


def _mode(mode: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise ValueError('must be three octal digits in quotes, e.g. "0660"')
    return mode


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as problem:
        raise ValueError(f"{problem} (a network is written 10.0.0.0/8 or fd00::/8)") from None
    return text


def _nameserver(text: str) -> str:
    address, port = text, "53"
    if matched := re.fullmatch(r"\[([^\]]*)\]:(\d+)|([^:]*):(\d+)", text, re.ASCII):
        address, port = matched[1] or matched[3] or "", matched[2] or matched[4]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address (with a port: 127.0.0.1:5353 or [::1]:5353)") from None
    if not 1 <= int(port[:6]) <= 65535:
        raise ValueError(f"{text!r} has a port outside 1–65535")
    return text


def _divert_url(url: str) -> str:
    if not url:
        return url
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as problem:
        raise ValueError(f"is no URL: {problem}") from None
    if not fine or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            f"must be an http:// or https:// URL with a host, printable ASCII, at most {MAX_URL} characters"
        )
    if "@" in parts.netloc or "#" in url:
        raise ValueError("must not hold a user name, a password or a fragment")
    return url


def _public_url(url: str) -> str:
    if len(url) > MAX_PUBLIC_URL or "?" in _divert_url(url):
        raise ValueError(f"must have no query and at most {MAX_PUBLIC_URL} characters")
    return url.rstrip("/")


def _dialect(name: str) -> str:
    if dialects.get(name) is not None:
        return name
    raise ValueError(f"{name!r} is no dialect; there are: {', '.join(dialects.names())}")


def _aliases(aliases: dict[str, str]) -> dict[str, str]:
    problems = check_aliases(aliases, dialects.vocabulary({}))
    if problems:
        raise ValueError("; ".join(problems))
    return aliases


def _listen(text: str) -> str:
    """An address and a port, or nothing. A name isn't taken: which address it is must not depend on a name server."""
    matched = re.fullmatch(r"\[([^\]]*)\]:(\d{1,5})|([^:]*):(\d{1,5})", text, re.ASCII)
    if not text:
        return text
    if matched is None:
        raise ValueError(f"{text!r} must be an address and a port, e.g. 127.0.0.1:8650 or [::1]:8650")
    version = 6 if matched[1] is not None else 4
    try:
        address = ipaddress.ip_address(matched[1] or matched[3])
    except ValueError:
        raise ValueError(f"{text!r} holds no IP address") from None
    if address.version != version or int(matched[2] or matched[4]) > 65535:
        raise ValueError(f"{text!r} must be an address and a port up to 65535; an IPv6 address stands in brackets")
    return text


def _proxy(text: str) -> str:
    parse_proxy(text)
    return text


def _budget(size: int) -> int:
    if size and not MIN_DATABASE_BYTES <= size <= MAX_DATABASE_BYTES:
        raise ValueError(f"must be 0 (no budget) or from {MIN_DATABASE_BYTES} to {MAX_DATABASE_BYTES}, not {size}")
    return size


def _host_pattern(pattern: str) -> str:
    if problem := check_host_pattern(pattern):
        raise ValueError(f"{pattern!r} {problem}")
    return pattern


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Text = Annotated[str, Field(max_length=MAX_URL)]
Directory = Annotated[str, AfterValidator(_absolute)]
SocketPath = Annotated[str, AfterValidator(_socket_path)]
Mode = Annotated[str, AfterValidator(_mode)]
FolderOrOff = Annotated[str, AfterValidator(_absolute_or_off)]
ProxyUrl = Annotated[str, Field(max_length=MAX_URL, repr=False), AfterValidator(_proxy)]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_as_tuple), Field(max_length=MAX_LIST)
]
Nameservers = Annotated[
    tuple[Annotated[str, AfterValidator(_nameserver)], ...], BeforeValidator(_as_tuple), Field(max_length=8)
]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Aliases = Annotated[dict[str, str], AfterValidator(_aliases)]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host_pattern)], ...], BeforeValidator(_as_tuple), Field(max_length=MAX_LIST)
]


class Section(BaseModel):
    """A table of the file: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Daemon(Section):
    """The process."""

    state_dir: Directory
    shutdown_grace_s: float = Field(default=20, ge=0, le=3600)


class EventsSocket(Section):
    """Where producers connect."""

    path: SocketPath
    mode: Mode = "0660"
    group: Text = ""

    @property
    def mode_bits(self) -> int:
        """The mode as chmod takes it."""
        return int(self.mode, 8)


class Spool(Section):
    """The spool directory; "" is off."""

    path: FolderOrOff = ""


class Ingest(Section):
    """How events come in."""

    socket: EventsSocket
    spool: Spool = Spool()
    max_event_bytes: int = Field(default=1_048_576, ge=1024, le=16_777_216)
    max_connections: int = Field(default=256, ge=1, le=16_384)
    max_unanswered: int = Field(default=1024, ge=1, le=65_536)


class Api(Section):
    """Where operators connect."""

    socket: SocketPath
    public_url: PublicUrl = ""
    mode: Mode = "0600"
    group: Text = ""
    listen: Annotated[str, AfterValidator(_listen)] = ""

    @property
    def listen_at(self) -> tuple[str, int] | None:
        """Address and port of the TCP listener; None if there is none."""
        address, _, port = self.listen.rpartition(":")
        return (address.strip("[]"), int(port)) if self.listen else None

    @property
    def mode_bits(self) -> int:
        """The mode as chmod takes it."""
        return int(self.mode, 8)


class Delivery(Section):
    """How requests go out."""

    concurrency: int = Field(default=512, ge=1, le=16_384)
    timeout_s: float = Field(default=30, ge=0.1, le=600)
    connect_timeout_s: float = Field(default=5, ge=0.05, le=60)
    max_response_bytes: int = Field(default=65_536, ge=4096, le=16_777_216)
    max_body_bytes_in_flight: int = Field(default=67_108_864, ge=1_048_576, le=17_179_869_184)
    max_idle_connections: int = Field(default=512, ge=0, le=16_384)
    nameservers: Nameservers = ()
    divert_to: Annotated[str, AfterValidator(_divert_url)] = ""


class EndpointDefaults(Section):
    """What an endpoint has that doesn't say otherwise."""

    dialect: Annotated[str, AfterValidator(_dialect)] = "standard"
    concurrency: int = Field(default=8, ge=1, le=1024)


class Egress(Section):
    """Which addresses may be called, and by which way."""

    allow_http: bool = False
    allow_networks: Networks = ()
    deny_networks: Networks = ()
    proxy: ProxyUrl = ""


class Callbacks(Section):
    """Per-event callback URLs: whether there are any, and to which hosts."""

    enabled: bool = True
    hosts: Hosts = ("*",)


class TenantCallbacks(Section):
    """The same for one tenant; None is what ``Callbacks`` says."""

    enabled: bool | None = None
    hosts: Hosts | None = None


class Tenant(Section):
    """What one tenant has of its own."""

    callbacks: TenantCallbacks = TenantCallbacks()


Tenants = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], Tenant], Field(max_length=MAX_TENANTS)
]


class Retention(Section):
    """How long things are kept."""

    events_days: int = Field(default=30, ge=1, le=3650)
    attempts_days: int = Field(default=14, ge=1, le=3650)
    max_database_bytes: Annotated[int, AfterValidator(_budget)] = 0


class Encryption(Section):
    """Encryption at rest: where the master key lies, if it is no credential of the unit; "" is nowhere."""

    key_file: FolderOrOff = ""
    old_key_file: FolderOrOff = ""


class Log(Section):
    """What the log looks like."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """Everything that can be set. Durations are seconds, sizes bytes, modes octal text."""

    daemon: Daemon
    ingest: Ingest
    api: Api
    delivery: Delivery = Delivery()
    endpoint_defaults: EndpointDefaults = EndpointDefaults()
    egress: Egress = Egress()
    callbacks: Callbacks = Callbacks()
    retention: Retention = Retention()
    encryption: Encryption = Encryption()
    log: Log = Log()
    aliases: Aliases = {}
    tenant: Tenants = {}
