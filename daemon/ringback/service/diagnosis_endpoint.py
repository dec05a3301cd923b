"""What an endpoint's own state has to do with nothing arriving: its standing, proof, filter, secret, lane and attempts.

Role: pure functions from an endpoint's facts to steps for people, beside those of the way (``service.diagnosis``).
Rules: as there; the words of lanes, holds and attempts are ``service.why``'s.
Must not know: sockets, HTTP, SQL, how the facts were gathered.
"""

import shlex
from collections.abc import Sequence

import msgspec

from ringback.core.handshake_kinds import KINDS
from ringback.core.model import DEFAULT_TENANT, DeliveryState, Endpoint, EndpointStatus, OutcomeKind
from ringback.core.times import rfc3339
from ringback.dialects import Dialect
from ringback.kit.redact import redact_url
from ringback.service import why
from ringback.service.diagnosis import Step, ok, problem, warning
from ringback.service.lane_facts import LaneFacts
from ringback.service.proofs import Trying
from ringback.store.views import DeliveryRow

_RESUME = {
    EndpointStatus.PAUSED: "ringback endpoint resume {who}",
    EndpointStatus.DISABLED: "mend what the reason names, then ringback endpoint resume {who}",
    EndpointStatus.FAILED: "mend the receiver's answer to the handshake, then ringback endpoint challenge {who}",
    EndpointStatus.PENDING: "it must answer its handshake: see below",
}

_ELSEWHERE = "no webhook is taken there: is the path right? {update} --url URL"
_REFUSED = "it refuses us: another secret than ours, or it wants a header: ringback verify judges a request"
#: By status, else by its hundreds: what to do about the latest answer.
_CURES = {
    3: "redirects are not followed: {update} --url URL",
    401: _REFUSED,
    403: _REFUSED,
    404: _ELSEWHERE,
    405: _ELSEWHERE,
    413: "the body is too large for it: raise what the receiver, or a proxy before it, takes",
    429: "it is asked too often: {update} --concurrency 1, or a rate_limit by the API",
    5: "the receiver breaks on it: its own log says why",
}


class Standing(msgspec.Struct, frozen=True):
    """What is known of an endpoint. ``owed`` counts up to a cap; ``latest`` are its newest deliveries, newest first."""

    endpoint: Endpoint
    dialect: Dialect | None
    lane: LaneFacts
    owed: int
    capped: bool
    latest: Sequence[DeliveryRow]
    trying: Trying | None
    divert_to: str
    now_ms: int


def standing(facts: Standing) -> list[Step]:
    """All that can be said without asking the receiver."""
    steps = [_status(facts), _filter(facts.endpoint)]
    if facts.endpoint.handshake in KINDS:
        steps.append(_handshake(facts))
    steps += [_secret(facts), _owed(facts), *_lane(facts), _attempts(facts)]
    if facts.divert_to:
        steps.append(diverted(facts.divert_to))
    return steps


def diverted(divert_to: str) -> Step:
    """Everything goes elsewhere."""
    text = f"delivery.divert_to sends everything to {redact_url(divert_to)}"
    return warning("divert", f"{text} instead", "nothing reaches receivers until it is taken out and reloaded")


def _status(facts: Standing) -> Step:
    endpoint = facts.endpoint
    if endpoint.status is EndpointStatus.ACTIVE:
        return ok("endpoint", f"active, {endpoint.dialect}, for {redact_url(endpoint.url)}")
    return problem(
        "endpoint",
        f"it gets nothing: it {why.stopped(endpoint, facts.trying)}",
        _RESUME[endpoint.status].format(who=_called(endpoint)),
    )


def _called(endpoint: Endpoint) -> str:
    """What a command takes for it, as a shell wants it written."""
    if not endpoint.name:
        return endpoint.id
    whose = "" if endpoint.tenant == DEFAULT_TENANT else f" --tenant {endpoint.tenant}"
    return shlex.quote(endpoint.name) + whose


def _filter(endpoint: Endpoint) -> Step:
    patterns = ", ".join(endpoint.events)
    wants = patterns or "everything but the daemon's own types"
    return ok("filter", f"of tenant {endpoint.tenant}'s events it wants {wants}; ringback why EVENT judges one")


