"""Retention: what goes, what stays, and that a step is small."""

from tests.store.kit import NOW_MS, Store, accept, attempt, check_invariants, opened, rows

from ringback.core.lifecycle import dead, retry_at, succeeded
from ringback.store import retention
from ringback.store.lane_history import index_history
from ringback.store.ops import Accepted, Finish
from ringback.store.retention import Pruned, prune_attempts, prune_events

DAY_MS = 86_400_000
CUTOFF = NOW_MS


async def _fill(store: Store, count: int, *lanes: int, at_ms: int = NOW_MS - DAY_MS, start: int = 0) -> None:
    answers = await store.all(*[accept(f"e{start + i}", *lanes, at_ms=at_ms) for i in range(count)])
    await store.all(*[Finish(lane, a.seq, succeeded(), attempt()) for a in answers for lane in lanes])


async def _prune(store: Store, limit: int = 10, cutoff_ms: int = CUTOFF) -> int:
    total = 0
    for _ in range(1000):
        step = await store.run(prune_events(cutoff_ms, limit))
        total += step.pruned
        if not step.more:
            return total
    raise AssertionError("pruning must come to an end")


def _count(store: Store, table: str) -> int:
    return rows(store.database.path, f"SELECT count(*) FROM {table}")[0][0]


async def test_old_events_go_with_all_that_hangs_on_them(store: Store):
    """Nothing of a pruned event is left but its number's mark; younger ones stay whole."""
    await _fill(store, 25, 1, 2)
    await store.run(Finish(1, 1, dead()))
    await _fill(store, 5, 1, 2, at_ms=NOW_MS, start=100)
    assert await _prune(store) == 25
    for table, left in (("event", 5), ("payload", 5), ("delivery", 10), ("owed", 0), ("attempt", 0)):
        assert _count(store, table) == left, table
    check_invariants(store.database.path)


async def test_what_is_still_owed_stays_and_its_id_with_it(store: Store):
    """An old event with a pending delivery isn't pruned, its id stays a duplicate; once it ends it goes."""
    await _fill(store, 20, 1)
    await store.run(accept("held", 1, 2, at_ms=NOW_MS - DAY_MS))
    await store.run(Finish(1, 21, succeeded()))
    await _fill(store, 20, 1, start=50)
    assert await _prune(store) == 40
    assert await store.run(accept("held", 1)) == Accepted(21, 2, duplicate=True)
    assert await _prune(store) == 0
    await store.run(Finish(2, 21, dead()))
    assert await _prune(store) == 1
    assert (await store.run(accept("held", 1))).duplicate is False


async def test_many_held_events_do_not_cost_every_pass(store: Store):
    """A pass over a backlog that can't be pruned looks at one window of it, not at all of it."""
    await store.all(*[accept(f"h{i}", 9, at_ms=NOW_MS - DAY_MS) for i in range(200)])
    await _prune(store)
    seen: list[str] = []
    store.database.writer.set_trace_callback(seen.append)
    assert await _prune(store, limit=10) == 0
    store.database.writer.set_trace_callback(None)
    assert len([sql for sql in seen if "count(*)" in sql]) <= 10


async def test_held_events_in_the_middle_are_all_found_later(store: Store):
    """Round after round, every event left over is looked at again."""
    await store.all(*[accept(f"h{i}", 9, at_ms=NOW_MS - DAY_MS) for i in range(35)])
    assert await _prune(store) == 0
    await store.all(*[Finish(9, i + 1, dead()) for i in range(35) if i % 3 == 0])
    assert sum([await _prune(store) for _ in range(10)]) == 12
    assert _count(store, "event") == 23


async def test_an_event_from_a_clock_ahead_does_not_block_the_others(store: Store):
    """One that claims to be from the future is passed over."""
    await _fill(store, 3, 1, at_ms=NOW_MS + 10**12)
    await _fill(store, 5, 1, start=10)
    assert await _prune(store) == 5
    assert sum([await _prune(store, cutoff_ms=NOW_MS + 10**12 + 1) for _ in range(3)]) == 3


