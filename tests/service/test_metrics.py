"""What is counted, under which labels, and how often the table is asked."""

import asyncio

import pytest

from ringback.core.lifecycle import dead, interrupted, retry_at, succeeded
from ringback.core.model import AttemptRecord, DeliveryState, Owed, Phase, Verdict
from ringback.core.window import Signal
from ringback.service.attempt import Ended
from ringback.service.backlog import KEPT_S, SHARE, Backlog, BacklogLook
from ringback.service.metrics import OTHER, REJECTION_CODES, Metrics, Tally
from ringback.store.errors import QueryTimeout


def ended(transition, outcome="delivered", started_at_ms=1_500, elapsed_ms=20):
    """An attempt's end."""
    return Ended(transition, AttemptRecord(started_at_ms, elapsed_ms, outcome), Signal.SUCCESS, Verdict.DELIVERED)


def owed(phase=Phase.FRESH):
    """A delivery as its lane holds it."""
    return Owed(1, 1, phase, 0, 0, 10)


def nonzero(tally):
    """Labels with anything counted."""
    return {label: count for label, count in tally.counts.items() if count}


def test_labels_are_a_fixed_list():
    """Whatever a producer or a receiver makes up is counted as other; no label is ever added."""
    tally = Tally(("a", "b"))
    for n in range(1000):
        tally.add(f"made-up-{n}")
    tally.add("a")
    assert tally.counts == {"a": 1, "b": 0, OTHER: 1000}


def test_every_refusal_of_the_contract_has_its_label():
    """A code of the events socket is never folded away."""
    assert {"invalid_json", "invalid_event", "unknown_field", "too_large", "conflict", "forbidden", "overloaded",
            "storage_full", "shutting_down", "unknown_outcome"} <= set(REJECTION_CODES)  # fmt: skip


def test_an_attempt_counts_once_and_a_delivery_when_it_ends():
    """A retry and an interruption end no delivery; success and death do."""
    kept = Metrics()
    for transition, outcome in (
        (retry_at(9), "timeout"), (interrupted(), "interrupted"), (succeeded(), "delivered"), (dead(), "bad_status"),
    ):  # fmt: skip
        kept.attempted(owed(), 1_000, ended(transition, outcome))
    assert nonzero(kept.attempts) == {"timeout": 1, "interrupted": 1, "delivered": 1, "bad_status": 1}
    assert nonzero(kept.deliveries) == {"succeeded": 1, "dead": 1}
    assert kept.attempt_s.total == pytest.approx(0.08)
    assert kept.accept_to_attempt_s.total == pytest.approx(2.0)


def test_a_retrys_wait_is_not_an_acceptances():
    """Only deliveries that were never tried and asked for no time tell how long acceptance to attempt takes."""
    kept = Metrics()
    kept.attempted(owed(Phase.TIMED), 1_000, ended(succeeded()))
    assert sum(kept.accept_to_attempt_s.counts) == 0
    kept.attempted(owed(), 2_000, ended(succeeded()))
    assert kept.accept_to_attempt_s.total == 0, "a clock set back makes no negative wait"


def test_an_end_without_an_attempt_is_an_end():
    """Expiry and cancellation count deliveries, not attempts."""
    kept = Metrics()
    kept.ended(DeliveryState.CANCELLED, 3)
    kept.attempted(owed(), 0, Ended(dead(), None, Signal.NEUTRAL, Verdict.GIVE_UP))
    assert nonzero(kept.deliveries) == {"cancelled": 3, "dead": 1}
    assert nonzero(kept.attempts) == {}


class Ticking:
    """A clock by hand."""

    now_s = 100.0

    def monotonic(self):
        return self.now_s


class Queue:
    """A table whose look takes as long as it is told."""

    def __init__(self, clock):
        self.clock, self.looks, self.takes_s, self.fails = clock, 0, 0.0, False

    async def backlog(self):
        self.looks += 1
        self.clock.now_s += self.takes_s
        await asyncio.sleep(0)
        if self.fails:
            raise QueryTimeout("too long")
        return self.looks, 7


async def test_the_table_is_looked_at_seldom():
    """Scrapes within a few seconds share a look, also those that come at once."""
    clock = Ticking()
    queue = Queue(clock)
    look = BacklogLook(queue, clock)
    assert await asyncio.gather(*(look.get() for _ in range(20))) == [Backlog(1, 7)] * 20
    clock.now_s += KEPT_S
    assert await look.get() == Backlog(2, 7)


async def test_a_long_look_buys_a_long_rest():
    """Looking takes one part in SHARE of the time, however large the table is; a timeout leaves the last look."""
    clock = Ticking()
    queue = Queue(clock)
    look = BacklogLook(queue, clock)
    await look.get()
    clock.now_s += KEPT_S
    queue.takes_s, queue.fails = 2.0, True
    assert await look.get() == Backlog(1, 7)
    clock.now_s += 2.0 * SHARE - 3
    assert await look.get() == Backlog(1, 7)
    assert queue.looks == 2
    queue.fails = False
    clock.now_s += 1
    assert await look.get() == Backlog(3, 7)
