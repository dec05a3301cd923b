"""Results: each transition's effect on the rows, and that a late or doubled report has none."""

from tests.store.kit import NOW_MS, Store, accept, attempt, check_invariants

from ringback.core.lifecycle import (
    cancelled,
    dead,
    expired,
    hastened,
    interrupted,
    postponed,
    reopened,
    retry_at,
    succeeded,
)
from ringback.core.model import DeliveryState, Phase
from ringback.store.ops import Accepted, Finish
from ringback.store.queue import Ask, Hastened, HastenedUpTo, cancel_owed, clamp_timed, hasten_owed
from ringback.store.results import FULL_BODIES_A_LANE

OK = attempt("delivered", 200)


async def _owed(store: Store, lane: int = 1, now_ms: int = NOW_MS + 10**9):
    (refill,) = await store.queue.refill([Ask(lane, 100, 100)], now_ms)
    return refill.items


async def _view(store: Store, event: int = 1, lane: int = 1):
    view = await store.history.get_delivery(event, lane)
    assert view is not None
    return view


async def test_a_success_ends_the_delivery(store: Store):
    """Nothing is owed any more, and the attempt is on record."""
    await store.run(accept("a", 1, 2))
    assert await store.run(Finish(1, 1, succeeded(), OK)) is True
    assert await _owed(store) == []
    assert len(await _owed(store, 2)) == 1
    view = await _view(store)
    assert (view.row.state, view.row.attempts, view.row.status) == (DeliveryState.SUCCEEDED, 1, 200)
    assert [(a.n, a.run, a.outcome, a.info) for a in view.attempts] == [(1, 1, "delivered", b"info")]
    check_invariants(store.database.path)


async def test_each_final_state_is_final(store: Store):
    """After any end a second report is answered False and changes nothing."""
    ends = [succeeded(), dead(), expired(), cancelled()]
    await store.run(accept("a", 1, 2, 3, 4))
    for lane, end in enumerate(ends, start=1):
        assert await store.run(Finish(lane, 1, end)) is True
    before = [await _view(store, 1, lane) for lane in range(1, 5)]
    for lane in range(1, 5):
        for again in (succeeded(), dead(), retry_at(NOW_MS), interrupted(), cancelled()):
            assert await store.run(Finish(lane, 1, again, OK)) is False
    assert [await _view(store, 1, lane) for lane in range(1, 5)] == before
    states = [view.row.state for view in before]
    assert states == [DeliveryState.SUCCEEDED, DeliveryState.DEAD, DeliveryState.EXPIRED, DeliveryState.CANCELLED]


async def test_a_report_about_nothing_is_false(store: Store):
    """A delivery that isn't there (pruned, never made) changes nothing and harms nothing."""
    await store.run(accept("a", 1))
    answers = await store.all(Finish(1, 99, succeeded(), OK), Finish(9, 1, dead()), Finish(1, 1, succeeded(), OK))
    assert answers == [False, False, True]


async def test_a_retry_becomes_a_timed_row(store: Store):
    """A retry is a later due time and one more counted attempt; it isn't returned before its time."""
    await store.run(accept("a", 1))
    await store.run(Finish(1, 1, retry_at(NOW_MS + 5000), attempt()))
    assert await _owed(store, now_ms=NOW_MS + 4999) == []
    (owed,) = await _owed(store, now_ms=NOW_MS + 5000)
    assert (owed.phase, owed.due_at_ms, owed.attempts) == (Phase.TIMED, NOW_MS + 5000, 1)
    assert (await _view(store)).row.due_at_ms == NOW_MS + 5000
    check_invariants(store.database.path)


async def test_earlier_attempts_are_kept_in_order(store: Store):
    """Every attempt is shown, oldest first, whatever became of it."""
    await store.run(accept("a", 1))
    for n in range(1, 4):
        await store.run(Finish(1, 1, retry_at(NOW_MS + n), attempt("timeout", None, NOW_MS + n, error=f"no {n}")))
    await store.run(Finish(1, 1, succeeded(), OK))
    view = await _view(store)
    assert [(a.n, a.outcome, a.error) for a in view.attempts] == [
        (1, "timeout", "no 1"),
        (2, "timeout", "no 2"),
        (3, "timeout", "no 3"),
        (4, "delivered", None),
    ]
    check_invariants(store.database.path)


