"""Tokens in the table, and changes made while no daemon runs."""

import os
from pathlib import Path

import pytest
from tests.store.kit import Store

from ringback.core.tokens import Token
from ringback.store.alone import run_alone
from ringback.store.database import StateLocked, StateUnusable, open_state
from ringback.store.tokens import delete, every, insert, load

NOW_MS = 1_800_000_000_000


def token(n: int, tenant: str | None = "acme") -> Token:
    """A token as it is kept."""
    return Token(f"id{n}", tenant, bytes([n]) * 32, NOW_MS + n)


async def test_tokens_are_kept_listed_and_removed(store: Store) -> None:
    """What was stored comes back, the operator's too; a removal says whether there was anything."""
    for one in (token(1), token(2, None)):
        assert await store.run(insert(one, 10)) is True
    assert await load(store.reader) == [token(1), token(2, None)]
    assert await store.run(delete("id1")) is True
    assert await store.run(delete("id1")) is False
    assert await load(store.reader) == [token(2, None)]


async def test_the_limit_holds(store: Store) -> None:
    """One token too many isn't stored."""
    assert [await store.run(insert(token(n), 2)) for n in (1, 2, 3)] == [True, True, False]


def test_the_directory_can_be_changed_while_no_daemon_runs(tmp_path: Path) -> None:
    """The first use makes the database; the next finds what the first wrote."""
    assert run_alone(tmp_path / "state", insert(token(1), 10), NOW_MS) is True
    assert run_alone(tmp_path / "state", every(), NOW_MS) == [token(1)]


def test_a_running_daemon_is_never_worked_around(tmp_path: Path) -> None:
    """Whoever holds the lock is the only one to write."""
    database = open_state(tmp_path / "state", NOW_MS)
    try:
        with pytest.raises(StateLocked):
            run_alone(tmp_path / "state", every(), NOW_MS)
    finally:
        database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own nothing of somebody else's")
def test_root_leaves_another_accounts_directory_alone(tmp_path: Path) -> None:
    """Files made by root would keep the daemon out of its own directory."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(StateUnusable, match="12345"):
        run_alone(folder, every(), NOW_MS)
    assert list(folder.iterdir()) == []
