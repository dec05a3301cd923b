"""The service manager's two small protocols: state notifications (sd_notify) and sockets handed down (sd_listen_fds).

Role: datagrams to ``$NOTIFY_SOCKET``; listening sockets from ``$LISTEN_FDS``.
Rules: a notification never raises and never blocks; descriptors are taken only if they were meant for this process; the
environment and the process id are arguments.
Must not know: what the sockets serve, when the daemon is ready.
"""

import os
import socket
from collections.abc import Mapping

#: The first descriptor handed down (SD_LISTEN_FDS_START).
FIRST_FD = 3

#: More descriptors than this were not meant for us.
MAX_FDS = 64


def notify(message: str, env: Mapping[str, str] = os.environ) -> bool:
    """Send e.g. ``READY=1``, ``STOPPING=1``, ``STATUS=…``, ``WATCHDOG=1``; several are joined by newlines.

    Returns False when there is no manager, or it can't be reached now.
    """
    address = env.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.connect(address)
            sender.send(message.encode())
    except OSError:
        return False
    return True


def listen_fds(env: Mapping[str, str] = os.environ, pid: int | None = None) -> dict[str, socket.socket]:
    """The listening sockets handed down to this process (``pid``: ours if None), by name.

    A socket without a name of its own, and the later ones of those that share a name, stand under the address they
    are bound to. The sockets are closed on exec from here on.

    Raises:
        ValueError: the variables are malformed, or a descriptor is no listening stream socket; the text names it.
    """
    if env.get("LISTEN_PID") != str(os.getpid() if pid is None else pid):
        return {}
    names = env["LISTEN_FDNAMES"].split(":") if "LISTEN_FDNAMES" in env else []
    found: dict[str, socket.socket] = {}
    for index in range(_count(env)):
        listener = _listener(FIRST_FD + index)
        name = names[index] if index < len(names) else ""
        if name in ("", "unknown") or name in found:
            name = address_of(listener)
        found[name] = listener
    return found


def find_listener(listeners: Mapping[str, socket.socket], name: str, path: str) -> socket.socket | None:
    """The socket called ``name``, else the one bound to ``path``, else None."""
    by_name = listeners.get(name)
    if by_name is not None:
        return by_name
    return next((listener for listener in listeners.values() if address_of(listener) == path), None)


def _count(env: Mapping[str, str]) -> int:
    text = env.get("LISTEN_FDS", "")
    if not text.isdecimal() or int(text) > MAX_FDS:
        raise ValueError(f"LISTEN_FDS={text!r} is not a number from 0 to {MAX_FDS}")
    return int(text)


def _listener(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise ValueError(f"descriptor {fd} from LISTEN_FDS is not a socket: {error.strerror}") from error
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ValueError(f"descriptor {fd} from LISTEN_FDS does not listen")
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it listens: a path, or an address with its port."""
    address = listener.getsockname()
    if isinstance(address, bytes):
        return os.fsdecode(address)
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"