async def test_an_interrupted_attempt_is_recorded_and_not_counted(store: Store):
    """The row stays owed as it was, fresh or timed."""
    await store.run(accept("a", 1))
    before = await _owed(store)
    assert await store.run(Finish(1, 1, interrupted(), attempt("interrupted", None))) is True
    assert await _owed(store) == before
    view = await _view(store)
    assert (view.row.state, [a.outcome for a in view.attempts]) == (DeliveryState.PENDING, ["interrupted"])
    await store.run(Finish(1, 1, retry_at(NOW_MS), attempt()))
    timed = await _owed(store)
    await store.run(Finish(1, 1, interrupted(), attempt("interrupted", None)))
    assert await _owed(store) == timed
    check_invariants(store.database.path)


async def test_a_postponement_leaves_no_trace_but_its_due_time(store: Store):
    """What could not even be tried waits with the count and the attempts it had."""
    await store.run(accept("a", 1))
    assert await store.run(Finish(1, 1, postponed(NOW_MS + 7))) is True
    view = await _view(store)
    assert (view.row.state, view.row.attempts, view.attempts) == (DeliveryState.PENDING, 0, [])
    await store.run(Finish(1, 1, retry_at(NOW_MS), attempt()))
    counted = await _owed(store)
    await store.run(Finish(1, 1, postponed(NOW_MS + 9)))
    assert [row.attempts for row in await _owed(store)] == [row.attempts for row in counted] == [1]
    check_invariants(store.database.path)


async def test_a_hastened_retry_is_due_at_once_with_the_count_it_had(store: Store):
    """By hand it comes before what is due anyway, uses up nothing of the schedule, and ends like any other."""
    for event in "abc":
        await store.run(accept(event, 1))
    for seq, later_ms in ((1, 5), (2, 9)):
        await store.run(Finish(1, seq, retry_at(NOW_MS + later_ms), attempt()))
    for seq in (2, 3):
        assert await store.run(Finish(1, seq, hastened())) is True
    (answer,) = await store.queue.refill([Ask(1, 0, 10)], NOW_MS + 7)
    assert [(row.event, row.due_at_ms, row.attempts) for row in answer.items] == [
        (2, 0, 1),
        (3, 0, 0),
        (1, NOW_MS + 5, 1),
    ]
    for seq in (2, 3):
        assert await store.run(Finish(1, seq, succeeded(), attempt())) is True
    assert await store.run(Finish(1, 2, hastened())) is False
    check_invariants(store.database.path)


async def test_a_lane_is_hastened_in_slices_the_earliest_first(store: Store):
    """Only retries that are due later move; a first attempt's wish, what is due, and other lanes stay."""
    for event in "abcd":
        await store.run(accept(event, 1, 2))
    await store.run(accept("wish", 1, deliver_after_ms=NOW_MS + 3))
    for seq in (1, 2, 3):
        await store.run(Finish(1, seq, retry_at(NOW_MS + 10 - seq), attempt(started_at_ms=NOW_MS - 100)))
    await store.run(Finish(1, 4, retry_at(NOW_MS - 1), attempt()))
    await store.run(Finish(2, 1, retry_at(NOW_MS + 1), attempt()))
    assert await _hasten(store, 2) == [1, 2, 0], "a look at the wish, which stays, counts as one"
    assert await _hasten(store, 2) == [0]
    dues = {(row.lane, row.event): row.due_at_ms for lane in (1, 2) for row in await _owed(store, lane)}
    assert [dues[1, seq] for seq in (1, 2, 3, 4, 5)] == [0, 0, 0, NOW_MS - 1, NOW_MS + 3]
    assert dues[2, 1] == NOW_MS + 1
    check_invariants(store.database.path)


