"""How many requests one endpoint may have in flight right now: slow start, gentle growth, quick retreat.

The arithmetic is Postfix's destination feedback cut down to what a webhook needs: a lane nobody has heard from yet
gets one request; each success widens it by ``1 / size`` (one more a full round) up to the endpoint's cap, and only
while the window is really used; a failure halves it. So an endpoint that comes back from an outage with a long
backlog meets one request, then two, not its whole cap at once.

Pure: values in, values out. It must not know what a failure was, only that it was one.
"""

from enum import IntEnum

import msgspec

#: Smallest window: one request is always allowed, it is the probe that finds out whether an endpoint is back.
MIN_SIZE = 1.0


class Signal(IntEnum):
    """What an ended attempt says about its endpoint's health."""

    SUCCESS = 0
    ANSWERED = 1  #: an answer about this one event (4xx but 408 and 429): the endpoint is alive, no reason to widen
    FAILURE = 2  #: no answer, a time-out, 5xx, 408 or 429: the endpoint is unwell
    NEUTRAL = 3  #: an end that was not the endpoint's doing: cut off by us, forbidden by us


class Window(msgspec.Struct, frozen=True, gc=False):
    """A lane's window. ``size`` may be fractional; ``floor(size)`` requests may be in flight.

    ``failures`` counts those in a row. ``proved``: it has answered at least once, here or before a restart.
    """

    size: float = MIN_SIZE
    failures: int = 0
    proved: bool = False


def after(window: Window, signal: Signal, in_flight: int, cap: int) -> Window:
    """The window after one attempt ended; ``in_flight`` counts the ended one."""
    if signal is Signal.NEUTRAL:
        return window
    if signal is Signal.FAILURE:
        return Window(max(MIN_SIZE, min(window.size, cap) / 2), window.failures + 1, window.proved)
    size = window.size
    if signal is Signal.SUCCESS and size < cap and in_flight + 1 >= size:
        size = min(float(cap), size + 1.0 / size)
    if size == window.size and window.proved and not window.failures:
        return window
    return Window(size, 0, proved=True)
