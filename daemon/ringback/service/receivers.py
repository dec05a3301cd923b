"""Who stands behind each lane, and the lanes themselves: made when first needed, kept by what counts for their owner.

Role: finds the endpoint of a lane, or the receiver of an event's callback; gives the board its lanes, with their caps,
rates and what is known of their health; forgets the lanes of callbacks that are drained.
Rules: a lane of somebody who isn't active is made closed; an endpoint's lane stays until the endpoint is deleted.
Must not know: attempts, results, the table.
"""

from typing import Protocol

from ringback.core.lane import Lane
from ringback.core.model import Endpoint, EndpointStatus, Event
from ringback.core.schedule import Board
from ringback.service.callbacks import Callbacks
from ringback.service.effective import Effective
from ringback.service.health import Health

#: Seconds between looks for callback lanes that were drained by something else than an attempt.
SWEEP_EVERY_S = 30.0


class KnowsEndpoints(Protocol):
    """The endpoints as they are now."""

    def by_lane(self, lane: int) -> Endpoint | None:
        """The endpoint of that lane; None once it is deleted."""
        ...

    def effective(self, endpoint: Endpoint) -> Effective:
        """Its cap, deadline and retry policy, defaults filled in."""
        ...


class Receivers:
    """Looked up anew for each use: they change."""

    def __init__(self, board: Board, endpoints: KnowsEndpoints, callbacks: Callbacks, health: Health) -> None:
        self._board = board
        self._endpoints = endpoints
        self._callbacks = callbacks
        self._health = health
        self._sweep_at_s = 0.0

    def of(self, number: int, event: Event | None = None) -> Endpoint | None:
        """Who gets what that lane owes: an endpoint, or the receiver of this event's callback."""
        return self._endpoints.by_lane(number) or self._callbacks.stand_in(number, event)

    def lane_of(self, number: int) -> Lane | None:
        """The lane of that number, made if need be; None if nobody stands behind it any more."""
        lane = self._board.lanes.get(number)
        if lane is not None:
            return lane
        endpoint = self.of(number)
        return None if endpoint is None else self.lane(endpoint)

    def lane(self, endpoint: Endpoint) -> Lane:
        """The lane of whoever stands behind it, with the cap and the rates that count now."""
        made = endpoint.lane not in self._board.lanes
        effective = self._endpoints.effective(endpoint)
        lane = self._board.lane(endpoint.lane, endpoint.tenant, effective.concurrency, effective.rates)
        if made:
            lane.window = self._health.window(endpoint.lane) or lane.window
            if endpoint.status is not EndpointStatus.ACTIVE:
                self._board.close(lane)
        return lane

    def defaults_changed(self) -> None:
        """What counts for callbacks may be something else now; of an endpoint that is told by itself."""
        for number in self._callbacks.lanes:
            endpoint = self._callbacks.stand_in(number)
            if endpoint is not None and number in self._board.lanes:
                self.lane(endpoint)

    def retire(self, number: int) -> None:
        """Forget a callback's lane that is drained; an endpoint's stays."""
        if number in self._callbacks.lanes:
            lane = self._board.lanes.get(number)
            if lane is None or lane.drained:
                self._callbacks.release(number)
                if lane is not None:
                    self._board.drop(lane)

    def sweep(self, now_s: float) -> None:
        """Now and then: retire what was drained by something else than an attempt. ``now_s``: monotonic."""
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + SWEEP_EVERY_S
            for number in list(self._callbacks.lanes):
                self.retire(number)
