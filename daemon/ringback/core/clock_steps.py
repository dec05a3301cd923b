"""Was the wall clock set? What may be believed of stored times afterwards.

Role: compares how far the wall clock and the monotonic one went; says for how long nothing may be pruned (a clock that
jumped ahead makes everything look old) and for how long due times out of reach may be brought back (they were written
by a clock that was ahead).
Rules: time is an argument. A long sleep of the machine looks like a jump ahead: then pruning waits an hour, no more.
Must not know: what is pruned or due.
"""

import msgspec

#: A jump back, or ahead, that counts. Smaller ones are the work of a time service.
BACK_MS = 60_000
AHEAD_MS = 3_600_000
#: How long each caution lasts.
CAUTION_S = 3600.0


class Trust(msgspec.Struct, frozen=True):
    """The last reading of both clocks and the cautions in force, in monotonic seconds."""

    wall_ms: int
    monotonic_s: float
    prune_from_s: float = 0.0
    reach_until_s: float = 0.0


def begin(wall_ms: int, monotonic_s: float, newest_ms: int | None) -> Trust:
    """At start. ``newest_ms``: when the newest event was accepted; later than now, the clock was ahead or is behind."""
    behind = newest_ms is not None and newest_ms > wall_ms + BACK_MS
    return Trust(wall_ms, monotonic_s, reach_until_s=monotonic_s + CAUTION_S if behind else 0.0)


def look(trust: Trust, wall_ms: int, monotonic_s: float) -> tuple[Trust, int]:
    """The next reading; also by how many milliseconds the wall clock was set, 0 if it wasn't."""
    stepped_ms = round(wall_ms - trust.wall_ms - (monotonic_s - trust.monotonic_s) * 1000)
    prune_from_s, reach_until_s = trust.prune_from_s, trust.reach_until_s
    if stepped_ms >= AHEAD_MS:
        prune_from_s = monotonic_s + CAUTION_S
    elif stepped_ms <= -BACK_MS:
        reach_until_s = monotonic_s + CAUTION_S
    else:
        stepped_ms = 0
    return Trust(wall_ms, monotonic_s, prune_from_s, reach_until_s), stepped_ms
