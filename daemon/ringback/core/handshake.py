"""The handshake: a step machine from the first challenge to proved or failed.

Role: ``step(state, event) -> (state, action)``; the service carries the action out and comes back with the next event.
Rules: everything that decides is here or in ``core.handshake_kinds``. What an event can't mean in a state changes
nothing, so late and doubled reports are harmless. A token is good for one challenge: a new try has a new one. Each walk
ends after at most ``2 * tries + 2`` steps.
Must not know: the network, storage, the log, what time it is.
"""

import hashlib
import hmac
from enum import StrEnum
from typing import assert_never

import msgspec

from ringback.core.handshake_kinds import (
    KINDS,
    Ask,
    Challenge,
    ConsentLater,
    Failure,
    Kind,
    Proved,
    judge_consent,
)
from ringback.core.model import Outcome, OutcomeKind

#: Seconds after each failure that may pass, of a first proof and of a renewal: what works is given more time.
GAPS_S = (2.0, 10.0)
RENEWAL_GAPS_S = (10.0, 60.0, 300.0, 1800.0, 7200.0)
#: How long a receiver may take to consent by calling back.
#: What could not even be asked, because this process had no socket for it, is asked after this long.
NO_RESOURCES_REST_S = 2.0
CONSENT_WINDOW_S = 3 * 86_400

#: What the network's failures are called here; all of them may pass.
_NETWORK = {
    OutcomeKind.DNS_FAILED: "unreachable",
    OutcomeKind.CONNECT_FAILED: "unreachable",
    OutcomeKind.CONNECT_TIMEOUT: "unreachable",
    OutcomeKind.RESET: "unreachable",
    OutcomeKind.TLS_FAILED: "tls_failed",
    OutcomeKind.TIMEOUT: "late",
    OutcomeKind.PROTOCOL_ERROR: "protocol_error",
}


class Phase(StrEnum):
    """Where a handshake stands."""

    READY = "ready"  #: may ask: at the beginning, or after a rest
    ASKED = "asked"  #: a challenge is out
    CONSENTING = "consenting"  #: asked, answered, and waiting for the receiver to call back
    PASSED = "passed"
    FAILED = "failed"


class State(msgspec.Struct, frozen=True):
    """One handshake. ``tries`` counts challenges made; ``gaps_s`` are the rests between them.

    ``consent``: hex SHA-256 of the token that may still come by the callback, until ``consent_until_ms``.
    """

    kind: str
    phase: Phase = Phase.READY
    tries: int = 0
    gaps_s: tuple[float, ...] = GAPS_S
    challenge: Challenge | None = None
    consent: str | None = None
    consent_until_ms: int = 0


class Begin(msgspec.Struct, frozen=True):
    """It is time to ask."""

    challenge: Challenge


class Replied(msgspec.Struct, frozen=True):
    """The request ended."""

    outcome: Outcome
    now_ms: int


class Consented(msgspec.Struct, frozen=True):
    """Somebody called the callback with this token. ``allowed``, ``rate``: its headers' words, "" if absent."""

    token: str
    now_ms: int
    origin: str
    allowed: str = ""
    rate: str = ""


class Lapsed(msgspec.Struct, frozen=True):
    """Time went by."""

    now_ms: int


class Send(msgspec.Struct, frozen=True):
    """Make this request."""

    ask: Ask
    timeout_s: float
    max_reply_bytes: int


class Rest(msgspec.Struct, frozen=True):
    """It failed; begin again after ``delay_s``, with a fresh token."""

    delay_s: float
    failure: Failure


class AwaitConsent(msgspec.Struct, frozen=True):
    """Wait for the callback until then."""

    until_ms: int


class Decline(msgspec.Struct, frozen=True):
    """The call back isn't a consent; the token stays good."""

    failure: Failure


class Finish(msgspec.Struct, frozen=True):
    """It is over."""

    result: Proved | Failure
    renew_after_s: float | None = None


Event = Begin | Replied | Consented | Lapsed
Action = Send | Rest | AwaitConsent | Decline | Finish | None


