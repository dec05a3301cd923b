"""Turning encryption on over a database in the clear: sealed in steps, whatever interrupts; nothing else changes."""

import contextlib
import shutil

import msgspec
import pytest
from tests.store.faulty import UnsyncedConnection
from tests.store.kit import MASTERS, NOW_MS, accept, attempt, check_invariants, event, opened, rows

from ringback.core.lifecycle import reopened, retry_at, succeeded
from ringback.core.model import Callback, Endpoint, Secret
from ringback.store import endpoints, erase, sealing
from ringback.store.backup import Aside, copy
from ringback.store.database import open_state
from ringback.store.engine import Engine
from ringback.store.keys import PLAIN
from ringback.store.known import KnownIds
from ringback.store.ops import AcceptEvent, Conflict, Finish
from ringback.store.sealing import Left, left_in_the_clear, seal_next
from ringback.store.views import DeliveryFilter

WORD = b"xyzzy-plugh"
TEXT = WORD.decode()
ORIGIN = "https://host.example:443"
TENANTS = ("acme", "beta")
EVENTS = 20

#: What may hold something that was said: each column, and which of its rows do.
SAYING = {
    "payload.data": "key_no >= 0",
    "endpoint.spec": "deleted_ms IS NULL OR 1",
    "endpoint_revision.spec": "1",
    "callback.spec": f"spec <> x'{erase.BLANK_CALLBACK.hex()}'",
    "delivery.info": "info NOT NULL",
    "attempt.info": "info NOT NULL",
    "response_body.body": "1",
}


def said(n: int) -> bytes:
    """Data with the planted word, of its own length for each event."""
    return b'{"n":%d,"said":"%s"}' % (n, WORD * (1 + n % 5))


def endpoint(name: str, tenant: str) -> Endpoint:
    """An endpoint whose every sealed part says the word."""
    return Endpoint(
        0, f"id-{tenant}-{name}", tenant, f"https://{TEXT}.example/{name}?token={TEXT}", "standard", 1, 1, name=name,
        secrets=(Secret(f"whsec_{TEXT}", 1),), headers={"x-key": TEXT}, metadata={"k": TEXT}, description=TEXT,
    )  # fmt: skip


def answered(status: int = 500):
    """An attempt whose receiver said the word."""
    return attempt(status=status, info=b"\x93" + WORD * 3, full_body=WORD * 9)


async def fill(store) -> None:
    """Every kind of row: endpoints with a past, events with and without callbacks, attempts folded and earlier."""
    lanes: dict[str, list[int]] = {}
    for tenant in TENANTS:
        for name in ("a", "b", "gone"):
            made = await store.run(endpoints.insert(endpoint(name, tenant)))
            for revision in (2, 3):
                made = msgspec.structs.replace(made, revision=revision, description=f"{TEXT} {revision}")
                await store.run(endpoints.update(made))
            lanes.setdefault(tenant, []).append(made.lane)
        gone = msgspec.structs.replace(made, deleted_at_ms=NOW_MS)
        await store.run(endpoints.update(gone))
    for n in range(1, EVENTS + 1):
        tenant = TENANTS[n % 2]
        made = event(f"e{n}", said(n), tenant)
        if n % 3 == 0:
            callback = Callback(f"{ORIGIN}/{TEXT}", secret=TEXT, extra=b'{"x":"%s"}' % WORD)
            made = msgspec.structs.replace(made, callback=callback)
        got = await store.run(
            AcceptEvent(made, tuple(lanes[tenant]), NOW_MS, callback_origin=ORIGIN if n % 3 == 0 else None)
        )
        first, second, _ = lanes[tenant]
        await store.run(Finish(first, got.seq, retry_at(NOW_MS), answered()))
        await store.run(Finish(first, got.seq, succeeded(), answered(200)))
        await store.run(Finish(second, got.seq, retry_at(NOW_MS), attempt(info=b"")))
        if n % 4 == 0:
            await store.run(Finish(first, got.seq, reopened(NOW_MS)))
        if n % 5 == 0:
            await store.run(Finish(second, got.seq, retry_at(NOW_MS + 9), answered()))
    await store.run(erase.erase_event("acme", "e2", NOW_MS))


