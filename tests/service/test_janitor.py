"""The janitor's steps: what they cost, and that they come to an end."""

import pytest
from tests.harness.world import FakeClock
from tests.store.kit import NOW_MS, accept, check_invariants, opened

from ringback.core.model import Endpoint, RetryPolicy
from ringback.core.schedule import Board, Limits
from ringback.kit.clock import SystemClock
from ringback.service.effective import Effective
from ringback.service.janitor import CANCEL_ROWS, DAY_MS, STEP_ROWS, Janitor, Keep


class Endpoints:
    """Every lane has an endpoint whose retries come within seconds."""

    def by_lane(self, lane):
        times = {"created_at_ms": NOW_MS, "updated_at_ms": NOW_MS}
        return Endpoint(lane=lane, id=f"e{lane}", tenant="t", url="https://example.com", dialect="standard", **times)

    def effective(self, _endpoint):
        return Effective(8, 30.0, RetryPolicy(delays_s=(1.0, 5.0)))


@pytest.fixture
async def store(tmp_path):
    """A running store."""
    async with opened(tmp_path) as running:
        yield running


def janitor_of(store, board, clock=None):
    """A janitor of this store that prunes nothing."""
    keep = Keep(30 * DAY_MS, 14 * DAY_MS)
    return Janitor(
        board=board,
        endpoints=Endpoints(),
        reads=store.queue,
        writer=store.writer,
        clock=clock or SystemClock(),
        keep=keep,
        in_flight=frozenset,
        kick=lambda _: None,
    )


async def test_a_step_of_expiries_is_one_commit_or_two(store):
    """A backlog that expires at a paused endpoint must not cost a synced commit for every row."""
    await store.all(*[accept(f"e{n}", 1, expires_at_ms=NOW_MS) for n in range(STEP_ROWS + 1)])
    before = len(store.commits)
    await janitor_of(store, Board(Limits())).turn(NOW_MS + 1)
    assert await store.queue.owed_count(1, STEP_ROWS) == 1
    assert len(store.commits) - before < 20


async def test_what_a_deleted_endpoint_is_owed_goes_in_large_steps(store):
    """Under load a step has its turn only now and then, so a backlog of thousands takes two commits, not a dozen."""
    await store.all(*[accept(f"e{n}", 1, 2) for n in range(CANCEL_ROWS + 1)])
    janitor = janitor_of(store, Board(Limits()))
    janitor._deleted.add(1)
    before = len(store.commits)
    while await janitor.turn(NOW_MS + 1) == 0:
        pass
    assert (await store.queue.owed_count(1, 1), await store.queue.owed_count(2, CANCEL_ROWS + 2)) == (
        0,
        CANCEL_ROWS + 1,
    )
    assert len(store.commits) - before < 10
    check_invariants(store.database.path)


async def test_what_a_deleted_endpoint_is_owed_goes_at_once(store):
    """Who deletes one and then lists what was cancelled needn't wait for the next look; other changes wake nobody."""
    janitor = janitor_of(store, Board(Limits()))
    janitor.changed(1)
    assert not await janitor.wake.wait(0, SystemClock())
    janitor._endpoints.by_lane = lambda _lane: None
    janitor.changed(1)
    assert await janitor.wake.wait(0, SystemClock())


async def test_deliveries_wished_for_much_later_are_not_walked_through_every_second(store):
    """A lane whose far due times are its producers' wish costs the writer one look, not one a turn."""
    board = Board(Limits())
    board.lane(1, "t", 8).note_due(NOW_MS + DAY_MS)
    await store.run(accept("late", 1, deliver_after_ms=NOW_MS + DAY_MS))
    janitor = janitor_of(store, board)
    await janitor.turn(NOW_MS)
    before = len(store.commits)
    for second in range(1, 6):
        await janitor.turn(NOW_MS + second * 1000)
    assert len(store.commits) == before
    assert await store.queue.owed_count(1, 9) == 1


async def test_a_clock_that_jumped_ahead_prunes_nothing(store):
    """A month's step of the wall clock must not delete a month of events."""
    clock = FakeClock()
    await store.run(accept("kept"))
    janitor = janitor_of(store, Board(Limits()), clock)
    await janitor.turn(clock.now_ms())
    clock.advance(120)
    clock.step(400 * 86_400)
    await janitor.turn(clock.now_ms())
    assert await store.queue.names([1])
    clock.advance(3700)
    await janitor.turn(clock.now_ms())
    assert not await store.queue.names([1])