def digest(token: str) -> str:
    """What is kept of a consent token."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()


def step(state: State, event: Event) -> tuple[State, Action]:
    """The next state, and what to do. None: nothing; the state is then the very same object."""
    kind = KINDS[state.kind]
    if isinstance(event, Begin):
        return _begin(state, kind, event.challenge) if state.phase is Phase.READY else (state, None)
    if isinstance(event, Replied):
        return _replied(state, kind, event) if state.phase is Phase.ASKED else (state, None)
    if isinstance(event, Consented):
        return _consented(state, kind, event) if state.phase in (Phase.ASKED, Phase.CONSENTING) else (state, None)
    if isinstance(event, Lapsed):
        late = state.phase is Phase.CONSENTING and event.now_ms >= state.consent_until_ms
        return _failed(state, Failure("no_consent", "the receiver did not consent in time")) if late else (state, None)
    assert_never(event)


def _begin(state: State, kind: Kind, challenge: Challenge) -> tuple[State, Action]:
    asked = msgspec.structs.replace(state, phase=Phase.ASKED, tries=state.tries + 1, challenge=challenge)
    return asked, Send(kind.ask(challenge), kind.timeout_s, kind.max_reply_bytes)


def _replied(state: State, kind: Kind, event: Replied) -> tuple[State, Action]:
    challenge, outcome = state.challenge, event.outcome
    if challenge is None:
        raise AssertionError("asked without a challenge")
    if outcome.kind in (OutcomeKind.INTERRUPTED, OutcomeKind.NO_RESOURCES):  # not its doing: as if it was not asked
        unasked = msgspec.structs.replace(state, phase=Phase.READY, tries=state.tries - 1, challenge=None)
        if outcome.kind is OutcomeKind.INTERRUPTED:
            return unasked, None
        return unasked, Rest(NO_RESOURCES_REST_S, Failure(outcome.kind.value, outcome.error or "", passing=True))
    judged = _spoiled(kind, outcome) or kind.judge(challenge, outcome)
    if isinstance(judged, Proved):
        return _passed(state, kind, judged)
    if isinstance(judged, ConsentLater):
        until_ms = event.now_ms + CONSENT_WINDOW_S * 1000
        waiting = msgspec.structs.replace(
            state,
            phase=Phase.CONSENTING,
            consent=digest(challenge.token),
            consent_until_ms=until_ms,
            challenge=None,
        )
        return waiting, AwaitConsent(until_ms)
    if judged.passing and state.tries <= len(state.gaps_s):
        resting = msgspec.structs.replace(state, phase=Phase.READY, challenge=None)
        return resting, Rest(state.gaps_s[state.tries - 1], judged)
    return _failed(state, judged)


def _spoiled(kind: Kind, outcome: Outcome) -> Failure | None:
    """What is wrong with an answer whatever the kind; None: the kind must read it."""
    status = outcome.status
    if outcome.kind is not OutcomeKind.RESPONSE or status is None:
        words = outcome.error or outcome.kind.value.replace("_", " ")
        return Failure(_NETWORK.get(outcome.kind, outcome.kind.value), words, passing=outcome.kind in _NETWORK)
    if 300 <= status <= 399:
        return Failure("redirected", f"the receiver answered {status}; redirects are not followed")
    if status >= 500 or status in (408, 429):
        return Failure("bad_status", f"the receiver answered {status}", passing=True)
    if outcome.elapsed_ms > kind.timeout_s * 1000:
        return Failure("late", f"the answer took longer than {kind.timeout_s:g} s", passing=True)
    return _unreadable(kind, outcome) if 200 <= status <= 299 else None


def _unreadable(kind: Kind, outcome: Outcome) -> Failure | None:
    """A body that didn't come whole, or is too long."""
    if outcome.error is not None:
        return Failure("protocol_error", outcome.error, passing=True)
    if outcome.truncated or len(outcome.body) > kind.max_reply_bytes:
        return Failure("oversized", f"the answer has more than {kind.max_reply_bytes} bytes")
    return None


def _consented(state: State, kind: Kind, event: Consented) -> tuple[State, Action]:
    wanted = state.consent
    if state.phase is Phase.ASKED and kind.calls_back and state.challenge is not None:  # it called before it answered
        wanted = digest(state.challenge.token)
    if not hmac.compare_digest(digest(event.token), wanted or ""):
        return state, None
    if state.phase is Phase.CONSENTING and event.now_ms >= state.consent_until_ms:
        return _failed(state, Failure("no_consent", "the receiver did not consent in time"))
    judged = judge_consent(event.origin, event.allowed or "*", event.rate)
    return _passed(state, kind, judged) if isinstance(judged, Proved) else (state, Decline(judged))


def _passed(state: State, kind: Kind, proved: Proved) -> tuple[State, Action]:
    return _ended(state, Phase.PASSED), Finish(proved, kind.renew_after_s)


def _failed(state: State, failure: Failure) -> tuple[State, Action]:
    return _ended(state, Phase.FAILED), Finish(failure)


def _ended(state: State, phase: Phase) -> State:
    """Over: no token works any more."""
    return msgspec.structs.replace(state, phase=phase, challenge=None, consent=None, consent_until_ms=0)
