"""A port for a program that can't be given port 0 because it doesn't tell which one it got; and where ports are.

Role: below the range from which the kernel hands out ports, so that no server and no client of another test gets it in
the moment between this look and the program's start.
"""

import random
import socket

import pytest

#: Linux hands out ports from 32768 on, unless told otherwise.
FIRST, LAST = 20_000, 30_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    chance = random.SystemRandom()  # the same seed for every process of a run would give all of them the same port
    while True:
        port = chance.randrange(FIRST, LAST)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


#: For tests that listen at ::1, and parameters that name it.
NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="IPv6 is switched off here")
