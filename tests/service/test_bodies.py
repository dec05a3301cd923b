"""Bodies on their way: bounded in bytes, read together, read ahead."""

import asyncio

import pytest

from ringback.core.model import Event, Owed
from ringback.service.bodies import MAX_AHEAD_BYTES, OVERHEAD_BYTES, Bodies
from ringback.store.codec import EventOpts
from ringback.store.errors import QueryTimeout
from ringback.store.views import StoredEvent


class Table:
    """A table whose reads wait for ``go`` and are counted."""

    def __init__(self) -> None:
        self.reads: list[set[int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self.reading = asyncio.Event()

    async def load(self, seqs):
        self.reads.append(set(seqs))
        self.reading.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return [StoredEvent(seq, event(seq), 0, corrupt=False) for seq in seqs if seq < 1_000_000]


def event(seq: int, size: int = 2) -> Event:
    """An event with data of that size."""
    return Event(f"e{seq}", "t", "x", b"d" * size, 0, b"")


def owed(seq: int, size: int = 2) -> Owed:
    """A delivery of it."""
    return Owed(1, seq, 0, 0, 0, size)


async def test_what_is_asked_for_during_a_read_is_read_together_next():
    """Ten starts that come while a read is under way cost one more read, and each gets its event."""
    table = Table()
    bodies = Bodies(table)
    table.go.clear()
    loads = [asyncio.ensure_future(bodies.load([1, 2]))]
    await table.reading.wait()
    loads += [asyncio.ensure_future(bodies.load([seq])) for seq in range(10, 20)]
    loads.append(asyncio.ensure_future(bodies.load([2, 10])))
    await asyncio.sleep(0)
    table.go.set()
    found = await asyncio.gather(*loads)
    assert table.reads == [{1, 2}, set(range(10, 20))]
    assert all(seq in found[seq - 9] for seq in range(10, 20))
    assert {2, 10} <= found[-1].keys()


async def test_what_is_gone_from_the_table_is_missing_from_the_answer():
    """An event that isn't there any more has no body, and nobody waits for it."""
    assert set(await Bodies(Table()).load([5, 2_000_000])) == {5}


async def test_read_ahead_is_there_when_it_starts():
    """What was read ahead is taken without a read, once; it isn't read ahead twice."""
    table = Table()
    bodies = Bodies(table)
    await bodies.ahead([owed(1), owed(2)])
    await bodies.ahead([owed(1), owed(2)])
    assert table.reads == [{1, 2}]
    assert bodies.take(1).event.id == "e1"
    assert bodies.take(1) is None


async def test_a_start_that_meets_the_read_ahead_joins_it_and_nothing_is_kept_for_it():
    """An attempt that starts while its body is being read ahead waits for that read and leaves nothing behind."""
    table = Table()
    bodies = Bodies(table)
    table.go.clear()
    ahead = asyncio.ensure_future(bodies.ahead([owed(1), owed(2)]))
    await table.reading.wait()
    start = asyncio.ensure_future(bodies.load([1]))
    await asyncio.sleep(0)
    table.go.set()
    assert 1 in await start
    await ahead
    assert table.reads == [{1, 2}]
    assert bodies.take(1) is None
    assert bodies.take(2) is not None


async def test_a_read_that_takes_too_long_is_told_to_starts_and_forgotten_by_the_look_ahead():
    """QueryTimeout goes to all who wait to start; reading ahead gives up quietly; the next read is fresh."""
    table = Table()
    bodies = Bodies(table)
    table.error = QueryTimeout("slow")
    await bodies.ahead([owed(1)])
    loads = [bodies.load([1]), bodies.load([2])]
    assert [type(error) for error in await asyncio.gather(*loads, return_exceptions=True)] == [QueryTimeout] * 2
    table.error = None
    assert 1 in await bodies.load([1])


async def test_a_bug_in_a_read_ahead_is_not_swallowed():
    """Anything but a timeout comes out of the look ahead, so that it ends the loop."""
    table = Table()
    table.error = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        await Bodies(table).ahead([owed(1)])


async def test_reading_ahead_is_bounded_in_bytes():
    """Large events are not read ahead beyond the bound."""
    table = Table()
    await Bodies(table).ahead([owed(seq, MAX_AHEAD_BYTES // 4) for seq in range(10)])
    assert table.reads == [{0, 1, 2, 3}]


def test_tiny_events_do_not_fill_the_memory():
    """The bound counts an event's objects, not only its data: the oldest go first."""
    bodies = Bodies(Table(), max_bytes=100 * (OVERHEAD_BYTES + 2))
    for seq in range(1000):
        bodies.keep(seq, event(seq), 0, 1)
    assert bodies.take(899) is None
    assert all(bodies.take(seq) for seq in range(900, 1000))


def test_an_event_is_let_go_with_its_last_start():
    """Each lane that took it takes it out once."""
    bodies = Bodies(Table())
    bodies.keep(1, event(1), 0, 2)
    assert bodies.take(1) is bodies.take(1)
    assert bodies.take(1) is None


async def test_an_erased_event_is_let_go_and_not_kept_again() -> None:
    """Neither what is here of it, nor what a read that is under way brings; the rest of that read isn't kept either."""
    table = Table()
    bodies = Bodies(table)
    bodies.keep(1, event(1), 0, 3)
    table.go.clear()
    reading = asyncio.ensure_future(bodies.ahead([owed(2), owed(3)]))
    await table.reading.wait()
    for seq in (1, 2):
        bodies.forget(seq)
    table.go.set()
    await reading
    assert [bodies.take(seq) for seq in (1, 2, 3)] == [None, None, None]
    assert [bodies.is_erased(seq) for seq in (1, 2, 3)] == [True, True, False]
    bodies.regain(1)
    assert not bodies.is_erased(1)


async def test_a_tombstone_from_the_table_is_not_sendable() -> None:
    """Its empty data has a sound checksum; it must go out nowhere all the same."""

    class Tombs(Table):
        async def load(self, seqs):
            return [StoredEvent(seq, event(seq, 0), 0, opts=EventOpts(erased_at_ms=1)) for seq in seqs]

    found = await Bodies(Tombs()).load([1])
    assert found[1].corrupt


def test_erased_events_are_remembered_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest are."""
    monkeypatch.setattr("ringback.service.bodies.MAX_ERASED", 3)
    bodies = Bodies(Table())
    for seq in range(5):
        bodies.forget(seq)
    assert [seq for seq in range(5) if bodies.is_erased(seq)] == [2, 3, 4]


def test_a_tenants_bodies_are_let_go() -> None:
    """Only that tenant's."""
    bodies = Bodies(Table())
    bodies.keep(1, event(1), 0, 1)
    bodies.forget_tenant("other")
    assert bodies.take(1) is not None
    bodies.keep(2, event(2), 0, 1)
    bodies.forget_tenant("t")
    assert bodies.take(2) is None
