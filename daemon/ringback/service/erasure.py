"""Erasing an event, or all that a tenant has, while the daemon goes on.

Role: takes what is to be erased out of everybody's hands, has the table overwrite it, and carries a tenant's erasure to
its end, over restarts too.
Rules:
- Once an erasure is answered nothing of it is sent that was not on its way already; an attempt that is under way ends,
  and its result changes nothing.
- A tenant's endpoints, tokens and keys go before the answer, its events behind it, in small steps through the one
  writer. What is sent for that tenant after the answer is new and stays.
- When all is written the log of the database is emptied, for it holds pages as they were before.
Must not know: SQL, HTTP, how keys are kept.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from ringback.core.model import DeliveryState
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.service.callbacks import Callbacks
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Endpoints
from ringback.service.metrics import Metrics
from ringback.service.tokens import Tokens
from ringback.store import erase
from ringback.store.erasure_reads import ErasureReads, Standing
from ringback.store.errors import StoreError
from ringback.store.writer import Writer

#: Events that one step erases.
STEP_EVENTS = 256
#: Seconds until what couldn't be written, or wiped, is tried again.
AGAIN_S = 1.0

_log = get_logger()


class HoldsBodies(Protocol):
    """Events in memory."""

    def forget(self, seq: int) -> None:
        """It must not be sent any more."""
        ...

    def forget_tenant(self, tenant: str) -> None:
        """Nothing of that tenant is kept."""
        ...

    def regain(self, seq: int) -> None:
        """It was not erased after all."""
        ...


class HoldsDeliveries(Protocol):
    """The dispatcher."""

    @property
    def bodies(self) -> HoldsBodies:
        """What it holds of events."""
        ...

    def withhold(self, event: int, lane: int) -> None:
        """Start no attempt of this delivery until ``give_back``."""
        ...

    def give_back(self, event: int, lane: int) -> None:
        """Its row has changed, or stays as it was."""
        ...

    def changed(self, lane: int) -> None:
        """Whoever stands behind that lane has changed or is gone."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """A tenant's erasure has begun: how many events are to be looked at, how many endpoints are gone."""

    events: int
    endpoints: int


class _Doing:
    """An erasure under way. ``locked``: its keys are destroyed. ``hour``: how far the statistics are."""

    __slots__ = ("erased", "hour", "locked", "up_to")

    def __init__(self, up_to: int, *, locked: bool) -> None:
        self.up_to = up_to
        self.locked = locked
        self.hour = -1
        self.erased = 0


