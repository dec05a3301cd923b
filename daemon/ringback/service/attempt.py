"""One attempt: render, send, judge, and name what follows.

Role: from an owed id and its event to an ``Ended`` value: the operation for the writer, the signal for the lane, the
facts for the log. One sender, one judge, one log for whatever is sent.
Rules: never raises; cancellation by its owner becomes an interrupted attempt; our own bugs are logged, recorded as
``internal_error`` and counted, so that a poisoned delivery can't loop for ever.
Must not know: queues, turns, SQL.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from ringback import dialects
from ringback.core import retry
from ringback.core.lifecycle import after_attempt, dead
from ringback.core.model import (
    AttemptInfo,
    AttemptRecord,
    Endpoint,
    Outcome,
    OutcomeKind,
    Owed,
    Request,
    RetryPolicy,
    Transition,
    Verdict,
)
from ringback.core.names import Names
from ringback.core.verdict import attempt_error, attempt_outcome, judge
from ringback.core.window import Signal
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.service.bodies import Body
from ringback.service.rendering import Rendered, dialect_of, digest_of, render, shot_of

#: Bytes of a response body kept with every attempt: of a 2xx, of anything else (the last 20 are kept in full).
KEPT_OF_SUCCESS = 1024
KEPT_OF_FAILURE = 4096
#: Response headers kept with an attempt.
KEPT_HEADERS = 32

_NOT_ITS_DOING = frozenset(
    {OutcomeKind.EGRESS_DENIED, OutcomeKind.INTERRUPTED, OutcomeKind.NO_RESOURCES, OutcomeKind.INTERNAL_ERROR}
)
_encode_info = msgspec.msgpack.Encoder().encode
_log = get_logger()


class Sends(Protocol):
    """The seam to the network."""

    async def send(self, request: Request, timeout_s: float) -> Outcome:
        """Make one request; whatever becomes of it is a value."""
        ...


class Policy(Protocol):
    """What an endpoint's attempts go by, defaults filled in."""

    @property
    def timeout_s(self) -> float:
        """The whole request's deadline."""
        ...

    @property
    def retry(self) -> RetryPolicy:
        """When to try again."""
        ...


class Ended(msgspec.Struct, frozen=True):
    """What one attempt came to. Without a record there was none: it expired, or could not even be tried."""

    transition: Transition
    record: AttemptRecord | None
    signal: Signal
    verdict: Verdict


def _nobody(_lack: str) -> None:
    """Whom a shortage is told to until somebody asks for it."""


