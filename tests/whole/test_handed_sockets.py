"""Sockets handed down by a service manager, and one too many of them: the daemon says what it listens on."""

import sys
import tempfile

import pytest
from tests.harness.daemon import Daemon
from tests.harness.producer import Producer

pytestmark = pytest.mark.whole

#: Binds each NAME=PATH up to "--", then becomes the command behind it with them as descriptors 3, 4, …
HAND_DOWN = """
import os, socket, sys
cut = sys.argv.index("--")
given = [one.split("=", 1) for one in sys.argv[1:cut]]
sockets = []
for _, path in given:
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind(path)
    sockets[-1].listen()
high = [os.dup2(one.fileno(), 50 + number) for number, one in enumerate(sockets)]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number, inheritable=True)
names = ":".join(name for name, _ in given)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=names)
os.execv(sys.argv[cut + 1], sys.argv[cut + 1:])
"""


def test_the_log_tells_where_it_listens_and_what_it_does_not() -> None:
    """A socket of the right name is taken wherever it lies and named as it is; one that nobody serves is told."""
    with tempfile.TemporaryDirectory(prefix="rb-", dir="/tmp") as folder:
        events, spare = f"{folder}/elsewhere.sock", f"{folder}/spare.sock"
        given = (f"events={events}", f"events={spare}")
        with Daemon(wrapper=[sys.executable, "-c", HAND_DOWN, *given, "--"]) as daemon:
            daemon.configure({"ingest.socket": {"path": "/proc/no-such-folder/e.sock"}})
            daemon.start()
            with Producer(events) as producer:
                assert producer.ask({"type": "a.b", "data": {}})["ok"]
            (ready,) = daemon.wait_log("daemon.ready")
            assert (ready["events"], ready["control"]) == (events, str(daemon.control_path))
            assert [line["address"] for line in daemon.log_lines("socket.unused")] == [spare]
