"""``ringback db restore`` with a copy of the keyring that is older than the backup."""

import json
from pathlib import Path

from click.testing import CliRunner
from tests.store.kit import MASTERS, NOW_MS, accept, opened

from ringback.cli import main
from ringback.store.backup import copy_alone
from ringback.store.keyring import KEYRING_NAME


async def test_it_says_whose_keys_are_missing_and_what_to_do(tmp_path: Path) -> None:
    """Refused with the way out; taken that way, the commands that follow from it are named, and they are enough."""
    config = tmp_path / "ringback.toml"
    config.write_text(f'daemon.state_dir = "{tmp_path}/new"\napi.socket = "{tmp_path}/c.sock"\n')
    async with opened(tmp_path / "state", masters=MASTERS) as store:
        await store.run(accept("e1", tenant="acme"))
        (tmp_path / "keys").write_bytes((tmp_path / "state" / KEYRING_NAME).read_bytes())
        await store.run(accept("e1", tenant="beta"))
    copy_alone(tmp_path / "state", tmp_path / "backup", NOW_MS)

    def run(*args: str, code: int = 0) -> str:
        done = CliRunner(env={"RINGBACK_SOCKET": None}).invoke(main, [*args, "--config", str(config)])
        assert done.exit_code == code, done.output
        return done.output

    restore = ("db", "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "keys"))
    assert "lacks keys of tenant beta" in (told := run(*restore, code=1))
    assert "--incomplete-keys" in told
    assert run(*restore, "--incomplete-keys").endswith("or give up:\n  ringback tenant erase beta\n")
    assert json.loads(run("tenant", "erase", "beta", "--json"))["events"] == 1
    async with opened(tmp_path / "new", masters=MASTERS) as store:
        assert [one.event.data for one in await store.queue.load([1, 2])] == [b'{"a":1}', b""]
