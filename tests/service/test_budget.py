"""The budget's chore over a real store: the oldest finished go, what is owed stays, and the writer opens and shuts."""

import pytest
from tests.harness.world import FakeClock
from tests.store.kit import accept, check_invariants, opened

from ringback.core.lifecycle import succeeded
from ringback.service import budget as budget_module
from ringback.service.budget import WINDOW, Budget
from ringback.store.errors import QueryTimeout
from ringback.store.ops import Accepted, Failed, Finish
from ringback.store.room import RoomReads

MAX = 2_000_000
DATA = b"x" * 10_000


@pytest.fixture
async def store(tmp_path):
    """A running store."""
    async with opened(tmp_path) as running:
        yield running


@pytest.fixture
def log(monkeypatch):
    """What was told, as (name, keys)."""
    told = []
    monkeypatch.setattr(budget_module._log, "warning", lambda name, **keys: told.append((name, keys)))
    return told


async def fill(store, start, count, *lanes, data=DATA):
    """Events of ten kilobytes; their numbers."""
    answers = await store.all(*[accept(f"e{start + n}", *lanes, data=data) for n in range(count)])
    assert all(isinstance(answer, Accepted) for answer in answers)
    return [answer.seq for answer in answers]


async def settle(budget, clock):
    """Turns, a minute later, until nothing is to be done for now."""
    clock.advance(60)
    for _ in range(1000):
        if not await budget.turn():
            return
    raise AssertionError("keeping a budget must come to an end")


def budget_of(store, clock, max_bytes=MAX):
    """The chore on this store."""
    return Budget(RoomReads(store.reader), store.writer, clock, max_bytes)


async def left(store, seqs):
    """Which of these events are still there."""
    return sorted(await store.queue.names(seqs))


async def test_the_oldest_finished_go_and_no_more_than_needed(store, log):
    """Down to nine tenths of the budget, oldest first, and the log says since when ids are remembered."""
    clock = FakeClock()
    budget = budget_of(store, clock)
    seqs = await fill(store, 0, 250)
    await settle(budget, clock)
    stayed = await left(store, seqs)
    assert stayed == seqs[-len(stayed) :]
    assert MAX * 0.8 < await RoomReads(store.reader).used_bytes() <= MAX * 0.9
    assert not store.writer.full
    ((name, keys),) = log
    assert (name, keys["events"], keys["budget_bytes"]) == ("retention.budget", 250 - len(stayed), MAX)
    assert keys["remembered_since"] == "2027-01-15T08:00:00.000Z"
    check_invariants(store.database.path)


async def test_what_is_owed_is_stepped_over(store, log):
    """Old events that somebody waits for stay; younger finished ones go in their place."""
    clock = FakeClock()
    owed, finished = await fill(store, 0, 100, 1), await fill(store, 100, 150)
    await settle(budget_of(store, clock), clock)
    assert await left(store, owed) == owed
    assert 0 < len(await left(store, finished)) < 150
    assert len(log) == 1


async def test_used_up_by_what_is_owed_refuses_until_deliveries_made_room(store, log):
    """Nothing left to prune: events are refused by name, results are written, and room is found without a restart."""
    clock = FakeClock()
    budget = budget_of(store, clock)
    await fill(store, 0, 20)
    owed = await fill(store, 20, 210, 1)
    await settle(budget, clock)
    assert await left(store, owed) == owed
    (refused,) = await store.all(accept("late", 1))
    assert isinstance(refused, Failed)
    assert (refused.code, "used up by what is owed" in refused.message) == ("storage_full", True)
    assert [keys["events"] for _, keys in log] == [20]
    assert not await budget.turn(), "an empty round isn't repeated at once"
    await store.all(*[Finish(1, seq, succeeded()) for seq in owed[:60]])
    await settle(budget, clock)
    assert await store.run(accept("late", 1)) == Accepted(231, 1)
    assert store.troubles == ["store.full", "store.recovered"]
    assert await left(store, owed[60:]) == owed[60:]


async def test_a_budget_lifted_or_raised_opens_at_the_next_look(store, log):
    """A reload helps at once."""
    clock = FakeClock()
    budget = budget_of(store, clock)
    await fill(store, 0, 250, 1)
    for more in (0, 2 * MAX):
        budget.limit(MAX)
        await settle(budget, clock)
        assert store.writer.full
        budget.limit(more)
        await budget.turn()
        assert not store.writer.full
    assert log == []


async def test_growing_faster_than_pruning_is_refused_too(store, log):
    """A budget bounds the disk also while there is still something to prune."""
    clock = FakeClock()
    budget = budget_of(store, clock)
    await fill(store, 0, 210)
    await budget.turn()
    await fill(store, 300, 100)
    await budget.turn()
    assert "faster" in store.writer.full_because
    await settle(budget, clock)
    assert not store.writer.full


async def test_without_a_budget_nobody_looks(store):
    """No budget, no query."""

    class Blind:
        """Can't be asked."""

    budget = Budget(Blind(), store.writer, FakeClock())
    assert await budget.turn() is False
    assert budget.used_bytes is None


async def test_a_slow_look_is_made_smaller(store):
    """A window that takes too long is halved until it is small; then the failure is the janitor's to tell."""

    class Slow(RoomReads):
        """Answers only for the least window."""

        windows = ()

        async def finished(self, after, window, limit):
            """As slow as a fan-out to thousands."""
            self.windows += (window,)
            raise QueryTimeout("too long")

    reads = Slow(store.reader)
    budget = Budget(reads, store.writer, FakeClock(), 1)
    with pytest.raises(QueryTimeout):
        await settle(budget, FakeClock())
    assert reads.windows == tuple(WINDOW >> n for n in range(7))