def _handshake(facts: Standing) -> Step:
    proof, trying = facts.endpoint.proof, facts.trying
    kind = facts.endpoint.handshake
    if proof is not None and proof.proved_at_ms is not None:
        again = "" if proof.renew_at_ms is None else f"; it is asked again at {rfc3339(proof.renew_at_ms)}"
        return ok("handshake", f"it proved itself by {kind} at {rfc3339(proof.proved_at_ms)}{again}")
    if facts.endpoint.status is EndpointStatus.FAILED or trying is None or trying.failure is None:
        told = facts.endpoint.status_reason or (why.trying_words(trying) if trying else "it has not been asked yet")
    else:
        told = why.trying_words(trying)
    do = "answer the challenge as docs/receivers.md shows; handshake.failed in the log has each try"
    return problem("handshake", f"it has not proved itself by {kind}: {told}", do)


def _secret(facts: Standing) -> Step:
    count, dialect = len(facts.endpoint.secrets), facts.dialect
    if count:
        more = "" if count == 1 else f", and {count - 1} older that still signs"
        return ok("secret", f"it has a secret{more}; does the receiver have the same? ringback verify tells")
    if dialect is None or not dialect.signs:
        return ok("secret", "its dialect signs nothing" if dialect else "its dialect isn't known here")
    do = f"a receiver that checks refuses all: ringback endpoint rotate-secret {_called(facts.endpoint)} makes one"
    return warning("secret", "it has no secret, so nothing is signed", do)


def _owed(facts: Standing) -> Step:
    if not facts.owed:
        return ok("owed", "it is owed nothing: either all was delivered, or no event matched")
    count = f"{'more than ' if facts.capped else ''}{facts.owed}"
    return ok("owed", f"it is owed {count} deliver{'y' if facts.owed == 1 else 'ies'}")


def _lane(facts: Standing) -> list[Step]:
    """Its queue now; that of one that isn't active stands still anyway."""
    lane = facts.lane
    if facts.endpoint.status is not EndpointStatus.ACTIVE:
        return []
    waits = why.lane_waits(lane, facts.now_ms)
    due = lane.next_due_ms if facts.owed else None
    after = "" if due is None else f"; the next retry is due at {rfc3339(max(due, facts.now_ms))}"
    if not waits:
        return [
            ok("lane", f"nothing holds it back: {lane.in_flight} requests in flight, {lane.allowed} allowed{after}")
        ]
    do = "it speeds up by itself with the first success; see the steps below for why it fails"
    if due is not None and due > facts.now_ms:
        do += f"; once it is mended, ringback endpoint retry {_called(facts.endpoint)} sends what waits"
    text = "; ".join(waits) + after
    return [warning("lane", text, do) if lane.failing else ok("lane", text)]


def _attempts(facts: Standing) -> Step:
    tried = [row for row in facts.latest if row.started_at_ms is not None]
    if not tried:
        return ok("attempts", "nothing has been sent to it lately")
    told = ", ".join(why.ended_with(row) for row in tried)
    text = (
        f"its latest {len(tried)} deliveries ended with {told} (newest first)"
        if len(tried) > 1
        else f"its latest delivery ended with {told}"
    )
    if tried[0].state is DeliveryState.SUCCEEDED or (tried[0].status or 0) // 100 == 2:
        return ok("attempts", text)
    look = f"ringback delivery list --endpoint {_called(facts.endpoint)}; delivery show has the answers"
    cure = _cure(facts.endpoint, tried[0])
    return warning("attempts", text, f"{cure}; {look}" if cure else look)


def _cure(endpoint: Endpoint, row: DeliveryRow) -> str:
    """What mends the latest outcome, where the steps of the way don't show it; empty where they do."""
    if row.outcome == OutcomeKind.TIMEOUT:
        cure = "it takes too long: a receiver answers first and works then; {update} --timeout-s SECONDS waits longer"
    else:
        cure = _CURES.get(row.status or 0) or _CURES.get((row.status or 0) // 100, "")
    return cure.format(update=f"ringback endpoint update {_called(endpoint)}")


def tested(delivery_id: str, said: str, *, delivered: bool) -> Step:
    """What came of the test event."""
    if delivered:
        return ok("test", f"ringback.test was delivered: {said}")
    do = (
        f"ringback delivery show {delivery_id} has all of it; it is tried again until it is cancelled (delivery cancel)"
    )
    return problem("test", f"ringback.test was not delivered: {said}", do)


def untested(endpoint: Endpoint) -> Step:
    """Why no test event was sent."""
    return warning(
        "test", f"not sent: the endpoint is {endpoint.status}, so it would only be held", "see endpoint above"
    )
