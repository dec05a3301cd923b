"""How often one endpoint may be called: a bucket whose tokens come back one by one, as values.

A token taken at a moment is back ``per_s`` seconds later, so no stretch of ``per_s`` seconds ever sees more than
``requests`` starts, wherever it begins. A bucket refilled steadily would let nearly twice as many pass in its first
stretch, and a receiver that named a limit counts in stretches. After idling, ``requests`` may start at once.

Starts are remembered in at most ``GRAINS`` groups for each limit, whatever ``requests`` is; a group comes back whole,
when its last token does, which costs at most one part in ``GRAINS`` of the rate and never exceeds it.
Pure: values in, values out; ``now_s`` is the monotonic clock. Must not know: whose limit it is, what is sent.
"""

import msgspec

from ringback.core.model import RateLimit

#: Groups of starts remembered for one limit.
GRAINS = 64

#: One group: when its first and its last token were taken, and how many there are.
Grain = tuple[float, float, int]


class Meter(msgspec.Struct, frozen=True):
    """The limits one endpoint is under, all of which must hold, and what was taken of each; oldest groups first."""

    limits: tuple[RateLimit, ...]
    taken: tuple[tuple[Grain, ...], ...]


def meter(limits: tuple[RateLimit, ...], before: Meter | None = None) -> Meter | None:
    """A meter for these limits, None for none. What ``before`` has counted goes on counting.

    A limit that stays keeps its own record; another takes the one that reaches back furthest.
    """
    if not limits:
        return None
    if before is None:
        return Meter(limits, ((),) * len(limits))
    records = dict(zip(before.limits, before.taken, strict=True))
    longest = records[max(before.limits, key=lambda limit: limit.per_s)]
    return Meter(limits, tuple(records.get(limit, longest) for limit in limits))


def free_at_s(meter: Meter, now_s: float) -> float:
    """When the next request may start: ``now_s`` or earlier if it may now."""
    at_s = now_s
    for limit, grains in zip(meter.limits, meter.taken, strict=True):
        live = _live(limit, grains, now_s)
        out = sum(count for _, _, count in live)
        for _, last_s, count in live:  # oldest first: wait until enough of them are back
            if out < limit.requests:
                break
            at_s = max(at_s, last_s + limit.per_s)
            out -= count
    return at_s


def take(meter: Meter, now_s: float) -> Meter:
    """The meter after a request started now. Whether it may start is ``free_at_s``'s answer."""
    pairs = zip(meter.limits, meter.taken, strict=True)
    return Meter(meter.limits, tuple(_taken(limit, grains, now_s) for limit, grains in pairs))


def _taken(limit: RateLimit, grains: tuple[Grain, ...], now_s: float) -> tuple[Grain, ...]:
    live = _live(limit, grains, now_s)
    if live and now_s - live[-1][0] < limit.per_s / GRAINS:
        first_s, _, count = live[-1]
        return (*live[:-1], (first_s, now_s, count + 1))
    return (*live, (now_s, now_s, 1))


def _live(limit: RateLimit, grains: tuple[Grain, ...], now_s: float) -> tuple[Grain, ...]:
    """The groups whose tokens aren't back yet."""
    gone = 0
    while gone < len(grains) and grains[gone][1] + limit.per_s <= now_s:
        gone += 1
    return grains[gone:] if gone else grains