async def told(store) -> list[object]:
    """All that can be read, but for digests, whose form is the database's own affair."""
    stored = await store.queue.load(range(1, EVENTS + 1))
    events = [msgspec.structs.replace(one, event=msgspec.structs.replace(one.event, digest=b"")) for one in stored]
    page = await store.history.list_deliveries(DeliveryFilter(), limit=10_000)
    deliveries = [await store.history.get_delivery(row.event, row.lane) for row in page.items]
    sizes = await store.history.list_events(limit=100)
    known = await store.endpoints.load_all()
    past = [await store.endpoints.revision(lane, revision) for lane in range(1, 9) for revision in (1, 2, 3)]
    owed = rows(store.database.path, "SELECT * FROM owed ORDER BY event, lane")
    return [events, deliveries, sizes, known, past, owed]


async def recognised(store) -> None:
    """Each id is a duplicate under what it came with and a conflict under another, by the writer and by a look-up."""
    same = [event(f"e{n}", said(n), TENANTS[n % 2]) for n in range(1, EVENTS + 1)]
    # A callback is no part of the digest that these tests' events have.
    answers = await store.all(*[AcceptEvent(one, (), NOW_MS) for one in same])
    assert all(one.duplicate for one in answers)
    other = [msgspec.structs.replace(one, digest=b"\x01" * 32) for one in same if one.id != "e2"]
    assert set(map(type, await store.all(*[AcceptEvent(one, (), NOW_MS) for one in other]))) == {Conflict}
    looked_up = await KnownIds(store.reader).conflicts([*same, *other])
    assert len(looked_up) == EVENTS - 1, "the erased one is known as whatever comes"


def in_the_clear(path) -> dict[str, int]:
    """How many rows of each column still say something in the clear; those that do."""
    found = {}
    for column, which in SAYING.items():
        table, name = column.split(".")
        sql = f"SELECT count(*) FROM {table} WHERE ({which}) AND length({name}) > 0 AND substr({name}, 1, 1) <> x'01'"
        if count := rows(path, sql)[0][0]:
            found[column] = count
    return found


@pytest.fixture
async def plain(tmp_path):
    """A state directory in the clear, closed; what it told."""
    async with opened(tmp_path / "plain") as store:
        await fill(store)
        before = await told(store)
        assert set(in_the_clear(store.database.path)) == set(SAYING), "the search finds what is in the clear"
    return tmp_path / "plain", before


async def test_everything_is_sealed_in_steps_and_reads_as_before(plain):
    """Interrupted after some steps and taken up by the next start; events and results go on between two steps."""
    directory, before = plain
    async with opened(directory, masters=MASTERS) as store:
        assert await left_in_the_clear(store.reader) == Left(6, EVENTS)
        assert await told(store) == before, "before the first step"
        await recognised(store)
        for _ in range(5):
            assert await store.run(seal_next(3)) is True
        half = await left_in_the_clear(store.reader)
        assert Left(0, 0) < half < Left(6, EVENTS)
        assert await told(store) == before, "in the middle"
        await recognised(store)
        check_invariants(store.database.path)
    async with opened(directory, masters=MASTERS) as store:
        assert await left_in_the_clear(store.reader) == half, "it goes on where it stopped"
        late = await store.run(accept("late", 1, tenant="beta", data=said(0)))
        await store.run(Finish(1, late.seq, succeeded(), answered(200)))
        while await store.run(seal_next(3)):
            pass
        assert await left_in_the_clear(store.reader) == Left(0, 0)
        assert in_the_clear(store.database.path) == {}
        assert [one for one in (await told(store))[0] if one.seq <= EVENTS] == before[0]
        assert (await told(store))[3:5] == before[3:5]
        await recognised(store)
        check_invariants(store.database.path)