async def test_a_walk_hastens_each_delivery_once_however_soon_it_fails_again(store: Store):
    """What was tried since the walk began is left alone, wherever it waits again; an end yet to come is not."""
    for event in "abcdef":
        await store.run(accept(event, 1))
    for seq in range(1, 6):
        await store.run(Finish(1, seq, retry_at(NOW_MS + 10 * seq), attempt(started_at_ms=NOW_MS - 100)))
    await store.run(Finish(1, 6, retry_at(NOW_MS + 60), attempt(started_at_ms=NOW_MS + 10**9)))  # the clock was ahead
    first = await store.run(hasten_owed(1, NOW_MS, 2))
    assert (first.moved, first.next) == (2, HastenedUpTo(NOW_MS, NOW_MS + 20, 2))
    # Of those it moved one fails at once and comes among the others; one comes due by itself, and fails.
    await store.run(Finish(1, 1, retry_at(NOW_MS + 35), attempt(started_at_ms=NOW_MS + 1)))
    await store.run(Finish(1, 3, retry_at(NOW_MS + 90), attempt(started_at_ms=NOW_MS - 5)))  # it ended afterwards
    assert await _hasten(store, 2, first.next) == [1, 2, 0]
    dues = {row.event: row.due_at_ms - NOW_MS for row in await _owed(store) if row.due_at_ms}
    assert dues == {1: 35, 3: 90}
    again = await store.run(hasten_owed(1, NOW_MS + 5, 10))
    assert again == Hastened(2, None), "another walk moves them, too"
    check_invariants(store.database.path)


async def test_a_walk_leaves_what_came_due_meanwhile(store: Store):
    """It is tried anyway, and may be in flight."""
    for event in "abcd":
        await store.run(accept(event, 1))
    for seq in range(1, 5):
        await store.run(Finish(1, seq, retry_at(NOW_MS + 10 * seq), attempt(started_at_ms=NOW_MS - 100)))
    first = await store.run(hasten_owed(1, NOW_MS, 1))
    assert first.next is not None
    assert await store.run(hasten_owed(1, NOW_MS + 30, 10, first.next)) == Hastened(1, None)
    assert sorted(row.due_at_ms for row in await _owed(store)) == [0, 0, NOW_MS + 20, NOW_MS + 30]


async def _hasten(store: Store, limit: int, before: HastenedUpTo | None = None) -> list[int]:
    """A walk to its end; what each step moved."""
    step = await store.run(hasten_owed(1, NOW_MS, limit, before))
    return [step.moved, *(await _hasten(store, limit, step.next) if step.next else ())]


async def test_an_end_without_an_attempt_keeps_the_last_one(store: Store):
    """Expiry and cancellation log no request, so the last real one stays visible."""
    await store.run(accept("a", 1))
    await store.run(Finish(1, 1, retry_at(NOW_MS), attempt(error="refused")))
    await store.run(Finish(1, 1, expired()))
    view = await _view(store)
    assert (view.row.state, view.row.attempts, view.row.error) == (DeliveryState.EXPIRED, 1, "refused")


async def test_a_retry_by_hand_opens_a_new_run(store: Store):
    """From a final state: due at once, a fresh schedule, the old attempts kept under their run."""
    await store.run(accept("a", 1, expires_at_ms=NOW_MS))
    await store.run(Finish(1, 1, retry_at(NOW_MS), attempt()))
    await store.run(Finish(1, 1, dead(), attempt()))
    assert await store.run(Finish(1, 1, reopened(NOW_MS))) is True
    (owed,) = await _owed(store)
    assert (owed.phase, owed.due_at_ms, owed.attempts, owed.size, owed.expires_at_ms) == (0, 0, 0, 7, None)
    await store.run(Finish(1, 1, succeeded(), OK))
    view = await _view(store)
    assert (view.row.run, [(a.n, a.run) for a in view.attempts]) == (2, [(1, 1), (2, 1), (3, 2)])
    check_invariants(store.database.path)


async def test_only_a_final_delivery_can_be_reopened(store: Store):
    """Reopening what is pending, or what isn't there, is False."""
    await store.run(accept("a", 1))
    assert await store.run(Finish(1, 1, reopened(NOW_MS))) is False
    assert await store.run(Finish(1, 2, reopened(NOW_MS))) is False
    assert len(await _owed(store)) == 1