class Attempts:
    """Makes attempts. ``divert_to``: a URL that gets everything instead, or an empty text. ``names``: of types."""

    def __init__(
        self,
        *,
        sender: Sends,
        clock: Clock,
        chance: Chance,
        connect_timeout_s: float,
        max_response_bytes: int,
        divert_to: str = "",
        names: Names | None = None,
    ) -> None:
        self._names = names or dialects.vocabulary({})
        self._sender = sender
        self._clock = clock
        self._chance = chance
        self._connect_timeout_s = connect_timeout_s
        self._max_response_bytes = max_response_bytes
        self._divert_to = divert_to
        #: told in words whenever a request could not be made for want of our own resources
        self.on_shortage: Callable[[str], None] = _nobody

    def reconfigure(self, connect_timeout_s: float, max_response_bytes: int, divert_to: str) -> None:
        """Go by these from the next attempt on."""
        self._connect_timeout_s = connect_timeout_s
        self._max_response_bytes = max_response_bytes
        self._divert_to = divert_to

    async def make(self, item: Owed, body: Body, endpoint: Endpoint, policy: Policy) -> Ended:
        """Make the next attempt of ``item`` at ``endpoint``."""
        started_at_ms = self._clock.now_ms()
        began_s = self._clock.monotonic()
        encoded = b""
        encoder = 0
        try:
            dialect = dialect_of(endpoint)
            encoder = dialect.encoder
            shot = shot_of(self._names, dialect, endpoint, body.event, body.accepted_at_ms, item.event)
            made = render(dialect, endpoint, shot, started_at_ms, self._divert_to, body.encoded)
            encoded = made.encoded
            request = self._request(endpoint, made)
            outcome = await self._sender.send(request, policy.timeout_s)
            verdict = judge(outcome, dialect.judge)
        except asyncio.CancelledError:
            outcome = Outcome(OutcomeKind.INTERRUPTED, error="cut off because the daemon was stopping")
            verdict = Verdict.UNCOUNTED
        except Exception as bug:  # noqa: BLE001 - logged whole and recorded: one poisoned delivery must not end the rest
            _log.exception("attempt.bug", endpoint_id=endpoint.id, event_id=body.event.id)
            outcome = Outcome(OutcomeKind.INTERNAL_ERROR, error=f"internal error: {type(bug).__name__}")
            verdict = Verdict.RETRY
        elapsed_ms = round((self._clock.monotonic() - began_s) * 1000)
        now_ms = self._clock.now_ms()
        transition = after_attempt(
            verdict,
            item.attempts,
            policy=policy.retry,
            now_ms=now_ms,
            u=self._chance.uniform() if verdict in (Verdict.RETRY, Verdict.POSTPONE) else 0.5,
            retry_after_ms=_retry_after_ms(outcome, now_ms) if verdict is Verdict.RETRY else None,
            expires_at_ms=item.expires_at_ms,
        )
        if verdict is Verdict.POSTPONE:  # no row each: a shortage may last, and there is nothing to tell of an endpoint
            self.on_shortage(outcome.error or "")
            return Ended(transition, None, Signal.NEUTRAL, verdict)
        info = _info(endpoint, encoder, started_at_ms, encoded, outcome)
        record = AttemptRecord(
            started_at_ms=started_at_ms,
            elapsed_ms=elapsed_ms,
            outcome=attempt_outcome(outcome),
            status=outcome.status,
            error=attempt_error(outcome),
            info=_encode_info(info),
            full_body=outcome.body if len(outcome.body) > len(info.body) else None,
        )
        return Ended(transition, record, signal_of(outcome), verdict)

    def _request(self, endpoint: Endpoint, made: Rendered) -> Request:
        return Request(
            method=made.method,
            url=made.url,
            headers=made.headers,
            body=made.body,
            tls_verify=endpoint.tls_verify,
            connect_timeout_s=self._connect_timeout_s,
            max_response_bytes=self._max_response_bytes,
        )


def corrupt(now_ms: int) -> Ended:
    """The data on disk isn't what was accepted: nothing is sent, the delivery ends with a name for it."""
    error = "the stored data is gone or fails its checksum; it was not sent"
    record = AttemptRecord(now_ms, 0, "data_corrupt", error=error)
    return Ended(dead(), record, Signal.NEUTRAL, Verdict.GIVE_UP)


def without_details(ended: Ended) -> Ended:
    """The same end, recorded with words of our own only: for a record that the store could not take."""
    record = ended.record
    if record is None:
        return ended
    bare = msgspec.structs.replace(record, error="details could not be recorded", info=b"", full_body=None)
    return msgspec.structs.replace(ended, record=bare)


def signal_of(outcome: Outcome) -> Signal:
    """What an outcome says about the endpoint's health."""
    if outcome.kind in _NOT_ITS_DOING:
        return Signal.NEUTRAL
    status = outcome.status
    if outcome.kind is not OutcomeKind.RESPONSE or status is None:
        return Signal.FAILURE
    if 200 <= status <= 299:
        return Signal.SUCCESS
    return Signal.ANSWERED if 400 <= status <= 499 and status not in (408, 429) else Signal.FAILURE


def _retry_after_ms(outcome: Outcome, now_ms: int) -> int | None:
    for name, value in outcome.headers:
        if name.lower() == "retry-after":
            return retry.parse_retry_after(value, now_ms)
    return None


def _info(endpoint: Endpoint, encoder: int, signed_at_ms: int, encoded: bytes, outcome: Outcome) -> AttemptInfo:
    succeeded = outcome.status is not None and 200 <= outcome.status <= 299
    kept = outcome.body[: KEPT_OF_SUCCESS if succeeded else KEPT_OF_FAILURE]
    return AttemptInfo(
        revision=endpoint.revision,
        encoder=encoder,
        signed_at_ms=signed_at_ms,
        digest=digest_of(encoded),
        headers=outcome.headers[:KEPT_HEADERS],
        body=kept,
        truncated=outcome.truncated or len(outcome.body) > len(kept),
    )
