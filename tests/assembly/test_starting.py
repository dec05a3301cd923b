"""What a start can't have is told with the key that names it, the value, why, and what to do."""

import socket

import pytest

from ringback.assembly.starting import InUse, Unusable, named
from ringback.transports.bind import bind_tcp, bind_unix
from ringback.transports.spool import SpoolFolder


def told(work, kind=Unusable, key="ingest.spool.path", value="/the/value"):
    """The one sentence of a start that fails at it."""
    with pytest.raises(kind) as caught, named(key, value):
        work()
    return str(caught.value)


@pytest.mark.parametrize("below", ["", "/spool"])
def test_a_file_where_a_folder_is_needed(tmp_path, below):
    """The folder itself, or one on the way to it."""
    (tmp_path / "file").touch()
    path = f"{tmp_path}/file{below}"
    words = told(SpoolFolder(path).open, value=path)
    assert words.startswith(f"ingest.spool.path: {path} can't be used: ")
    assert words.endswith("(a file stands where a folder is needed: move it away, or name another)")


def test_a_file_in_the_spool_s_own_folder_is_named(tmp_path):
    """What stands in the way is told by its whole path, not by the name it has inside."""
    (tmp_path / "new").touch()
    assert f": {tmp_path} ({tmp_path}/new) can't be used: " in told(
        SpoolFolder(str(tmp_path)).open, value=str(tmp_path)
    )


def test_a_spool_that_another_daemon_holds(tmp_path):
    """It is another kind of failure: whoever started it may wait and try again."""
    held = SpoolFolder(str(tmp_path))
    held.open()
    assert told(SpoolFolder(str(tmp_path)).open, InUse).startswith("ingest.spool.path: another daemon takes from the")
    held.close()


def test_sockets_that_can_t_be_bound(tmp_path):
    """Something else at the path, a missing folder, a taken port, an address that isn't this machine's."""
    (tmp_path / "file").touch()
    path = f"{tmp_path}/file"
    assert told(lambda: bind_unix(path, 0o600), key="api.socket").startswith(f"api.socket: '{path}' exists and is not")
    missing = f"{tmp_path}/none/c.sock"
    words = told(lambda: bind_unix(missing, 0o600), key="api.socket", value=missing)
    assert words.startswith(f"api.socket: {missing} can't be used: No such file or directory (")
    with bind_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        words = told(lambda: bind_tcp("127.0.0.1", port), InUse, "api.listen")
        assert words == f"api.listen: another process listens on 127.0.0.1:{port}; stop it, or name another one here"
    at = "192.0.2.7:8650"
    words = told(lambda: bind_tcp("192.0.2.7", 8650), key="api.listen", value=at)
    assert words.startswith(f"api.listen: {at} can't be used: ")
    assert words.endswith("(no interface of this machine has that address)")


def test_a_right_that_lacks_names_the_account(tmp_path, monkeypatch):
    """Whoever reads it must know who may not: under a service manager it is another one than his."""

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    words = told(lambda: bind_unix(f"{tmp_path}/c.sock", 0o600), key="api.socket", value=f"{tmp_path}/c.sock")
    assert words.startswith(
        f"api.socket: {tmp_path}/c.sock can't be used: Permission denied (the daemon's account, uid "
    )
