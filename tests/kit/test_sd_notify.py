"""The service manager's protocols, with a real datagram socket and real descriptors."""

import json
import os
import socket
import subprocess
import sys

import pytest

from ringback.kit.sd_notify import find_listener, listen_fds, notify
from ringback.transports.bind import bind_unix

#: Puts the descriptors given as arguments at 3, 4, … as a service manager does, then tells what listen_fds makes of it.
CHILD = """
import json, os, sys
from ringback.kit.sd_notify import listen_fds
given = [int(fd) for fd in sys.argv[3:]]
for at, fd in enumerate(given):
    os.dup2(fd, 100 + at)
for at in range(len(given)):
    os.dup2(100 + at, 3 + at)
env = dict(json.loads(sys.argv[1]), LISTEN_PID=str(os.getpid() + int(sys.argv[2])), LISTEN_FDS=str(len(given)))
try:
    found = listen_fds(env)
except ValueError as error:
    print(json.dumps(str(error)))
else:
    told = {name: [s.fileno(), s.getsockname(), os.get_inheritable(s.fileno())] for name, s in found.items()}
    print(json.dumps(told))
"""


def hand_down(fds, env=None, pid_offset=0):
    """What a process makes of these descriptors."""
    arguments = [json.dumps(env or {}), str(pid_offset), *map(str, fds)]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], pass_fds=fds, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def two(tmp_path):
    """Two listening sockets and their paths."""
    paths = [str(tmp_path / "events"), str(tmp_path / "control")]
    listeners = [bind_unix(path, 0o600) for path in paths]
    yield paths, [listener.fileno() for listener in listeners]
    for listener in listeners:
        listener.close()


def test_sockets_are_taken_by_name(two):
    """LISTEN_FDNAMES names the descriptors in order; they are closed on exec."""
    (events, control), fds = two
    found = hand_down(fds, {"LISTEN_FDNAMES": "events:control"})
    assert found == {"events": [3, events, False], "control": [4, control, False]}


@pytest.mark.parametrize("env", [{}, {"LISTEN_FDNAMES": "unknown:unknown"}, {"LISTEN_FDNAMES": ""}])
def test_sockets_without_names_stand_under_their_address(two, env):
    """Without names of their own, sockets are told apart by what they are bound to."""
    (events, control), fds = two
    assert hand_down(fds, env) == {events: [3, events, False], control: [4, control, False]}


def test_a_name_given_twice_keeps_both(two):
    """Of two sockets with one name the later stands under its address."""
    (events, control), fds = two
    found = hand_down(fds, {"LISTEN_FDNAMES": "web:web"})
    assert found == {"web": [3, events, False], control: [4, control, False]}


def test_descriptors_for_another_process_are_left_alone(two):
    """With another LISTEN_PID the variables are an inheritance by accident."""
    assert hand_down(two[1], pid_offset=1) == {}


def test_what_is_no_listening_socket_is_named(tmp_path):
    """A file or a socket that doesn't listen is refused with its descriptor's number."""
    with (tmp_path / "file").open("w") as file:
        assert hand_down([file.fileno()]).startswith("descriptor 3 from LISTEN_FDS is not a socket")
    with socket.socket(socket.AF_UNIX) as quiet:
        assert hand_down([quiet.fileno()]) == "descriptor 3 from LISTEN_FDS does not listen"


def test_a_tcp_socket_stands_under_host_and_port():
    """An address that isn't a path is written host:port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert list(hand_down([listener.fileno()])) == [f"127.0.0.1:{port}"]


@pytest.mark.parametrize("count", ["", "x", "-1", "65", "1.5"])
def test_a_malformed_count_is_refused(count):
    """Nonsense in LISTEN_FDS is said, not guessed at."""
    with pytest.raises(ValueError, match="LISTEN_FDS="):
        listen_fds({"LISTEN_PID": "7", "LISTEN_FDS": count}, pid=7)


def test_no_variables_no_sockets():
    """Started by hand, nothing is handed down."""
    assert listen_fds({}) == {}
    assert listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == {}


def test_a_listener_is_found_by_name_else_by_path(two):
    """The name decides; without it the path does."""
    (events, control), fds = two
    sockets = [socket.socket(fileno=os.dup(fd)) for fd in fds]
    by_name = {"events": sockets[0], "control": sockets[1]}
    assert find_listener(by_name, "events", "/elsewhere") is sockets[0]
    assert find_listener({"a": sockets[0], "b": sockets[1]}, "control", control) is sockets[1]
    assert find_listener(by_name, "other", "/nowhere") is None
    for each in sockets:
        each.close()
    assert events != control


@pytest.mark.parametrize("abstract", [False, True])
def test_a_notification_arrives(tmp_path, abstract):
    """The manager gets the text, at a path or in the abstract namespace."""
    name = f"@ringback-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        assert notify("READY=1\nSTATUS=große Lust", {"NOTIFY_SOCKET": name})
        assert manager.recv(100).decode() == "READY=1\nSTATUS=große Lust"


@pytest.mark.parametrize(
    "address", [None, "", "relative", "vsock:2:1", "/no/such/socket", "/" + "x" * 300, "@a\0b" * 90]
)
def test_a_notification_never_raises(address):
    """No manager, a dead one, an address nobody can use: False, and the daemon goes on."""
    assert notify("READY=1", {} if address is None else {"NOTIFY_SOCKET": address}) is False


def test_a_manager_that_doesnt_read_never_blocks_us(tmp_path):
    """A full queue at the manager costs the notification, not the loop."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        results = [notify("WATCHDOG=1", {"NOTIFY_SOCKET": path}) for _ in range(5_000)]
        assert results[0] is True
        assert results[-1] is False
