"""``ringback emit`` at a daemon that goes away in the middle."""

import json
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from ringback.cli import main


def hangup(path: str, answers: bytes, after: int, got: list[bytes] | None = None) -> threading.Thread:
    """A daemon that reads at most ``after`` bytes (into ``got``), answers, and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            if after:
                heard = sock.recv(after)
                if got is not None:
                    got.append(heard)
            sock.sendall(answers)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answers", "after", "words"),
    [
        (b"", 10, "no answer"),
        (b'{"ok":true,"id":"1","deliveries":0}\n', 10, "no answer"),
        (b'{"ok":false,"error":{"code":"overloaded","message":"too many"}}\n', 0, "overloaded"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 10, "broke off"),
    ],
)
def test_a_daemon_that_hangs_up_on_a_file_is_a_failure(tmp_path: Path, answers: bytes, after: int, words: str) -> None:
    """Lines without an answer are counted and told; nobody waits for ever."""
    path = str(tmp_path / "events.sock")
    thread = hangup(path, answers, after)
    done = CliRunner().invoke(
        main, ["emit", "--ndjson", "-", "--socket", path], input=b'{"type":"a","data":{}}\n' * 5000
    )
    thread.join()
    assert done.exit_code == 1
    assert words in done.stderr
    assert "unanswered" in done.stdout or after == 0  # then nothing may have been sent at all
    assert "rejected" not in done.stdout


def test_a_daemon_that_hangs_up_on_one_event_is_a_failure(tmp_path: Path) -> None:
    """Without an answer it may or may not be stored: the sentence says with which id it is safe to send it again."""
    path = str(tmp_path / "events.sock")
    got = []
    for unsure in (b"", b'{"ok":false,"error":{"code":"unknown_outcome","message":"it may be stored"}}\n'):
        thread = hangup(path, unsure, 1000, got)
        done = CliRunner().invoke(main, ["emit", "a", "--socket", path])
        thread.join()
        Path(path).unlink()
        assert done.exit_code == 1
        assert done.stderr.endswith(f"send it again with --id {json.loads(got.pop())['id']}\n")
