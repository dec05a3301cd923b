"""A power cut loses nothing that was acknowledged; the same test without fsync must lose something."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.harness.receiver_client import ROOT

pytestmark = [pytest.mark.whole, pytest.mark.power]

FILE_SYSTEMS = ("ext4", "xfs")
CUTS, CUTS_LONG = 2, 20
TOOLS = ("unshare", "mount", "umount", "mkfs.ext4", "mkfs.xfs", "xfs_io", "eatmydata")
TIME_LIMIT_S = 600
#: A start after a cut: the file system's journal is replayed by the mount, SQLite's by this.
MAX_START_S = 30


def harness(folder: Path, fs: str, *options: str, module: str = "power_cut") -> "subprocess.CompletedProcess[str]":
    """Run the cutting process in a mount namespace of its own."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    command = ["unshare", "-m", sys.executable, "-m", f"tests.harness.{module}", f"--fs={fs}", f"--dir={folder}"]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
    )


@pytest.fixture(scope="module", autouse=True)
def _can_cut(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip, saying why, where images can't be mounted; in CI as root only a refused mount is a reason."""
    if os.geteuid() != 0:
        pytest.skip("cutting the power needs root")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        reason = f"cutting the power needs {', '.join(missing)} (Debian: xfsprogs, e2fsprogs, eatmydata)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    for fs in FILE_SYSTEMS:
        probe = harness(tmp_path_factory.mktemp("probe"), fs, "--probe")
        if probe.returncode != 0:
            pytest.skip(f"a {fs} image can't be mounted and cut here: {probe.stderr.strip().splitlines()[-1]}")


def cut(folder: Path, fs: str, *options: str, module: str = "power_cut") -> list[dict[str, Any]]:
    """The cutting process's results, which must have come to an end."""
    done = harness(folder, fs, *options, module=module)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path, fs: str, long: bool) -> None:
    """After each cut every acked id is there with its bytes and deliveries; in the end each was delivered."""
    seed = random.SystemRandom().randrange(2**32)
    number = CUTS_LONG if long else CUTS
    *results, end = cut(tmp_path, fs, f"--cuts={number}", f"--seed={seed}")
    print(f"seed {seed}: {results} {end}")
    assert len(results) == number
    for result in results:
        assert result["acked"] > 50, "a cut without acks proves nothing"
        assert result["sent_after_cut_and_acked"] == 0, "acknowledged although nothing could be stored any more"
        assert result["missing"] == []
        assert result["torn"] == []
        assert set(result["refused"]) <= {"unknown_outcome", "storage_full", "shutting_down"}
        assert result["exit"] != 0
        assert result["start_s"] <= MAX_START_S
    assert end["undelivered"] == []


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_without_fsync_the_same_cut_loses_acknowledged_events(tmp_path: Path, fs: str) -> None:
    """The negative control: if this lost nothing, the test above would have no teeth."""
    (result,) = cut(tmp_path, fs, "--no-fsync")
    assert result["acked"] > 50
    assert result["missing"], "the cut destroyed nothing: it proves nothing"


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_a_power_cut_loses_and_doubles_nothing_of_the_spool(tmp_path: Path, fs: str, long: bool) -> None:
    """What was synced into new/ is there after each cut, once, whether or not the daemon had taken its file."""
    seed = random.SystemRandom().randrange(2**32)
    number = CUTS_LONG if long else CUTS
    results = cut(tmp_path, fs, f"--cuts={number}", f"--seed={seed}", module="power_cut_spool")
    print(f"seed {seed}: {results}")
    assert len(results) == number
    for result in results:
        assert result["left"] > 50, "a cut without files proves nothing"
        assert result["missing"] == []
        assert result["doubled"] == []


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_without_fsync_the_same_cut_loses_what_was_taken_from_the_spool(tmp_path: Path, fs: str) -> None:
    """The negative control: files are gone from new/ and their events from the table."""
    (result,) = cut(tmp_path, fs, "--no-fsync", module="power_cut_spool")
    assert result["missing"], "the cut destroyed nothing: it proves nothing"
