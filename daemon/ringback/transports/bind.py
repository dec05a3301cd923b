"""Binding listeners: a Unix stream socket at a path, or TCP; the start rules that they share.

Role: path or address in, listening socket out, and the path's removal afterwards.
Rules: never delete what isn't a dead socket; bind, chmod, chgrp, listen in that order, so that nobody can connect
before the rights stand; unlink only the very file that was bound here.
Must not know: what is spoken on the socket.
"""

import errno
import grp
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import NamedTuple

#: What ``sockaddr_un.sun_path`` holds without its closing NUL (unix(7)).
MAX_PATH_BYTES = 107

#: Connections the kernel keeps for us until they are accepted.
BACKLOG = 1024

_ANSWERED_ERRNOS = frozenset({errno.EAGAIN, errno.EPROTOTYPE, errno.EACCES, errno.EPERM})


class AddressInUse(Exception):  # noqa: N818 - named for what it says
    """Another process answers there."""


class Identity(NamedTuple):
    """Which file a path names: a later socket at the same path has another."""

    device: int
    inode: int


def bind_unix(path: str, mode: int, group: str | None = None) -> socket.socket:
    """Return a non-blocking socket that listens at ``path`` with these rights; ``group`` is a name or a number.

    A socket file that nobody answers on is replaced.

    Raises:
        ValueError: the path is empty or longer than ``MAX_PATH_BYTES``, something else than a socket lies there, or
            the group doesn't exist.
        AddressInUse: somebody answers there.
        OSError: the kernel refuses (no such directory, no right to it).
    """
    gid = None if group is None else _gid(group)
    _check_path(path)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(path)
        try:
            Path(path).chmod(mode)
            if gid is not None:
                os.chown(path, -1, gid)
            listener.listen(BACKLOG)
        except OSError:
            Path(path).unlink()
            raise
    except OSError:
        listener.close()
        raise
    return listener


def bind_tcp(address: str, port: int) -> socket.socket:
    """Return a non-blocking socket that listens on an IP address; port 0 takes a free one.

    Raises:
        AddressInUse: somebody listens there.
        OSError: the kernel refuses (no such address here, no right to the port).
    """
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(f"another process listens on {shown(address, port)}") from error
        raise OSError(error.errno, error.strerror, shown(address, port)) from error
    return listener


def shown(address: str, port: int) -> str:
    """An address and a port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def identity(path: str) -> Identity | None:
    """Which file ``path`` names now; None when there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return Identity(found.st_dev, found.st_ino)


def unlink_if_ours(path: str, ours: Identity | None) -> bool:
    """Remove ``path`` if it is still the file it was when ``ours`` was taken; say whether it was removed."""
    if ours is None or identity(path) != ours:
        return False
    Path(path).unlink(missing_ok=True)
    return True


def _check_path(path: str) -> None:
    size = len(os.fsencode(path))
    if not path or "\0" in path:
        raise ValueError("a socket path must not be empty or hold a NUL")
    if size > MAX_PATH_BYTES:
        raise ValueError(f"socket path {path!r} is {size} bytes long; the kernel allows {MAX_PATH_BYTES}")


def _gid(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError(f"group {group!r} does not exist") from None


def _clear(path: str) -> None:
    """Make room at ``path``: nothing there, or a socket whose owner is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ValueError(f"{path!r} exists and is not a socket; it is not ours to delete: move it away")
    if _answered(path):
        raise AddressInUse(f"another process listens on {path!r}")
    unlink_if_ours(path, Identity(found.st_dev, found.st_ino))


def _answered(path: str) -> bool:
    # Non-blocking: a full backlog (EAGAIN) is an answer too, and must not hang the start.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        result = probe.connect_ex(path)
    if result in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    if result == 0 or result in _ANSWERED_ERRNOS:
        return True
    raise OSError(result, os.strerror(result), path)
