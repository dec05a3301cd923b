"""What a handshake leaves: the endpoint as it is afterwards, and the lines in the log.

Role: pure functions from an endpoint and the machine's word to the endpoint it becomes, and the words for it.
Rules: ids, names and reasons only; never a token, a secret or a URL's query.
Must not know: how the request was made, when the next one is.
"""

import msgspec

from ringback.core import endpoint_state
from ringback.core.endpoint_state import EndpointEvent
from ringback.core.handshake import AwaitConsent, Finish, Phase, State
from ringback.core.handshake_kinds import Failure, Proved, signs
from ringback.core.model import Endpoint, EndpointStatus, Outcome, Proof
from ringback.kit.log import get_logger
from ringback.service.log_keys import named

_log = get_logger()


class Trying(msgspec.Struct, frozen=True):
    """A handshake under way, for people. ``asked_at_ms``: the latest challenge; ``failure``: of the last that ended.

    ``next_at_ms``: when it is asked again, or, while a consent may still come, until when; None while one is out.
    """

    phase: Phase
    tries: int
    asked_at_ms: int | None = None
    failure: str | None = None
    next_at_ms: int | None = None


def key_of(endpoint: Endpoint) -> tuple[object, ...]:
    """What is proved: if it changes, an answer no longer counts."""
    return (endpoint.url, endpoint.handshake, endpoint.secrets if signs(endpoint.handshake) else ())


def after(endpoint: Endpoint, state: State, action: AwaitConsent | Finish, now_ms: int) -> Endpoint:
    """The endpoint once the machine has spoken."""
    if isinstance(action, AwaitConsent):
        waiting = Proof(consent=state.consent, consent_until_ms=action.until_ms)
        return msgspec.structs.replace(endpoint, proof=waiting, updated_at_ms=now_ms)
    proof, reason, event = None, None, EndpointEvent.CHALLENGE_PASSED
    if isinstance(action.result, Failure):
        reason, event = str(action.result), EndpointEvent.CHALLENGE_FAILED
    else:
        renew_at_ms = None if action.renew_after_s is None else now_ms + round(action.renew_after_s * 1000)
        proof = Proof(now_ms, renew_at_ms, action.result.per_min, action.result.origin)
    moved = endpoint_state.apply(endpoint, event, now_ms=now_ms, reason=reason)
    if isinstance(moved, endpoint_state.Refused):
        raise TypeError("a challenge's end is refused nowhere")
    sent = (endpoint.proof.origin if endpoint.proof else None) != (proof.origin if proof else None)
    return msgspec.structs.replace(moved, proof=proof, updated_at_ms=now_ms, revision=moved.revision + sent)


def facts_of(state: State, outcome: Outcome | None = None) -> dict[str, object]:
    """What every line of a handshake says of it."""
    facts: dict[str, object] = {"kind": state.kind, "attempt": state.tries}
    if outcome is not None:
        facts["elapsed_ms"] = outcome.elapsed_ms
        if outcome.status is not None:
            facts["status"] = outcome.status
    return facts


def say(name: str, endpoint: Endpoint, **facts: object) -> None:
    """A line about an endpoint; what went wrong is a warning."""
    keys = {**named(endpoint), **facts}
    (_log.warning if "error" in facts else _log.info)(name, **keys)


def tell(old: Endpoint, new: Endpoint, result: Proved | Failure, facts: dict[str, object]) -> None:
    """The end of a handshake, and what became of the endpoint by it."""
    if isinstance(result, Failure):
        say("handshake.failed", new, reason=result.reason, error=result.detail, **facts)
        if endpoint_state.standing(new) is EndpointStatus.FAILED:
            say("endpoint.failed", new, reason=result.reason, error=result.detail)
        return
    say("handshake.passed", new, **facts)
    if new.status is EndpointStatus.ACTIVE and old.status is not EndpointStatus.ACTIVE:
        say("endpoint.activated", new, reason=None)
