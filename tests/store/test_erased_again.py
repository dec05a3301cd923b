"""What was erased stays erased when an older backup is restored."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.store.kit import MASTERS, NOW_MS, Store, accept, check_invariants, opened, rows

from ringback.core.model import Endpoint
from ringback.service.sealing import make_good
from ringback.store import endpoints, erase, erasure_reads, restore
from ringback.store.alone import run_alone
from ringback.store.backup import copy_alone
from ringback.store.database import DATABASE_NAME
from ringback.store.errors import KeyringLost, StateCorrupt, StoreError
from ringback.store.keyring import KEYRING_NAME, Keyring, Masters
from ringback.store.retention import prune_events
from ringback.store.writer import Writer

WORD = b"planted-word"
LATER_MS = NOW_MS + 60_000


def lose(state: Path) -> None:
    """The database is gone; the keyring is not."""
    for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", "state.json"):
        (state / name).unlink(missing_ok=True)


class Broken(Exception):  # noqa: N818 - a state of affairs, named as such
    """As if the process ended here."""


class Breaking:
    """A writer that ends after so many writes."""

    def __init__(self, writer: Writer, writes: int) -> None:
        self._writer = writer
        self._left = writes

    async def run(self, op: Any) -> Any:
        if not self._left:
            raise Broken
        self._left -= 1
        return await self._writer.run(op)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


async def fill(store: Store) -> None:
    """Two tenants with an endpoint and two events each."""
    for tenant in ("acme", "beta"):
        one = Endpoint(0, f"id-{tenant}", tenant, "https://a.example.com/", "standard", 1, 1)
        made = await store.run(endpoints.insert(one))
        for event_id in ("e1", "e2"):
            await store.run(accept(event_id, made.lane, data=b'{"x":"%b"}' % WORD, tenant=tenant))


async def erase_some(store: Store) -> None:
    """All of acme, and one event of beta."""
    await store.run(erase.begin_erasure("acme", LATER_MS))
    await store.run(erase.destroy_keys("acme"))
    hour = -1
    while (step := await store.run(erase.erase_next("acme", 10, LATER_MS, hour))).more:
        hour = step.hour
    await store.run(erase.erase_event("beta", "e1", LATER_MS))


async def start(store: Store, masters: Masters) -> None:
    """What a start does before it loads anything, and the steps it goes on with."""
    with closing(Keyring(store.database.directory / KEYRING_NAME, masters, lambda: LATER_MS)) as ring:
        await make_good(store.database, ring, store.writer, LATER_MS)
    for found in await erasure_reads.ErasureReads(store.reader).under_way():
        await store.run(erase.destroy_keys(found.tenant))
        hour = -1
        while (step := await store.run(erase.erase_next(found.tenant, 10, LATER_MS, hour))).more:
            hour = step.hour


@pytest.mark.parametrize("masters", [Masters(), MASTERS], ids=["plain", "sealed"])
async def test_a_restored_backup_is_rid_of_it_at_the_next_start(tmp_path: Path, masters: Masters) -> None:
    """A tenant with its endpoints, one event of another tenant's; all else is as it was."""
    state = tmp_path / "state"
    async with opened(state, masters=masters) as store:
        await fill(store)
    copy_alone(state, tmp_path / "backup", NOW_MS - 1)
    async with opened(state, masters=masters) as store:
        await erase_some(store)
        await store.run(accept("new", 1, tenant="acme"))
    lose(state)
    restore.restore(tmp_path / "backup", state, LATER_MS)
    async with opened(state, masters=masters) as store:
        await start(store, masters)
        assert [one.tenant for one in await store.endpoints.load_all()] == ["beta"]
        loaded = [(s.event.tenant, s.event.id, s.event.data) for s in await store.queue.load([1, 2, 3, 4])]
        assert loaded == [
            ("acme", "e1", b""),
            ("acme", "e2", b""),
            ("beta", "e1", b""),
            ("beta", "e2", b'{"x":"%b"}' % WORD),
        ]
        assert rows(store.database.path, "SELECT count(*) FROM owed") == [(1,)]
        check_invariants(store.database.path)


async def test_what_a_tenant_sent_after_its_erasure_is_kept_by_later_backups(tmp_path: Path) -> None:
    """Also without encryption: only a backup from before the erasure is rid of all of it."""
    state = tmp_path / "state"
    async with opened(state, masters=Masters()) as store:
        await fill(store)
        await erase_some(store)
        await store.run(accept("new", tenant="acme"))
    copy_alone(state, tmp_path / "backup", LATER_MS)
    lose(state)
    restore.restore(tmp_path / "backup", state, LATER_MS)
    async with opened(state, masters=Masters()) as store:
        await start(store, Masters())
        (kept,) = await store.queue.load([5])
        assert (kept.event.id, kept.corrupt) == ("new", False)