async def test_the_words_are_in_none_of_the_bytes(plain, tmp_path):
    """What lay in the clear was overwritten where it lay; a copy has nothing either, and opens."""
    directory, before = plain
    with Aside(directory / "ringback.db") as aside:
        copy(aside, tmp_path / "control", NOW_MS)
    assert WORD in (tmp_path / "control").read_bytes()
    async with opened(directory, masters=MASTERS) as store:
        while await store.run(seal_next(7)):
            pass
        assert erase.wipe_log(store.database)
        for file in directory.iterdir():
            assert WORD not in file.read_bytes(), file
        with Aside(store.database.path) as aside:
            copy(aside, tmp_path / "backup", NOW_MS)
        assert WORD not in (tmp_path / "backup").read_bytes()
    shutil.copy(tmp_path / "backup", directory / "ringback.db")
    async with opened(directory, masters=MASTERS) as store:
        assert await told(store) == before


async def test_a_second_start_in_the_middle_of_everything_changes_nothing(plain):
    """One step a life, until all is done."""
    directory, before = plain
    more = True
    for _ in range(100):
        async with opened(directory, masters=MASTERS) as store:
            more = await store.run(seal_next(5))
            if not more:
                assert await told(store) == before
                break
    assert not more
    assert in_the_clear(directory / "ringback.db") == {}


async def test_a_step_is_bounded_in_bytes_too(plain, monkeypatch):
    """A few large payloads are a step of their own; one event is always taken."""
    directory, before = plain
    monkeypatch.setattr(sealing, "STEP_BYTES", 1)
    async with opened(directory, masters=MASTERS) as store:
        await store.run(seal_next(100))
        for done in (1, 3, 4):  # of the second, an erased one, there is nothing to count
            await store.run(seal_next(100))
            assert await left_in_the_clear(store.reader) == Left(0, EVENTS - done)
        while await store.run(seal_next(100)):
            pass
        assert await told(store) == before


async def test_without_a_key_nothing_is_sealed(plain):
    """The task says that there is nothing to do, and touches nothing."""
    directory, _ = plain
    async with opened(directory) as store:
        assert await store.run(seal_next(100)) is False
        assert store.database.keys is PLAIN or not store.database.keys.sealing
        assert set(in_the_clear(store.database.path)) == set(SAYING)


async def test_a_fault_at_any_statement_undoes_its_step_and_the_next_try_finishes(plain, tmp_path):
    """Whatever fails, before or after it did its work: no row is half, and everything reads as before."""
    directory, before = plain
    with contextlib.closing(open_state(directory, NOW_MS)) as database:
        database.unlock(MASTERS, lambda: NOW_MS)
    total = _seal(shutil.copytree(directory, tmp_path / "count"), 10**9, after=False)
    assert total > 100
    for turn, n in enumerate(range(1, total, 13)):
        _seal(shutil.copytree(directory, tmp_path / str(n)), n, after=turn % 2 == 0)
        assert in_the_clear(tmp_path / str(n) / "ringback.db") == {}
        async with opened(tmp_path / str(n), masters=MASTERS) as store:
            assert await told(store) == before
            check_invariants(store.database.path)


def _seal(directory, fault_at: int, *, after: bool) -> int:
    """Seal all with one fault on the way; how many statements it took."""
    with contextlib.closing(open_state(directory, NOW_MS, UnsyncedConnection)) as database:
        database.unlock(MASTERS, lambda: NOW_MS)
        database.writer.arm(fault_at, lambda: RuntimeError("injected"), after=after)
        engine = Engine(database.writer, database.high_seq)
        answers = []
        while answers[-1:] != [False] and engine.broken is None:
            answers += engine.commit([seal_next(6)])
        assert len([answer for answer in answers if not isinstance(answer, bool)]) == (
            fault_at <= database.writer.count
        )
        count = database.writer.count
    return count if engine.broken is None else _seal(directory, 10**9, after=False)  # a start anew, as a daemon's
