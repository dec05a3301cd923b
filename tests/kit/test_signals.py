"""What signals do: ask for a stop, ask to hurry, ask for a reload; and nothing at the very end."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
import uvloop

from ringback.kit.signals import StopSignals

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The handlers of the tests' own process."""
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_asks_to_stop_and_the_next_to_hurry() -> None:
    """SIGTERM and SIGINT alike; SIGHUP is handed on and stops nothing."""

    async def ask() -> None:
        signals, hangup = StopSignals(), asyncio.Event()
        signals.listen(hangup.set)
        async with asyncio.timeout(TIMEOUT_S):
            os.kill(os.getpid(), signal.SIGHUP)
            await hangup.wait()
            assert not signals.stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await signals.stop.wait()
            assert not signals.hurry.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            await signals.hurry.wait()

    uvloop.run(ask())


def test_what_comes_after_the_end_changes_nothing() -> None:
    """The loop is closed, the process about to end: none of them ends it by another code, nor with a traceback."""

    async def end() -> None:
        signals = StopSignals()
        signals.listen(lambda: None)
        signals.ignore()

    uvloop.run(end())
    for number in ALL:
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)