class Erasure:
    """Verbs for the API, a ``turn`` for the steps. ``wipe()`` empties the database's log; False: it couldn't now.

    A tenant's keys are destroyed once what its erasure goes by is on disk, before its events are touched.
    """

    def __init__(
        self,
        *,
        reads: ErasureReads,
        writer: Writer,
        endpoints: Endpoints,
        callbacks: Callbacks,
        tokens: Tokens,
        dispatch: HoldsDeliveries,
        clock: Clock,
        wipe: Callable[[], bool],
        metrics: Metrics | None = None,
    ) -> None:
        self.wake = WakeUp()
        self._reads = reads
        self._writer = writer
        self._endpoints = endpoints
        self._callbacks = callbacks
        self._tokens = tokens
        self._dispatch = dispatch
        self._clock = clock
        self._wipe = wipe
        self._metrics = metrics or Metrics()
        self._doing: dict[str, _Doing] = {}
        self._unwiped = False

    async def resume(self) -> None:
        """Take up what an earlier run left; to be awaited before anything is taken in."""
        for found in await self._reads.under_way():
            self._doing[found.tenant] = _Doing(found.up_to, locked=found.locked)
            _log.info("tenant.erasing", tenant=found.tenant, resumed=True)
            await self._try_lock(found.tenant)
        self._unwiped = bool(self._doing)

    # -- the verbs ---------------------------------------------------------------------------------------------------

    async def event(self, tenant: str, event_id: str) -> int | Refusal:
        """Erase one event; answers when it was erased (wall clock, milliseconds), the first time if more than once.

        Raises StoreError if it can't be written.
        """
        found = await self._reads.find(tenant, event_id)
        if found is None:
            return _no_event(tenant, event_id)
        seq, erased_at_ms, lanes = found
        if erased_at_ms is None:
            done = await self._erase(tenant, event_id, seq, lanes)
            if done is None:
                return _no_event(tenant, event_id)  # retention was quicker
            erased_at_ms = done.erased_at_ms
        return erased_at_ms

    async def tenant(self, name: str) -> Asked | Refusal:
        """Begin to erase all that a tenant has up to now. Raises StoreError if it can't be written."""
        task = erase.begin_erasure(name, self._clock.now_ms())

        def forget(begun: erase.Begun | None) -> None:
            """At once: a token or a callback's lane that the same commit made behind it is new, and stays."""
            if begun is not None:
                self._forget(name, begun)

        begun = await self._endpoints.erase(name, lambda: self._writer.run(task, forget))
        if isinstance(begun, Refusal):
            return begun
        if begun is None:
            return _no_tenant(name)
        _log.info("tenant.erasing", tenant=name, events=begun.events, endpoints=begun.endpoints)
        await self._try_lock(name)
        self.wake.wake()
        return Asked(begun.events, begun.endpoints)

    async def look(self, name: str) -> Standing | Refusal:
        """How much there is of a tenant. May raise QueryTimeout."""
        return await self._reads.standing(name) or _no_tenant(name)

    async def is_gone(self, tenant: str, event_id: str, seq: int) -> bool:
        """Whether an event was erased, or belongs to a tenant's erasure that is under way."""
        doing = self._doing.get(tenant)
        if doing is not None and seq <= doing.up_to:
            return True
        found = await self._reads.find(tenant, event_id)
        return found is not None and found[1] is not None

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def turn(self, now_ms: int) -> float | None:
        """One step of the erasure that was asked for first; seconds until the next, None if there is nothing to do."""
        try:
            for tenant, doing in self._doing.items():
                await self._step(tenant, doing, now_ms)
                return 0.0
        except StoreError as problem:
            _log.warning("erasure.postponed", code=problem.code)
            return AGAIN_S
        if self._unwiped:
            self._unwiped = False
            self._unwiped |= not await asyncio.to_thread(self._wipe)
        return AGAIN_S if self._unwiped else None

    async def _step(self, tenant: str, doing: _Doing, now_ms: int) -> None:
        if not doing.locked and not await self._try_lock(tenant):
            await self._clock.sleep(AGAIN_S)
            return
        step = await self._writer.run(erase.erase_next(tenant, STEP_EVENTS, now_ms, doing.hour))
        if step.keys_first:  # it is being asked for again at this moment
            doing.locked = False
            return
        doing.erased += step.events
        doing.hour = step.hour
        self._metrics.ended(DeliveryState.CANCELLED, step.cancelled)
        if not step.more and self._doing.get(tenant) is doing:  # else it was asked for again
            del self._doing[tenant]
            self._unwiped = True
            _log.info("tenant.erased", tenant=tenant, events=doing.erased)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _forget(self, tenant: str, begun: erase.Begun) -> None:
        """Take what is to be erased out of everybody's hands; its endpoints go by themselves."""
        self._tokens.forget_tenant(tenant)
        for lane in self._callbacks.forget_tenant(tenant):
            self._dispatch.changed(lane)
        self._dispatch.bodies.forget_tenant(tenant)
        self._doing[tenant] = _Doing(begun.up_to, locked=False)

    async def _erase(self, tenant: str, event_id: str, seq: int, lanes: list[int]) -> erase.ErasedEvent | None:
        dispatch = self._dispatch
        dispatch.bodies.forget(seq)
        for lane in lanes:
            dispatch.withhold(seq, lane)
        try:
            done = await self._writer.run(erase.erase_event(tenant, event_id, self._clock.now_ms()))
        except StoreError:
            dispatch.bodies.regain(seq)
            raise
        finally:
            for lane in lanes:
                dispatch.give_back(seq, lane)
        if done is not None and not done.already:
            self._metrics.ended(DeliveryState.CANCELLED, done.cancelled)
            _log.info("event.erased", event_id=event_id, tenant=tenant, cancelled=done.cancelled)
        self._unwiped = True
        self.wake.wake()
        return done

    async def _try_lock(self, tenant: str) -> bool:
        """Have the tenant's keys destroyed, and note it; False: not now, the turn tries again."""
        doing = self._doing.get(tenant)
        if doing is None or doing.locked:  # or the turn has come to its end meanwhile
            return True
        try:
            doing.up_to = await self._writer.run(erase.destroy_keys(tenant))
        except StoreError as problem:
            _log.warning("erasure.postponed", tenant=tenant, error=str(problem))
            return False
        doing.locked = True
        return True


def _no_event(tenant: str, event_id: str) -> Refusal:
    return Refusal("not_found", f"tenant {tenant} has no event {event_id}")


def _no_tenant(name: str) -> Refusal:
    return Refusal("not_found", f"there is no tenant {name}")
