"""Binding a Unix socket: rights before listeners, nobody's file deleted."""

import errno
import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from ringback.transports.bind import MAX_PATH_BYTES, AddressInUse, bind_unix, identity, unlink_if_ours


@pytest.fixture
def path(tmp_path):
    """A place for a socket."""
    return str(tmp_path / "s")


def test_the_socket_listens_with_its_mode(path):
    """A bound socket takes connections and has the rights asked for, whatever the umask."""
    old = os.umask(0o777)
    try:
        listener = bind_unix(path, 0o640)
    finally:
        os.umask(old)
    with listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640
        assert not listener.getblocking()


def test_a_group_is_given(path):
    """The socket's group is the one asked for: another than our own wherever this account may give one."""
    others = [gid for gid in os.getgroups() if gid != os.getegid()]
    gid = 4242 if os.geteuid() == 0 else next(iter(others), os.getegid())
    with bind_unix(path, 0o660, str(gid)):
        assert Path(path).stat().st_gid == gid


def test_a_group_may_be_named(path):
    """Names are looked up in the group database."""
    own = grp.getgrgid(os.getegid())
    with bind_unix(path, 0o660, own.gr_name):
        assert Path(path).stat().st_gid == own.gr_gid


def test_an_unknown_group_is_named_and_leaves_nothing(path):
    """A group that doesn't exist is refused before anything is made."""
    with pytest.raises(ValueError, match="'no-such-group'"):
        bind_unix(path, 0o660, "no-such-group")
    assert not Path(path).exists()


def test_a_stale_socket_is_replaced(path):
    """A socket file whose owner died is no obstacle."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.listen()
    dead.close()
    with bind_unix(path, 0o600), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_live_socket_is_left_alone(path):
    """A second listener is refused, and the first goes on."""
    with bind_unix(path, 0o600) as first:
        with pytest.raises(AddressInUse, match="another process listens"):
            bind_unix(path, 0o600)
        first.accept()[0].close()  # the probe
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_full_backlog_counts_as_an_answer(path):
    """A listener too busy to accept is alive: the start neither hangs nor takes its place."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(10)]
        assert errno.EAGAIN in [client.connect_ex(path) for client in clients]
        with pytest.raises(AddressInUse):
            bind_unix(path, 0o600)
        for client in clients:
            client.close()


def test_a_datagram_socket_is_left_alone(path):
    """A live socket of another type is somebody's too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(AddressInUse):
            bind_unix(path, 0o600)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_never_deleted(path, kind, tmp_path):
    """A file, a directory, a link at the path is refused and stays."""
    if kind == "file":
        (tmp_path / "s").write_text("mine")
    elif kind == "directory":
        (tmp_path / "s").mkdir()
    else:
        Path(path).symlink_to("elsewhere")
    with pytest.raises(ValueError, match="not a socket"):
        bind_unix(path, 0o600)
    assert os.path.lexists(path)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_path_over_the_kernels_limit_is_refused_in_bytes(tmp_path, letter):
    """107 bytes pass, 108 are refused with a text that says so; bytes count, not characters."""
    room = MAX_PATH_BYTES - len(os.fsencode(str(tmp_path))) - 1
    if room < 10:
        pytest.fail(f"the temporary directory's name is too long for this test: {tmp_path}")
    size = len(letter.encode())
    exact = str(tmp_path / ("_" * (room % size) + letter * (room // size)))
    with bind_unix(exact, 0o600):
        assert Path(exact).exists()
    with pytest.raises(ValueError, match="108 bytes long; the kernel allows 107"):
        bind_unix(exact + "y", 0o600)


@pytest.mark.parametrize("bad", ["", "\0abstract", "a\0b"])
def test_no_path_is_no_socket(bad):
    """An empty path or one with a NUL would make an unnamed or abstract socket: refused."""
    with pytest.raises(ValueError, match="empty or hold a NUL"):
        bind_unix(bad, 0o600)


def test_a_missing_directory_is_the_kernels_error(tmp_path):
    """The caller learns which path could not be made."""
    with pytest.raises(FileNotFoundError):
        bind_unix(str(tmp_path / "no" / "s"), 0o600)


def test_only_our_own_file_is_unlinked(path):
    """The socket of a successor at the same path survives our end."""
    with bind_unix(path, 0o600):
        ours = identity(path)
    with bind_unix(path + "2", 0o600):
        Path(path + "2").replace(path)  # both files exist at once: the inode can't be the same
        assert not unlink_if_ours(path, ours)
        assert Path(path).exists()
        assert unlink_if_ours(path, identity(path))
    assert not unlink_if_ours(path, ours)
    assert identity(path) is None