async def test_numbers_of_pruned_events_are_never_used_again(tmp_path):
    """Even when everything was pruned and the daemon restarted."""
    async with opened(tmp_path / "s") as store:
        await _fill(store, 5, 1)
        assert await _prune(store) == 5
    (tmp_path / "s" / "state.json").unlink()
    async with opened(tmp_path / "s") as store:
        assert (await store.run(accept("new"))).seq == 6


async def test_a_step_is_small(store: Store):
    """A step touches at most its limit of events, and stops early at wide fan-outs."""
    await _fill(store, 30, 1)
    assert await store.run(prune_events(CUTOFF, 10)) == Pruned(10, more=True)
    await _fill(store, 4, *range(1, 101), start=100)
    pruned = []
    for _ in range(50):
        step = await store.run(prune_events(CUTOFF, 10))
        pruned.append(step.pruned)
        if not step.more:
            break
    assert sum(pruned) == 24
    assert pruned.count(1) == 4, "an event of 100 deliveries fills a step of 10 × 8 rows"


async def test_the_history_index_is_swept_lane_by_lane(store: Store, monkeypatch):
    """Entries of pruned events go in the end; entries of living ones stay."""
    monkeypatch.setattr(retention, "SWEEP_EVERY_EVENTS", 10)
    await _fill(store, 40, 1, 2, 3)
    await store.run(accept("held", 2, at_ms=NOW_MS - DAY_MS))
    await _fill(store, 5, 1, at_ms=NOW_MS, start=100)
    while (await store.run(index_history(30))).more:
        pass
    assert _count(store, "lane_history") == 126
    await _prune(store, limit=3)
    found = rows(store.database.path, "SELECT lane, event FROM lane_history ORDER BY lane, event")
    assert found == [*[(1, seq) for seq in range(42, 47)], (2, 41)]


async def test_old_attempts_are_stripped_but_the_outcome_stays(store: Store):
    """Earlier attempts and details go; what became of the delivery doesn't."""
    answers = await store.all(*[accept(f"e{i}", 1, at_ms=NOW_MS - DAY_MS) for i in range(12)])
    old = NOW_MS - DAY_MS
    for answer in answers:
        await store.run(Finish(1, answer.seq, retry_at(5), attempt(started_at_ms=old, full_body=b"1")))
        await store.run(Finish(1, answer.seq, dead(), attempt("timeout", None, old, full_body=b"2")))
    await store.run(accept("young", 1))
    await store.run(Finish(1, 13, dead(), attempt(full_body=b"3")))
    stripped = 0
    while True:
        step = await store.run(prune_attempts(CUTOFF, 5))
        stripped += step.pruned
        if not step.more:
            break
    assert stripped == 24
    assert (_count(store, "attempt"), _count(store, "response_body")) == (0, 1)
    view = await store.history.get_delivery(1, 1)
    assert view is not None
    assert [(a.n, a.outcome, a.info, a.full_body) for a in view.attempts] == [(2, "timeout", None, None)]
    young = await store.history.get_delivery(13, 1)
    assert young is not None
    assert (young.attempts[0].info, young.attempts[0].full_body) == (b"info", b"3")
    assert await store.run(prune_attempts(CUTOFF, 5)) == Pruned(0, more=False)


async def test_a_young_attempt_of_an_old_event_is_kept(store: Store):
    """The attempt's own age counts."""
    await store.run(accept("a", 1, at_ms=NOW_MS - DAY_MS))
    await store.run(Finish(1, 1, retry_at(5), attempt(started_at_ms=NOW_MS - DAY_MS, full_body=b"old")))
    await store.run(Finish(1, 1, dead(), attempt(started_at_ms=NOW_MS + 1, full_body=b"young")))
    await store.run(prune_attempts(CUTOFF, 5))
    view = await store.history.get_delivery(1, 1)
    assert view is not None
    assert [(a.n, a.info, a.full_body) for a in view.attempts] == [(2, b"info", b"young")]
