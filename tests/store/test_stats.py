"""Hourly tallies in the table, and how much is owed."""

from tests.store.kit import NOW_MS, Store, accept, attempt

from ringback.core.lifecycle import retry_at
from ringback.core.tally import Tally
from ringback.store.ops import Finish
from ringback.store.stats import Owing, Row, StatsReads, add, prune


def tally(outcome: str, times: int = 1) -> Tally:
    """That many attempts of 10 ms."""
    made = Tally()
    for _ in range(times):
        made.note(outcome, 10, dead=False)
    return made


async def test_tallies_of_an_hour_add_up(store: Store) -> None:
    """What is folded later joins what is there; other lanes and hours stay apart."""
    reads = StatsReads(store.reader)
    await store.run(add([Row(100, 1, tally("delivered", 2)), Row(100, 2, tally("reset")), Row(101, 1, tally("reset"))]))
    await store.run(add([Row(100, 1, tally("reset"))]))
    found = await reads.hours(1, range(99, 102))
    assert {hour: one.outcomes for hour, one in found.items()} == {
        100: {"delivered": 2, "reset": 1},
        101: {"reset": 1},
    }
    assert await reads.hours(1, range(101, 102)) == {101: tally("reset")}


async def test_old_hours_go_in_bounded_steps(store: Store) -> None:
    """A step says whether it was full."""
    reads = StatsReads(store.reader)
    for start in (0, 200):
        await store.run(add([Row(100, lane, tally("reset")) for lane in range(start, start + 200)]))
    await store.run(add([Row(101, 1, tally("reset"))]))
    assert [await store.run(prune(101)) for _ in range(3)] == [256, 144, 0]
    assert list(await reads.hours(1, range(90, 110))) == [101]


async def test_what_is_owed_is_counted_to_a_cap_with_its_oldest(store: Store) -> None:
    """Fresh or to be tried again: the oldest by acceptance, not by due time."""
    reads = StatsReads(store.reader)
    assert await reads.owing(1, 10) == await reads.owing_in_all(10) == Owing(0, None)
    for n in range(4):
        await store.run(accept(f"e{n}", 1, 2 + n, at_ms=NOW_MS + n))
    await store.run(Finish(1, 1, retry_at(NOW_MS + 99_999), attempt()))
    assert await reads.owing(1, 10) == Owing(4, NOW_MS)
    assert await reads.owing(3, 10) == Owing(1, NOW_MS + 1)
    assert await reads.owing_in_all(100) == Owing(8, NOW_MS)
    assert (await reads.owing_in_all(5)).rows == 5
    assert (await reads.owing(1, 2)).rows == 2
