"""Where ``ringback db backup`` and ``backup-keys`` write: never over what they would destroy."""

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.store.kit import MASTERS, accept, opened

from ringback.cli import main
from ringback.store.database import DATABASE_NAME
from ringback.store.keyring import KEYRING_NAME


async def test_no_backup_takes_the_place_of_anything_else(tmp_path: Path) -> None:
    """Not of the database or the keyring in use, by whatever name; keys not of a backup; of an older copy they do."""
    state = tmp_path / "state"
    async with opened(state, masters=MASTERS) as store:
        await store.run(accept("e1"))
    config = tmp_path / "ringback.toml"
    config.write_text(f'daemon.state_dir = "{state}"\napi.socket = "{tmp_path}/c.sock"\n')

    def run(*args: str, code: int = 0) -> str:
        done = CliRunner(env={"RINGBACK_SOCKET": None}).invoke(main, ["db", *args, "--config", str(config)])
        assert done.exit_code == code, done.output
        return done.output

    link = tmp_path / "link"
    for name in (DATABASE_NAME, KEYRING_NAME):
        before = (state / name).stat().st_ino
        link.unlink(missing_ok=True)
        link.symlink_to(state / name)
        for file in (state / name, link):
            assert "state directory" in run("backup", str(file), "--force", code=5)
            assert "state directory" in run("backup-keys", str(file), code=5)
        assert (state / name).stat().st_ino == before
    for command in ("backup", "backup-keys"):
        assert f"{tmp_path / 'no'} is no folder" in run(command, str(tmp_path / "no" / "copy"), code=4)
    run("backup", str(tmp_path / "backup"))
    kept = (tmp_path / "backup").read_bytes()
    assert "no copy of a keyring" in run("backup-keys", str(tmp_path / "backup"), code=5)
    assert "no copy of a keyring" in run("backup-keys", str(config), code=5)
    assert (tmp_path / "backup").read_bytes() == kept
    (tmp_path / "keys").touch()  # as mktemp makes it
    for _ in range(2):
        assert "the keyring, " in run("backup-keys", str(tmp_path / "keys"))


async def test_a_full_disk_is_said_with_the_file_it_befell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails names no file by itself; nothing is left behind."""
    async with opened(tmp_path / "state", masters=MASTERS) as store:
        await store.run(accept("e1"))
    config, file = tmp_path / "ringback.toml", tmp_path / "keys"
    config.write_text(f'daemon.state_dir = "{tmp_path}/state"\napi.socket = "{tmp_path}/c.sock"\n')

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    told = CliRunner(env={"RINGBACK_SOCKET": None}).invoke(
        main, ["db", "backup-keys", str(file), "--config", str(config)]
    )
    assert (told.exit_code, told.stderr) == (1, f"ringback: {file}: No space left on device\n")
    assert not list(tmp_path.glob("keys*"))  # noqa: ASYNC240 - a folder of this test alone
