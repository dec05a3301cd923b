"""Room: what is in use, what of it is finished, and how both go down; and a writer that is shut to events."""

from tests.store.kit import NOW_MS, Store, accept, attempt, check_invariants

from ringback.core.lifecycle import reopened, succeeded
from ringback.store.ops import Accepted, Failed, Finish
from ringback.store.retention import Trimmed, prune_finished
from ringback.store.room import Finished, RoomReads


async def test_freed_pages_count_no_longer(store: Store):
    """What pruning frees is room at once, although the file doesn't shrink."""
    room = RoomReads(store.reader)
    empty = await room.used_bytes()
    await store.all(*[accept(f"e{n}", data=b"x" * 10_000) for n in range(50)])
    full = await room.used_bytes()
    assert full > empty + 500_000
    await store.run(prune_finished(list(range(1, 51)), 50))
    assert await room.used_bytes() < empty + 20_000


async def test_finished_events_are_found_oldest_first_within_a_window(store: Store):
    """Owed events are stepped over, events for nobody count as finished, and a cut-off answer says where to go on."""
    await store.all(*[accept(f"e{n}", *([1] if n % 2 else []), data=b"x" * n) for n in range(10)])
    ((seal,),) = await store.reader.fetch("SELECT length(data) FROM payload WHERE event = 1")  # of no data at all
    one, three, five, seven, nine = [(n + 1, n + seal) for n in range(0, 10, 2)]
    room = RoomReads(store.reader)
    assert await room.finished(0, 100, 100) == Finished([one, three, five, seven, nine], 10, more=False)
    assert await room.finished(0, 4, 100) == Finished([one, three], 4, more=True)
    assert await room.finished(4, 100, 2) == Finished([five, seven], 7, more=True)
    assert await room.finished(10, 100, 100) == Finished([], 10, more=False)


async def test_what_is_owed_again_by_then_stays(store: Store):
    """Between the look and the deletion somebody may have asked for a retry."""
    await store.all(accept("a", 1), accept("b", 1, at_ms=NOW_MS + 5), accept("c", 1))
    await store.all(*[Finish(1, seq, succeeded(), attempt()) for seq in (1, 2, 3)])
    await store.run(Finish(1, 1, reopened(NOW_MS)))
    assert await store.run(prune_finished([1, 2], 100)) == Trimmed(1, 2, NOW_MS + 5)
    assert set(await store.queue.names([1, 2, 3])) == {1, 3}
    check_invariants(store.database.path)


async def test_a_step_ends_at_its_rows_and_says_where(store: Store):
    """An event for hundreds of endpoints is as much as many for one."""
    await store.all(*[accept(f"e{n}", *range(1, 41)) for n in range(3)])
    await store.all(*[Finish(lane, seq, succeeded()) for seq in (1, 2, 3) for lane in range(1, 41)])
    assert await store.run(prune_finished([1, 2, 3], 5)) == Trimmed(1, 1, NOW_MS)


async def test_a_shut_writer_refuses_events_and_writes_all_else(store: Store):
    """Results and tasks go on; the words reach who is refused; it is said once, and once that it is over."""
    await store.run(accept("before", 1))
    assert (store.writer.full, store.writer.full_because) == (False, None)
    store.writer.shut("no room")
    store.writer.shut("still no room")
    assert (store.writer.full, store.writer.full_because) == (True, "still no room")
    refused, finished = await store.all(accept("no", 1), Finish(1, 1, succeeded(), attempt()))
    assert (refused, finished) == (Failed("storage_full", "still no room"), True)
    store.writer.reopen()
    store.writer.reopen()
    assert await store.run(accept("no", 1)) == Accepted(2, 1)
    assert store.troubles == ["store.full", "store.recovered"]
