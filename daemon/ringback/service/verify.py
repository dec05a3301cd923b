"""Handshakes: every endpoint that must prove itself is challenged, and challenged again when its proof runs out.

Role: carries ``core.handshake``'s answers out: sends by the same sender as deliveries, waits, writes what came of it.
Rules: at most ``MAX_AT_ONCE`` challenges are out, of one tenant and at one host fewer (``core.places``), so that who
hangs keeps nobody else from being proved; a report that comes after the url, the secret or the kind changed is
dropped; what is under way lives in memory alone, so a start challenges every pending endpoint anew, but a consent that
may still come by the callback outlives a restart (its token's hash lies with the endpoint). While everything is
diverted nothing is challenged: the answer would not be the receiver's.
Must not know: what a kind asks or takes for a proof, SQL.
"""

import asyncio
import heapq
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ringback.core import endpoint_state, handshake
from ringback.core.endpoint_state import EndpointEvent
from ringback.core.handshake import (
    RENEWAL_GAPS_S,
    AwaitConsent,
    Begin,
    Consented,
    Decline,
    Finish,
    Lapsed,
    Phase,
    Replied,
    Rest,
    Send,
    State,
)
from ringback.core.handshake_kinds import KINDS, Challenge, Proved
from ringback.core.model import Endpoint, EndpointStatus, Outcome, OutcomeKind, Request
from ringback.core.places import Place, Places
from ringback.core.signing import live
from ringback.core.times import rfc3339
from ringback.dialects._base import USER_AGENT
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.kit.redact import redact_url
from ringback.kit.wake import WakeUp
from ringback.service.attempt import Sends
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed, Endpoints
from ringback.service.proofs import Trying, after, facts_of, key_of, say, tell
from ringback.store.errors import StoreError

#: Challenges out at the same time.
MAX_AT_ONCE = 64
#: After a result that could not be written: the handshake is made again.
AGAIN_S = 5.0
#: Where a receiver calls back to consent later.
CALLBACK_PATH = "/api/v1/handshakes/"
#: Entries of the plan that are out of date may be this many more than those that aren't.
MAX_STALE = 1024

_log = get_logger()


class Us(msgspec.Struct, frozen=True):
    """Who we say we are. ``public_url``: where receivers reach the API, "" nowhere; ``origin``: the name we go by."""

    origin: str = "localhost"
    public_url: str = ""


@dataclass(slots=True, eq=False)
class _Run:
    """One handshake under way. ``key``: what is being proved; another one makes this run's reports void.

    ``asked_at_ms`` and ``failure`` are of the latest try, for people. ``despite``: begun by hand at an endpoint that
    was disabled already, so that it goes on to its end.
    """

    lane: int
    key: tuple[object, ...]
    state: State
    asked_at_ms: int | None = None
    failure: str | None = None
    despite: bool = False