@pytest.mark.parametrize("masters", [Masters(), MASTERS], ids=["plain", "sealed"])
async def test_an_older_backup_restored_first_costs_a_newer_one_nothing(tmp_path: Path, masters: Masters) -> None:
    """What a tenant sent after its erasure comes back, although a backup from before it was tried in between."""
    state = tmp_path / "state"
    async with opened(state, masters=masters) as store:
        await fill(store)
    copy_alone(state, tmp_path / "before", NOW_MS - 1)
    async with opened(state, masters=masters) as store:
        await erase_some(store)
        await store.run(accept("new", tenant="acme"))
    copy_alone(state, tmp_path / "after", LATER_MS)
    keys = "SELECT no, tenant, destroyed_ms IS NULL FROM tenant_key ORDER BY no"
    remembered = (
        "SELECT tenant, id, erased_ms FROM erased_event UNION ALL SELECT tenant, '', erased_ms FROM erased_tenant"
    )
    known = [rows(state / KEYRING_NAME, sql) for sql in (keys, remembered)]
    for name in ("before", "after"):
        lose(state)
        restore.restore(tmp_path / name, state, LATER_MS)
        async with opened(state, masters=masters) as store:
            await start(store, masters)
            assert rows(store.database.path, "SELECT count(*) FROM erasure") == [(0,)]
        assert [rows(state / KEYRING_NAME, sql) for sql in (keys, remembered)] == known, name
    async with opened(state, masters=masters) as store:
        loaded = [(one.event.id, one.event.data) for one in await store.queue.load([1, 2, 5])]
        assert loaded == [("e1", b""), ("e2", b""), ("new", b'{"a":1}')]


@pytest.mark.parametrize("masters", [Masters(), MASTERS], ids=["plain", "sealed"])
async def test_a_start_that_breaks_off_is_made_good_by_the_next(tmp_path: Path, masters: Masters) -> None:
    """Nothing that was erased comes back, wherever the first start after a restore is killed."""
    state = tmp_path / "state"
    async with opened(state, masters=masters) as store:
        await fill(store)
    copy_alone(state, tmp_path / "backup", NOW_MS - 1)
    async with opened(state, masters=masters) as store:
        await erase_some(store)
    lose(state)
    restore.restore(tmp_path / "backup", state, LATER_MS)
    written = 0
    while True:
        async with opened(state, masters=masters) as store:
            store.writer = Breaking(store.writer, written)
            try:
                await start(store, masters)
            except Broken:
                written += 1
                continue
            break
    assert written > 3
    async with opened(state, masters=masters) as store:
        data = [(one.event.tenant, one.event.id, bool(one.event.data)) for one in await store.queue.load([1, 2, 3, 4])]
        assert data == [("acme", "e1", False), ("acme", "e2", False), ("beta", "e1", False), ("beta", "e2", True)]
        assert [(one.tenant, one.status) for one in await store.endpoints.load_all()] == [("beta", "paused")]


async def test_an_id_that_came_again_is_another_event(tmp_path: Path) -> None:
    """Once a tombstone is pruned its id is free: what was accepted under it since is not erased by a restore."""
    state = tmp_path / "state"
    async with opened(state, masters=Masters()) as store:
        await store.run(accept("e1"))
        await store.run(erase.erase_event("acme", "e1", NOW_MS))
        await store.run(prune_events(LATER_MS, 9))
        await store.run(accept("e1", at_ms=LATER_MS))
    copy_alone(state, tmp_path / "backup", LATER_MS)
    lose(state)
    restore.restore(tmp_path / "backup", state, LATER_MS)
    async with opened(state, masters=Masters()) as store:
        await start(store, Masters())
        (kept,) = await store.queue.load([2])
        assert (kept.event.id, kept.event.data) == ("e1", b'{"a":1}')


async def test_a_start_in_the_middle_of_an_erasure_keeps_what_came_since(tmp_path: Path) -> None:
    """The keys that are destroyed are no reason to begin anew: endpoints and events behind them have others."""
    state = tmp_path / "state"
    async with opened(state, masters=MASTERS) as store:
        await fill(store)
        await store.run(erase.begin_erasure("acme", LATER_MS))
        await store.run(erase.destroy_keys("acme"))
        await store.run(accept("new", tenant="acme"))
        made = await store.run(endpoints.insert(Endpoint(0, "new", "acme", "https://a.example.com/", "standard", 1, 1)))
    async with opened(state, masters=MASTERS) as store:
        await start(store, MASTERS)
        loaded = [(one.event.id, one.event.data) for one in await store.queue.load([1, 2, 5])]
        assert loaded == [("e1", b""), ("e2", b""), ("new", b'{"a":1}')]
        assert made in await store.endpoints.load_all()
    assert rows(state / DATABASE_NAME, "SELECT no FROM sealed_key WHERE tenant = 'acme'") == [(3,)]


