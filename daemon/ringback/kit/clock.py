"""Time and chance: the only module that reads a clock, sleeps or draws random numbers.

Made once, in the command line's entry, and handed down. Wall-clock milliseconds are what is stored; the monotonic
clock only measures. Tests hand in their own.
"""

import asyncio
import random
import time
from typing import Protocol

import uuid_utils


class Clock(Protocol):
    """Where time comes from."""

    def now_ms(self) -> int:
        """Wall clock, integer milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow; for measuring."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class Chance(Protocol):
    """Where randomness and fresh ids come from."""

    def uniform(self) -> float:
        """A number in [0, 1)."""
        ...

    def new_id(self) -> str:
        """A fresh UUIDv7 as text."""
        ...

    def token(self, size: int) -> bytes:
        """That many unguessable bytes."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Wall clock, integer milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only ever grow; for measuring."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)


class SystemChance:
    """The machine's randomness."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._jitter = random.Random()  # noqa: S311 - jitter needs speed, not secrecy

    def uniform(self) -> float:
        """A number in [0, 1), cheap, for jitter."""
        return self._jitter.random()

    def new_id(self) -> str:
        """A fresh UUIDv7 as text."""
        return str(uuid_utils.uuid7())

    def token(self, size: int) -> bytes:
        """That many unguessable bytes."""
        return self._random.randbytes(size)