class Verify:
    """Owns the handshakes under way and the plan of those to come."""

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        sender: Sends,
        clock: Clock,
        chance: Chance,
        us: Us,
        connect_timeout_s: float = 5.0,
        divert_to: str = "",
    ) -> None:
        self.wake = WakeUp()
        self._endpoints = endpoints
        self._sender = sender
        self._clock = clock
        self._chance = chance
        self._us = us
        self._connect_timeout_s = connect_timeout_s
        self._diverted = bool(divert_to)
        self._runs: dict[int, _Run] = {}
        self._at_ms: dict[int, int] = {}  # when a lane is next looked at
        self._plan: list[tuple[int, int]] = []  # the same as a heap, with entries that are out of date
        self._places = Places()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None

    # -- what others tell and ask ------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Plan what every endpoint needs: at start, and when nothing is diverted any more."""
        endpoints = list(self._endpoints)
        if self._diverted and any(endpoint_state.standing(e) is EndpointStatus.PENDING for e in endpoints):
            _log.warning("handshake.postponed", reason="delivery.divert_to is set")
        for endpoint in endpoints:
            self.changed(endpoint.lane)

    def reconfigure(self, connect_timeout_s: float, divert_to: str) -> None:
        """Take new settings from here on."""
        self._connect_timeout_s, self._diverted = connect_timeout_s, bool(divert_to)
        self.fill()

    def changed(self, lane: int) -> None:
        """An endpoint was made, changed, proved or deleted."""
        endpoint, run = self._endpoints.by_lane(lane), self._runs.get(lane)
        if endpoint is None or (run is not None and run.key != key_of(endpoint)):
            self._drop(lane)
            run = None
        if endpoint is None or run is not None or not self._may(endpoint):
            return
        standing, proof = endpoint_state.standing(endpoint), endpoint.proof
        if standing is EndpointStatus.PENDING:
            self._start(endpoint, State(endpoint.handshake))
        elif standing is EndpointStatus.ACTIVE and proof is not None and proof.renew_at_ms is not None:
            self._plan_at(lane, proof.renew_at_ms)

    def trying(self, lane: int) -> Trying | None:
        """How far an endpoint's handshake has come; None if none is under way."""
        run = self._runs.get(lane)
        if run is None:
            return None
        return Trying(run.state.phase, run.state.tries, run.asked_at_ms, run.failure, self._at_ms.get(lane))

    async def challenge(self, endpoint_id: str) -> Changed | Refusal:
        """Have an endpoint prove itself now. Raises StoreError if it can't be written."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is not None and endpoint.handshake not in KINDS:
            return Refusal(
                "conflict", f"{endpoint.name or endpoint.id} has handshake {endpoint.handshake}, which asks nothing"
            )
        if self._diverted:
            return Refusal("conflict", "delivery.divert_to is set: the answer would not be the receiver's")
        return await self._endpoints.change(endpoint_id, self._challenged)

    async def consent(self, token: str, allowed: str, rate: str) -> Changed | Refusal:
        """A receiver called back: ``allowed`` and ``rate`` are its headers' words. Raises StoreError."""
        event = Consented(token, self._clock.now_ms(), self._us.origin, allowed, rate)
        for run in list(self._runs.values()):
            state, action = handshake.step(run.state, event)
            endpoint = self._endpoints.by_lane(run.lane)
            if action is None or endpoint is None:
                continue
            if isinstance(action, Decline):
                return Refusal("invalid_consent", str(action.failure))
            run.state = state
            problem = await self._act(run, endpoint, action, None)
            if problem is not None:
                raise problem
            passed = isinstance(action, Finish) and isinstance(action.result, Proved)
            current = self._endpoints.by_lane(run.lane)
            meant = current is not None and key_of(current) == run.key  # else it changed meanwhile: nothing was proved
            return Changed(current) if passed and current is not None and meant else _no_such_token()
        return _no_such_token()

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def turn(self, now_ms: int) -> float | None:
        """Begin what is due; seconds until the next, None if nothing is planned or all places are taken."""
        if self._bug is not None:
            raise self._bug
        for lane in self._places.ready(MAX_AT_ONCE - len(self._tasks)):
            self._plan_at(lane, now_ms)
        while self._plan and self._plan[0][0] <= now_ms:
            if len(self._tasks) >= MAX_AT_ONCE:
                return None
            at_ms, lane = heapq.heappop(self._plan)
            if self._at_ms.get(lane) == at_ms:
                del self._at_ms[lane]
                self._due(lane, now_ms)
        return (self._plan[0][0] - now_ms) / 1000 if self._plan else None

    async def stop(self) -> None:
        """Cut off what is out; the next start asks again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one handshake -----------------------------------------------------------------------------------------------

    def _due(self, lane: int, now_ms: int) -> None:
        """The time of a lane has come: a try, the end of a wait, or a renewal."""
        endpoint, run = self._endpoints.by_lane(lane), self._runs.get(lane)
        if endpoint is None:
            return
        resting = run is None or (run.state.phase is Phase.READY and not run.despite)
        if not self._may(endpoint) and (resting or self._diverted):
            self._drop(lane)  # planned again when it may: by ``changed`` or ``fill``
            return
        if run is None:
            run = self._runs[lane] = _Run(lane, key_of(endpoint), State(endpoint.handshake, gaps_s=RENEWAL_GAPS_S))
        if run.state.phase is Phase.CONSENTING:
            run.state, action = handshake.step(run.state, Lapsed(now_ms))
            if action is not None:
                self._spawn(self._lapse(run, endpoint, action))
        elif run.state.phase is Phase.READY:
            place = (endpoint.tenant, urlsplit(endpoint.url).hostname or endpoint.url)
            if self._places.take(lane, place):
                self._spawn(self._ask(run, endpoint), place)

    async def _lapse(self, run: _Run, endpoint: Endpoint, action: handshake.Action) -> None:
        await self._act(run, endpoint, action, None)

    async def _ask(self, run: _Run, endpoint: Endpoint) -> None:
        run.asked_at_ms = self._clock.now_ms()
        run.state, action = handshake.step(run.state, Begin(self._challenge(endpoint)))
        if not isinstance(action, Send):
            return
        own = {name.lower() for name in endpoint.headers}
        plain = (header for header in action.ask.headers if header[0].lower() not in own)
        request = Request(
            method=action.ask.method,
            url=action.ask.url,
            headers=(("user-agent", USER_AGENT), *plain, *endpoint.headers.items()),
            body=action.ask.body,
            tls_verify=endpoint.tls_verify,
            connect_timeout_s=min(self._connect_timeout_s, action.timeout_s),
            max_response_bytes=action.max_reply_bytes,
        )
        say("handshake.sent", endpoint, url=redact_url(endpoint.url), **facts_of(run.state))
        outcome = await self._sender.send(request, action.timeout_s)
        if self._runs.get(run.lane) is not run:
            _log.debug("handshake.outdated", endpoint_id=endpoint.id, tenant=endpoint.tenant)
            return
        if outcome.kind is OutcomeKind.EGRESS_DENIED:
            say("egress.denied", endpoint, url=redact_url(endpoint.url), error=outcome.error)
        run.state, then = handshake.step(run.state, Replied(outcome, self._clock.now_ms()))
        await self._act(run, endpoint, then, outcome)

    async def _act(
        self, run: _Run, endpoint: Endpoint, action: handshake.Action, outcome: Outcome | None
    ) -> StoreError | None:
        """Carry out what the machine said. What can't be written is asked for again, and answered."""
        now_ms = self._clock.now_ms()
        facts = facts_of(run.state, outcome)
        if isinstance(action, Rest):
            run.failure, due_at_ms = str(action.failure), now_ms + round(action.delay_s * 1000)
            facts |= {"reason": action.failure.reason, "error": action.failure.detail, "due_at": rfc3339(due_at_ms)}
            say("handshake.failed", endpoint, **facts)
            self._plan_at(run.lane, due_at_ms)
        elif isinstance(action, AwaitConsent | Finish):
            try:
                await self._write(run, action, facts, now_ms)
            except StoreError as problem:
                say("handshake.unrecorded", endpoint, error=problem.message, **facts)
                self._again(run, endpoint, now_ms)
                return problem
        return None

    async def _write(self, run: _Run, action: AwaitConsent | Finish, facts: dict[str, object], now_ms: int) -> None:
        before: list[Endpoint] = []

        def make(endpoint: Endpoint) -> Endpoint | Refusal:
            before.append(endpoint)
            if self._runs.get(run.lane) is not run or key_of(endpoint) != run.key:
                return Refusal("conflict", "it changed meanwhile")
            return after(endpoint, run.state, action, now_ms)

        done = await self._endpoints.change(self._id_of(run.lane), make)
        if isinstance(action, AwaitConsent):
            if isinstance(done, Changed):
                say("handshake.waiting", done.endpoint, until=rfc3339(action.until_ms), **facts)
                self._plan_at(run.lane, action.until_ms)
            return
        if self._runs.get(run.lane) is run:
            self._drop(run.lane)
            self.changed(run.lane)
        if isinstance(done, Changed):
            tell(before[0], done.endpoint, action.result, facts)

    def _again(self, run: _Run, endpoint: Endpoint, now_ms: int) -> None:
        """Begin anew in a while, if it is still this that has to be proved."""
        if self._runs.get(run.lane) is run:
            run.state = State(endpoint.handshake, gaps_s=run.state.gaps_s)
            self._plan_at(run.lane, now_ms + round(AGAIN_S * 1000))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _challenged(self, endpoint: Endpoint) -> Endpoint | Refusal:
        """A challenge by hand: put under way here, before any listener is told, so that it is one and not two."""
        moved = endpoint_state.apply(endpoint, EndpointEvent.CHALLENGED, now_ms=self._clock.now_ms())
        if isinstance(moved, endpoint_state.Refused):
            return Refusal(moved.code, moved.message)
        run = self._runs.get(endpoint.lane)
        if run is None or run.key != key_of(endpoint) or run.state.phase is not Phase.ASKED:
            self._start(moved, State(moved.handshake), anew=True)
        return moved

    def _challenge(self, endpoint: Endpoint) -> Challenge:
        now_ms = self._clock.now_ms()
        token = self._chance.token(KINDS[endpoint.handshake].token_bytes).hex()
        limit, base = endpoint.rate_limit, self._us.public_url.rstrip("/")
        return Challenge(
            url=endpoint.url,
            token=token,
            now_ms=now_ms,
            secrets=live(endpoint.secrets, now_ms),
            origin=self._us.origin,
            callback_url=f"{base}{CALLBACK_PATH}{token}" if base else "",
            topic=f"{base or 'http://localhost'}/api/v1/endpoints/{endpoint.id}",
            per_min=None if limit is None else max(1, int(limit.requests * 60 / limit.per_s)),
        )

    def _may(self, endpoint: Endpoint) -> bool:
        """Whether it is challenged without being told to: one that is disabled asked not to be called."""
        asks = endpoint.handshake in KINDS and endpoint.status is not EndpointStatus.DISABLED
        return asks and not self._diverted

    def _start(self, endpoint: Endpoint, state: State, *, anew: bool = False) -> None:
        """Put a handshake under way; one that waited for a consent goes on waiting, unless it is made ``anew``."""
        at_ms, proof = self._clock.now_ms(), endpoint.proof
        if proof is not None and proof.consent is not None and proof.consent_until_ms is not None and not anew:
            at_ms = proof.consent_until_ms
            state = msgspec.structs.replace(
                state, phase=Phase.CONSENTING, consent=proof.consent, consent_until_ms=at_ms
            )
        despite = endpoint.status is EndpointStatus.DISABLED
        self._runs[endpoint.lane] = _Run(endpoint.lane, key_of(endpoint), state, despite=despite)
        self._plan_at(endpoint.lane, at_ms)

    def _drop(self, lane: int) -> None:
        self._runs.pop(lane, None)
        self._at_ms.pop(lane, None)
        self._places.forget(lane)

    def _plan_at(self, lane: int, at_ms: int) -> None:
        self._places.forget(lane)
        if self._at_ms.get(lane) != at_ms:
            self._at_ms[lane] = at_ms
            heapq.heappush(self._plan, (at_ms, lane))
        if len(self._plan) > 2 * len(self._at_ms) + MAX_STALE:
            self._plan = [(at, number) for number, at in self._at_ms.items()]
            heapq.heapify(self._plan)
        self.wake.wake()

    def _id_of(self, lane: int) -> str:
        endpoint = self._endpoints.by_lane(lane)
        return "" if endpoint is None else endpoint.id

    def _spawn(self, work: Coroutine[Any, Any, None], place: Place | None = None) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        if place is not None:
            task.add_done_callback(lambda _: self._places.leave(place))
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bug = bug
        self.wake.wake()


def _no_such_token() -> Refusal:
    return Refusal("not_found", "there is no such handshake, or it is over")