async def test_no_backup_holds_a_key(tmp_path: Path) -> None:
    """Without the keyring a sealed backup isn't even restored; with a copy of it, it is; a foreign one is refused."""
    state = tmp_path / "state"
    async with opened(state, masters=MASTERS) as store:
        await fill(store)
        copy = store.database.directory / KEYRING_NAME
        (tmp_path / "keys").write_bytes(copy.read_bytes())
    copy_alone(state, tmp_path / "backup", NOW_MS)
    with closing(sqlite3.connect(tmp_path / "backup")) as db:
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} & {"tenant_key", "ring"} == set()
    assert WORD not in (tmp_path / "backup").read_bytes()
    with pytest.raises(KeyringLost, match="--keys"):
        restore.restore(tmp_path / "backup", tmp_path / "new", LATER_MS)
    Keyring(tmp_path / "foreign", MASTERS, lambda: 1).close()
    with pytest.raises(KeyringLost, match="another database"):
        restore.restore(tmp_path / "backup", tmp_path / "new", LATER_MS, tmp_path / "foreign")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"lock"}
    restore.restore(tmp_path / "backup", tmp_path / "new", LATER_MS, tmp_path / "keys")
    async with opened(tmp_path / "new", masters=MASTERS) as store:
        (one, *_) = await store.queue.load([1])
        assert WORD in one.event.data


async def test_an_older_copy_of_the_keyring_is_refused_by_the_tenants_it_lacks(tmp_path: Path) -> None:
    """A backup needs a copy that was made after it."""
    state = tmp_path / "state"
    async with opened(state, masters=MASTERS) as store:
        await store.run(accept("e1", tenant="acme"))
        (tmp_path / "keys").write_bytes((state / KEYRING_NAME).read_bytes())
        await store.run(accept("e1", tenant="beta"))
    copy_alone(state, tmp_path / "backup", NOW_MS)
    with pytest.raises(KeyringLost, match=r"keys lacks keys of tenant beta: .*--incomplete-keys"):
        restore.restore(tmp_path / "backup", tmp_path / "new", LATER_MS, tmp_path / "keys")


@pytest.mark.parametrize("beside", [True, False], ids=["a keyring in its place", "a copy"])
async def test_with_an_older_copy_of_the_keyring_all_else_can_be_saved(tmp_path: Path, beside: bool) -> None:
    """Asked for by name it is restored; once what nobody can read is erased, it starts, and the rest is whole."""
    state, new = tmp_path / "state", tmp_path / "new"
    async with opened(state, masters=MASTERS) as store:
        await store.run(accept("e1", tenant="acme"))
        (tmp_path / "keys").write_bytes((state / KEYRING_NAME).read_bytes())
        await store.run(accept("e1", tenant="beta"))
        await store.run(endpoints.insert(Endpoint(0, "id", "beta", "https://a.example.com/", "standard", 1, 1)))
    copy_alone(state, tmp_path / "backup", NOW_MS)
    given = tmp_path / "keys"
    if beside:
        new.mkdir(mode=0o700)
        given.rename(new / KEYRING_NAME)
    done = restore.restore(tmp_path / "backup", new, LATER_MS, None if beside else given, incomplete=True)
    assert done.lacking == ["beta"]
    with pytest.raises(KeyringLost, match=r"lacks keys of tenant beta: .*`ringback tenant erase NAME`"):
        async with opened(new, masters=MASTERS):
            pass
    run_alone(new, erase.begin_erasure("beta", LATER_MS), LATER_MS)
    run_alone(new, erase.destroy_keys("beta"), LATER_MS)
    while run_alone(new, erase.erase_next("beta", 9, LATER_MS), LATER_MS).more:
        pass
    async with opened(new, masters=MASTERS) as store:
        await start(store, MASTERS)
        loaded = [(one.event.tenant, one.event.data) for one in await store.queue.load([1, 2])]
        assert loaded == [("acme", b'{"a":1}'), ("beta", b"")]
        assert await store.endpoints.load_all() == []


@pytest.mark.parametrize("how", ["changed", "its key is destroyed"])
async def test_an_endpoint_that_cannot_be_read_ends_a_start_by_name(tmp_path: Path, how: str) -> None:
    """The first start after a restore reads every endpoint: it says which one is the matter."""
    state = tmp_path / "state"
    async with opened(state, masters=MASTERS) as store:
        await fill(store)
    copy_alone(state, tmp_path / "backup", NOW_MS)
    if how == "changed":
        with closing(sqlite3.connect(tmp_path / "backup")) as db:
            db.execute("UPDATE endpoint SET spec = CAST(spec || x'00' AS BLOB) WHERE lane = 2")
            db.commit()
    lose(state)
    restore.restore(tmp_path / "backup", state, LATER_MS)
    async with opened(state, masters=MASTERS) as store:
        if how != "changed":
            store.database.keys.destroy("beta")
        with pytest.raises(StoreError, match=r"the endpoint in lane 2 \(revision 1\) can't be read"):
            await store.run(restore.hold_endpoints(LATER_MS))
        with pytest.raises(StateCorrupt, match=r"the endpoint in lane 2 \(revision 1\) can't be read"):
            await store.endpoints.load_all()
