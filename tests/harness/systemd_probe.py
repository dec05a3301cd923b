"""Tries, inside the unit's sandbox, what it must deny and what it must allow; prints one JSON object. Standard library.

Run as the ExecStart of a unit that has the service's own sandbox, account and folders.
"""

import ctypes
import json
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path


def outcome(act: Callable[[], object]) -> str:
    """``ok``, or the name of the refusal."""
    try:
        act()
    except OSError as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return "ok"


def connect(address: str) -> None:
    """A TCP connect, or at least its beginning."""
    with socket.socket() as sock:
        sock.settimeout(0.5)
        sock.connect((address, 80))


def unshare() -> None:
    """A user namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "")


def setuid_file() -> None:
    """A file that would run as its owner."""
    path = Path(os.environ["STATE_DIRECTORY"], "probe")
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def write(folder: str) -> None:
    """A file and its removal."""
    path = Path(folder, "probe")
    path.write_text("x")
    path.unlink()


def main() -> None:
    """The process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {
                "status": {key: status[key].strip() for key in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")},
                "uid": os.getuid(),
                "write_etc": outcome(lambda: write("/etc")),
                "write_usr": outcome(lambda: write("/usr")),
                "list_root": outcome(lambda: list(Path("/root").iterdir())),
                "netlink": outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
                "packet": outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
                "write_execute": outcome(
                    lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
                ),
                "unshare": outcome(unshare),
                "setuid_file": outcome(setuid_file),
                "kernel_log": outcome(lambda: Path("/dev/kmsg").read_bytes()),
                "metadata": outcome(lambda: connect("169.254.169.254")),
                "other_address": outcome(lambda: connect("203.0.113.7")),
                "write_state": outcome(lambda: write(os.environ["STATE_DIRECTORY"])),
                "write_runtime": outcome(lambda: write(os.environ["RUNTIME_DIRECTORY"])),
                "write_spool": outcome(lambda: write("/var/spool/ringback/tmp")),
                "credential": Path(os.environ["CREDENTIALS_DIRECTORY"], "crm-secret").read_text(),
                "write_credential": outcome(lambda: write(os.environ["CREDENTIALS_DIRECTORY"])),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