def test_several_reports_of_one_delivery_in_one_batch_apply_in_order(engine, tmp_path):
    """Each sees what its forerunner left: retry, success, doubled success, reopening, success."""
    engine.commit([accept("a", 1)])
    steps = [retry_at(NOW_MS), succeeded(), succeeded(), reopened(NOW_MS), succeeded()]
    ops = [Finish(1, 1, step, None if step.reopen else OK) for step in steps]
    assert engine.commit(ops) == [True, True, False, True, True]
    check_invariants(tmp_path / "state" / "ringback.db")


def test_a_batch_mixes_events_and_results_of_every_kind(engine, tmp_path):
    """One transaction takes new events and all kinds of results together."""
    engine.commit([accept(f"e{i}", 1, 2, 3) for i in range(50)])
    steps = [succeeded(), retry_at(NOW_MS), dead(), interrupted(), expired()]
    ops = [Finish(1 + i % 3, 1 + i, steps[i % 5], OK if i % 5 < 4 else None) for i in range(50)]
    mixed = [op for pair in zip(ops, [accept(f"f{i}", 4) for i in range(50)], strict=True) for op in pair]
    answers = engine.commit(mixed)
    assert answers[::2] == [True] * 50
    assert all(isinstance(answer, Accepted) for answer in answers[1::2])
    check_invariants(tmp_path / "state" / "ringback.db")


def test_a_large_batch_of_results_takes_few_statements(engine):
    """256 successes are a handful of statements."""
    engine.commit([accept(f"e{i}", 1) for i in range(256)])
    seen: list[str] = []
    engine._db.set_trace_callback(seen.append)
    assert all(engine.commit([Finish(1, i + 1, succeeded(), OK) for i in range(256)]))
    engine._db.set_trace_callback(None)
    assert len(seen) <= 6


async def test_the_last_full_bodies_of_a_lane_are_kept(store: Store):
    """The newest bodies are whole; older ones are gone; another lane's stay."""
    await store.all(*[accept(f"e{i}", 1, 2) for i in range(30)])
    ops = [Finish(1, i + 1, dead(), attempt(full_body=b"body %d" % i)) for i in range(30)]
    await store.all(*ops[:25], Finish(2, 1, dead(), attempt(full_body=b"other")), *ops[25:])
    kept = [(await _view(store, i + 1)).attempts[0].full_body for i in range(30)]
    assert kept == [None] * (30 - FULL_BODIES_A_LANE) + [b"body %d" % i for i in range(30 - FULL_BODIES_A_LANE, 30)]
    assert (await _view(store, 1, 2)).attempts[0].full_body == b"other"


async def test_what_a_deleted_endpoint_is_owed_is_cancelled_in_steps(store: Store):
    """A step is bounded, leaves out what is in flight, and says how much it did."""
    await store.all(*[accept(f"e{i}", 1, 2) for i in range(7)])
    assert await store.run(cancel_owed(1, 4, keep=(2,))) == 4
    assert await store.run(cancel_owed(1, 4, keep=(2,))) == 2
    assert await store.run(cancel_owed(1, 4, keep=(2,))) == 0
    assert [owed.event for owed in await _owed(store)] == [2]
    assert len(await _owed(store, 2)) == 7
    check_invariants(store.database.path)


async def test_retries_out_of_reach_come_back(store: Store):
    """After a clock that was ahead, retries are due soon; a wish to be delivered later is left alone."""
    far = NOW_MS + 10**10
    await store.all(accept("a", 1), accept("b", 1, deliver_after_ms=far), accept("c", 1))
    await store.run(Finish(1, 1, retry_at(far), attempt()))
    await store.run(Finish(1, 3, retry_at(NOW_MS + 10), attempt()))
    assert await store.run(clamp_timed(1, NOW_MS + 1000, NOW_MS + 500, 100)) == 1
    owed = await _owed(store, now_ms=far)
    assert [(o.event, o.due_at_ms, o.attempts) for o in owed] == [
        (3, NOW_MS + 10, 1),
        (1, NOW_MS + 500, 1),
        (2, far, 0),
    ]
    check_invariants(store.database.path)
