"""Wake-ups: hints coalesce, none is lost, and a loop's bug reaches its owner."""

import asyncio

import pytest

from ringback.kit.clock import SystemClock
from ringback.kit.wake import POLL_S, WakeUp, run_turns


class HandClock:
    """A clock whose sleeps end when the test says so."""

    def __init__(self):
        self.now = 1_000
        self.sleeps = []  # (seconds, future)

    def now_ms(self):
        return self.now

    def monotonic(self):
        return self.now / 1000

    async def sleep(self, seconds):
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done = asyncio.get_running_loop().create_future()
        self.sleeps.append((seconds, done))
        await done

    def pass_time(self):
        seconds, done = self.sleeps.pop()
        self.now += int(seconds * 1000)
        done.set_result(None)


async def settle():
    """Let everything happen that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_hint_before_the_wait_is_not_lost():
    """What was hinted between a turn and its wait brings the next turn at once."""
    wake = WakeUp()
    wake.wake()
    wake.wake()
    assert await wake.wait(None, HandClock()) is True


async def test_hints_coalesce():
    """Any number of hints makes one turn: the second wait is a wait again."""
    wake, clock = WakeUp(), HandClock()
    for _ in range(5):
        wake.wake()
    await wake.wait(None, clock)
    waiting = asyncio.ensure_future(wake.wait(None, clock))
    await settle()
    assert not waiting.done()
    wake.wake()
    assert await waiting is True


async def test_the_time_ends_a_wait():
    """Without a hint the wait ends when its time is up, and says so."""
    wake, clock = WakeUp(), HandClock()
    waiting = asyncio.ensure_future(wake.wait(2.5, clock))
    await settle()
    assert clock.sleeps[0][0] == 2.5
    assert not waiting.done()
    clock.pass_time()
    assert await waiting is False


async def test_a_hint_ends_a_timed_wait_and_its_timer():
    """A woken loop leaves no timer behind."""
    wake, clock = WakeUp(), HandClock()
    waiting = asyncio.ensure_future(wake.wait(60, clock))
    await settle()
    wake.wake()
    assert await waiting is True
    await settle()
    assert clock.sleeps[0][1].cancelled()


async def test_a_cancelled_wait_leaves_no_timer_and_can_be_repeated():
    """Interrupting a loop leaves nothing running, and the hint works for the next one."""
    wake, clock = WakeUp(), HandClock()
    waiting = asyncio.ensure_future(wake.wait(60, clock))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await settle()
    assert clock.sleeps[0][1].cancelled()
    wake.wake()
    assert await wake.wait(60, clock) is True


async def test_one_hint_has_one_waiter():
    """Two loops on one hint would steal each other's wake-ups: refused."""
    wake, clock = WakeUp(), HandClock()
    waiting = asyncio.ensure_future(wake.wait(None, clock))
    await settle()
    with pytest.raises(RuntimeError, match="one waiter"):
        await wake.wait(None, clock)
    wake.wake()
    await waiting


async def test_a_wait_always_lets_others_run():
    """A loop that is always woken, or has no delay, doesn't starve the rest."""
    wake, clock, ran = WakeUp(), SystemClock(), []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    wake.wake()
    await wake.wait(None, clock)
    assert ran == [1]
    asyncio.get_running_loop().call_soon(ran.append, 2)
    assert await wake.wait(0, clock) is False
    assert ran == [1, 2]


async def test_a_clock_that_fails_is_not_swallowed():
    """A broken clock ends the wait with its own error."""

    class Broken(HandClock):
        async def sleep(self, seconds):
            raise OSError("no clock")

    with pytest.raises(OSError, match="no clock"):
        await WakeUp().wait(1, Broken())


async def test_turns_get_one_now_and_wait_for_what_they_asked():
    """Each turn is told the time once; its delay is slept, at most the poll interval."""
    clock, wake, turns = HandClock(), WakeUp(), []
    delays = iter([1.5, None, 10_000.0])

    async def turn(now_ms):
        turns.append(now_ms)
        return next(delays)

    loop = asyncio.ensure_future(run_turns(turn, clock, wake))
    await settle()
    assert turns == [1_000]
    assert [seconds for seconds, _ in clock.sleeps] == [1.5]
    clock.pass_time()
    await settle()
    assert turns == [1_000, 2_500]
    assert [seconds for seconds, _ in clock.sleeps] == [POLL_S]
    wake.wake()
    await settle()
    assert turns == [1_000, 2_500, 2_500]
    assert clock.sleeps[-1][0] == POLL_S
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_a_hint_during_a_turn_brings_another():
    """Work announced while a turn runs is not left for the poll."""
    clock, wake, turns = HandClock(), WakeUp(), []

    async def turn(now_ms):
        turns.append(now_ms)
        if len(turns) < 3:
            wake.wake()
        await asyncio.sleep(0)

    loop = asyncio.ensure_future(run_turns(turn, clock, wake))
    await settle()
    assert len(turns) == 3
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_an_exception_in_a_turn_ends_the_loop():
    """A bug is passed to the loop's owner, not retried and not hidden."""

    async def turn(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_turns(turn, HandClock(), WakeUp())
