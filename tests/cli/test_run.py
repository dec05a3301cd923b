"""``ringback run``, as far as it goes before the loop begins."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringback import runtime

#: Tells, where the daemon's loop would begin, whether garbage is collected, and what is exempt from it.
LOOKING = """
import gc, sys, uvloop
def instead(daemon):
    daemon.close()
    print(gc.isenabled(), gc.get_freeze_count() > 10_000)
    return 0
uvloop.run = instead
from ringback.cli import main
main(["run", "--config", sys.argv[1]])
"""


def test_garbage_is_collected_in_the_daemon_but_not_what_it_started_with(tmp_path: Path) -> None:
    """Left off while it imports and reads its settings; on, with all of that frozen, once it runs."""
    config = tmp_path / "ringback.toml"
    config.write_text(f'daemon.state_dir = "{tmp_path}/state"\n')
    done = subprocess.run([sys.executable, "-c", LOOKING, str(config)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr


def test_last_words_are_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log and standard error may share a file: a line of the log must not come between the words and their end."""
    pieces: list[str] = []
    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=pieces.append))
    assert runtime._last_words("no room", 1) == 1
    assert pieces == ["ringback: no room\n"]
