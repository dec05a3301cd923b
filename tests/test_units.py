"""The unit files, looked at by systemd's own tools: correct, and as closed as they are meant to be."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNITS = ("ringback.service", "ringback.socket", "ringback-control.socket")
#: In tenths; the score is 1.2, and 1.3 would be an option lost.
MAX_EXPOSURE = 13


@pytest.fixture
def analyze():
    """systemd-analyze, which CI has."""
    if shutil.which("systemd-analyze") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs systemd-analyze (Debian: systemd)")

    def run(*arguments):
        return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture
def units(tmp_path):
    """The units with a command that exists in place of the one that would be installed."""
    for name in UNITS:
        text = (ROOT / "systemd" / name).read_text().replace("/usr/local/bin/ringback", "/bin/true")
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in UNITS]


def test_systemd_has_nothing_to_say_about_the_units(analyze, units):
    """Every key is known, every value parses, every unit that is named is there."""
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_wrong_key_would_be_told(analyze, units, tmp_path):
    """The check above has teeth."""
    with (tmp_path / "ringback.service").open("a") as unit:
        unit.write("\n[Service]\nProtectEverything=yes\n")
    done = analyze("verify", "--man=no", *units)
    assert "ProtectEverything" in done.stderr


def test_the_sandbox_stays_closed(analyze, units):
    """The exposure score stays at what was reached."""
    done = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", units[0])
    assert done.returncode == 0, done.stdout[-300:]
    done = analyze("security", "--offline=true", "--threshold=5", units[0])
    assert done.returncode != 0, "the threshold is in force"


def test_peers_stay_visible():
    """In a user namespace every foreign peer's uid would read 65534."""
    text = (ROOT / "systemd" / "ringback.service").read_text()
    assert not re.search(r"(?m)^(DynamicUser|PrivateUsers)=", text)


def test_the_sockets_have_names_of_their_own():
    """Rights and names go by unit: producers get one socket, the operator the other."""
    for name, descriptor, mode in (
        ("ringback.socket", "events", "0660"),
        ("ringback-control.socket", "control", "0600"),
    ):
        text = (ROOT / "systemd" / name).read_text()
        assert f"FileDescriptorName={descriptor}\n" in text
        assert f"SocketMode={mode}\n" in text


def need_make():
    """CI has it."""
    if shutil.which("make") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs make")


def test_an_installation_that_fails_leaves_the_one_in_use(tmp_path):
    """Without a network, or half-way for any other reason: the daemon that runs keeps its files."""
    need_make()
    in_use = tmp_path / "usr/local/lib/ringback/in-use"
    in_use.parent.mkdir(parents=True)
    in_use.touch()
    command = ["make", "install", "PYTHON=false", f"DESTDIR={tmp_path}", "PREFIX=/usr/local"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0, done.stdout
    assert in_use.exists()


#: Makes a virtual environment that is nothing but itself, and does nothing else.
PYTHON = """#!/bin/sh
test "$2" = venv && mkdir -p "$3/bin" "$3/lib" && cp "$0" "$3/bin/python"
exit 0
"""
#: Broken off in the middle of removing what is there.
RM = """#!/bin/sh
test -e "$2/in-use" || exec /bin/rm "$@"
/bin/rm "$2/in-use"
exit 1
"""


def test_an_installation_that_is_broken_off_while_it_removes_the_old_one_is_whole(tmp_path):
    """The new one lies in its place by then: nobody finds half a daemon."""
    need_make()
    place = tmp_path / "usr/local/lib/ringback"
    place.mkdir(parents=True)
    (place / "in-use").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("rm", RM)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    command = ["make", "install", f"PYTHON={tools}/python", f"DESTDIR={tmp_path}", "PREFIX=/usr/local"]
    path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0, done.stdout
    assert (place / "bin/python").exists(), done.stderr
    again = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 0, again.stderr
    assert sorted(one.name for one in place.parent.iterdir() if one.name.startswith("ringback")) == ["ringback"]
