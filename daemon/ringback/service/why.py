"""Why things stand as they do, in plain words: of a delivery, an event or an endpoint.

Role: pure functions from facts to sentences. The one place that explains the rules to people.
Rules: says what happened (the timeline), what it waits for now, and when it goes on by which rule; every sentence can
be acted on. Never a payload, a secret or a URL's query; a receiver's words are cut short and made printable.
Must not know: HTTP, SQL, how the facts were gathered.
"""

from collections.abc import Sequence

import msgspec

from ringback.core import retry
from ringback.core.endpoint_state import standing
from ringback.core.handshake import Phase
from ringback.core.lifecycle import AT_ONCE_MS
from ringback.core.model import DeliveryState, Endpoint, EndpointStatus, OutcomeKind, Peer, RetryPolicy
from ringback.core.times import rfc3339
from ringback.core.verdict import BAD_STATUS, DELIVERED
from ringback.kit.redact import redact_url
from ringback.service.lane_facts import LaneFacts
from ringback.service.proofs import Trying
from ringback.service.views import HELD, IN_FLIGHT, read_info
from ringback.store.views import AttemptView, DeliveryRow

#: Of a receiver's own words.
MAX_QUOTED_CHARS = 160
#: Counting how many are ahead ends here.
AHEAD_CAP = 1000


class Line(msgspec.Struct, frozen=True):
    """Something that happened. ``at_ms``: wall clock."""

    at_ms: int
    text: str


class Next(msgspec.Struct, frozen=True):
    """When it goes on, and why then. ``at_ms`` None: nobody can say."""

    at_ms: int | None
    rule: str


class DeliveryFacts(msgspec.Struct, frozen=True):
    """What is known of a delivery. ``status``: the derived one. ``endpoint`` None: deleted, or a callback's receiver.

    ``ahead``: deliveries of its lane before it, counted up to ``AHEAD_CAP``. ``to``: who gets it, for people.
    ``trying``: its endpoint's handshake, if one is under way.
    """

    row: DeliveryRow
    attempts: Sequence[AttemptView]
    status: str
    to: str
    now_ms: int
    endpoint: Endpoint | None = None
    policy: RetryPolicy | None = None
    lane: LaneFacts = LaneFacts()
    ahead: int = 0
    peer: Peer | None = None
    deliver_after_ms: int | None = None
    expires_at_ms: int | None = None
    erased_at_ms: int | None = None
    trying: Trying | None = None


def name_of(endpoint: Endpoint) -> str:
    """How people call an endpoint."""
    if endpoint.name or not endpoint.url:  # an erased one has neither
        return endpoint.name or endpoint.id
    return f"{endpoint.id} ({redact_url(endpoint.url)})"


def erased(at_ms: int | None) -> list[Line]:
    """That an event was erased, and what follows; nothing of one that wasn't."""
    text = "erased: what it held is gone, and nothing more is sent of it"
    return [] if at_ms is None else [Line(at_ms, text)]


def accepted(peer: Peer | None) -> str:
    """How an event came in."""
    if peer is None:
        return "accepted"
    how = {
        "socket": "accepted over the events socket",
        "api": "accepted by the HTTP API",
        "spool": "accepted from the spool directory",
    }.get(peer.via, f"accepted ({peer.via})")
    who = [f"{word} {number}" for word, number in (("uid", peer.uid), ("pid", peer.pid)) if number is not None]
    return f"{how}, from {', '.join(who)}" if who else how


# ---- a delivery


def delivery_timeline(facts: DeliveryFacts) -> list[Line]:
    """From acceptance to the latest attempt."""
    row = facts.row
    lines = [
        Line(row.accepted_at_ms, f"{accepted(facts.peer)}, as {row.type} of tenant {row.tenant}; goes to {facts.to}")
    ]
    run = 1
    for attempt in facts.attempts:
        if attempt.run > run:
            lines.append(Line(attempt.started_at_ms, "sent again by hand, with a fresh schedule"))
            run = attempt.run
        lines.append(Line(attempt.started_at_ms, f"attempt {attempt.n}: {answer_of(attempt)}"))
    return [*lines, *erased(facts.erased_at_ms)]


def answer_of(attempt: AttemptView) -> str:
    """What came of one attempt."""
    took = _span(attempt.elapsed_ms / 1000)
    if attempt.outcome == DELIVERED:
        return f"the receiver answered {attempt.status} after {took}"
    if attempt.outcome == BAD_STATUS:
        said = _quoted(attempt)
        return f"the receiver answered {attempt.status} after {took}{said}"
    if attempt.outcome == OutcomeKind.EGRESS_DENIED:
        return f"nothing was sent: {attempt.error}"
    if attempt.outcome == OutcomeKind.INTERRUPTED:
        return "cut off because the daemon was stopping; not counted"
    words = attempt.outcome.replace("_", " ")
    error = "" if attempt.error in (None, words) else f": {attempt.error}"
    return f"no answer ({words}) after {took}{error}"


def delivery_summary(facts: DeliveryFacts) -> str:
    """Where it stands, in one sentence."""
    row = facts.row
    if facts.erased_at_ms is not None and row.state is not DeliveryState.SUCCEEDED:
        return f"its event was erased, so nothing more is sent; it ended {row.state.name.lower()}"
    match row.state:
        case DeliveryState.SUCCEEDED:
            return f"delivered to {facts.to} with attempt {row.attempts}"
        case DeliveryState.DEAD:
            return f"given up: {_why_dead(facts)}; ringback delivery retry sends it again"
        case DeliveryState.EXPIRED:
            return "expired: its expires_at passed, or would have before the next attempt"
        case DeliveryState.CANCELLED:
            return "cancelled by hand, or because its endpoint was deleted"
        case DeliveryState.PENDING:
            return f"{facts.status.replace('_', ' ')}: {waits(facts)[0]}"


def _why_dead(facts: DeliveryFacts) -> str:
    row = facts.row
    if row.outcome == OutcomeKind.EGRESS_DENIED:
        return "the egress rules forbid its address"
    if row.outcome == "data_corrupt":
        return "the stored data is damaged, so nothing was sent"
    if row.status == 410:
        return "the receiver answered 410 (gone), which also disables its endpoint"
    if facts.policy is not None and _gap_s(facts.policy, _tries(facts)) is None:
        return f"all {_tries(facts)} attempts of the schedule failed, the last with {ended_with(row)}"
    return f"the receiver refused it for good with {ended_with(row)}"


def waits(facts: DeliveryFacts) -> list[str]:
    """What a pending delivery waits for, the reason that comes first first; never empty."""
    row, endpoint = facts.row, facts.endpoint
    if facts.status == IN_FLIGHT:
        return ["an attempt is being made now"]
    if endpoint is not None and facts.status == HELD:
        return [held(endpoint, facts.trying)]
    if row.due_at_ms is not None and row.due_at_ms > facts.now_ms:
        return [f"waits for its time, {rfc3339(row.due_at_ms)}"]
    found = lane_waits(facts.lane, facts.now_ms)
    if facts.ahead:
        count = f"more than {AHEAD_CAP}" if facts.ahead >= AHEAD_CAP else str(facts.ahead)
        are = "delivery of the same endpoint is" if facts.ahead == 1 else "deliveries of the same endpoint are"
        found.append(f"{count} {are} ahead of it")
    return found or ["is about to be sent: nothing holds it"]


def held(endpoint: Endpoint, trying: Trying | None = None) -> str:
    """Why a delivery to an endpoint that isn't active waits. ``trying``: its handshake, if one is under way."""
    return f"its endpoint {stopped(endpoint, trying)}"


def stopped(endpoint: Endpoint, trying: Trying | None = None) -> str:
    """The same of the endpoint itself: what follows its name."""
    reason = f" ({endpoint.status_reason})" if endpoint.status_reason else ""
    match endpoint.status:
        case EndpointStatus.PAUSED:
            beneath = standing(endpoint)
            more = "" if beneath is EndpointStatus.ACTIVE else f"; beneath the pause it is {beneath}{reason}"
            return f"is paused by hand; resume lets it go{more}"
        case EndpointStatus.PENDING:
            tried = f": {trying_words(trying)}" if trying is not None else ""
            return f"has not proved itself yet (handshake {endpoint.handshake}){tried}"
        case EndpointStatus.FAILED:
            return f"failed its handshake{reason}; challenge asks it again"
        case EndpointStatus.DISABLED:
            return f"is disabled{reason}; resume lets it go"
        case EndpointStatus.ACTIVE:
            return "is active"


def trying_words(trying: Trying) -> str:
    """How far a handshake has come."""
    at = "" if trying.next_at_ms is None else rfc3339(trying.next_at_ms)
    match trying.phase:
        case Phase.ASKED:
            before = f"; the one before failed ({trying.failure})" if trying.failure else ""
            return f"challenge {trying.tries} is out and not answered yet{before}"
        case Phase.CONSENTING:
            return f"it was asked, and may consent by calling back until {at}"
    if not trying.tries or trying.failure is None:
        return "it is asked as soon as there is a place"
    when = "" if trying.asked_at_ms is None else f" at {rfc3339(trying.asked_at_ms)}"
    again = f"; it is asked again at {at}" if at else ""
    return f"challenge {trying.tries}{when} failed ({trying.failure}){again}"


def lane_waits(lane: LaneFacts, now_ms: int) -> list[str]:
    """What keeps an active endpoint's lane from sending more this moment."""
    found = []
    if lane.rate_wait_s > 0:
        at = rfc3339(now_ms + round(lane.rate_wait_s * 1000))
        found.append(f"the endpoint's rate limit lets the next request start at {at}")
    if lane.in_flight >= lane.allowed:
        found.append(f"{lane.in_flight} of the {lane.allowed} requests it may have in flight are under way")
    if lane.failing:
        found.append(
            f"{_latest(lane.failures)} failed, so one request at a time is made until one succeeds"
            if lane.failures
            else "it is silent with a request out, so no second one is made until it answers"
        )
    if lane.slots_full:
        found.append("all the daemon's requests (delivery.concurrency) are in flight")
    return found


def _latest(failures: int) -> str:
    return "its latest attempt" if failures == 1 else f"its latest {failures} attempts"


def next_step(facts: DeliveryFacts) -> Next | None:
    """When the next attempt is, and by which rule; None if there is none."""
    row = facts.row
    if row.state is not DeliveryState.PENDING or (facts.endpoint is None and facts.status == "cancelled"):
        return None
    if facts.status == HELD:
        return Next(None, "held: as soon as its endpoint is active again")
    if facts.status == IN_FLIGHT:
        return Next(facts.now_ms, "now")
    at_ms = max(row.due_at_ms or 0, facts.now_ms)
    token_ms = facts.now_ms + round(facts.lane.rate_wait_s * 1000)
    if token_ms > at_ms:
        return Next(token_ms, f"not before its endpoint's rate limit lets it go; {_rule(facts)}")
    return Next(at_ms, _rule(facts))


def _rule(facts: DeliveryFacts) -> str:  # noqa: PLR0911 - one return a rule
    row, tries = facts.row, _tries(facts)
    if not tries:
        if row.run > 1:
            return "sent again by hand: due at once"
        return "the event's deliver_after" if row.due_at_ms else "a first attempt is due at once"
    if row.due_at_ms == AT_ONCE_MS:
        return f"attempt {tries + 1}: due now, asked for by hand"
    if facts.policy is None or not facts.attempts:
        return "the retry schedule"
    total, gap_s = _attempts_in_all(facts.policy), _gap_s(facts.policy, tries)
    if gap_s is None:
        return "the retry schedule, as it was before it was changed"
    last, jitter = facts.attempts[-1], facts.policy.jitter
    waited_s = ((row.due_at_ms or 0) - last.started_at_ms - last.elapsed_ms) / 1000
    if waited_s > gap_s * (1 + jitter) + 1:
        return f"attempt {tries + 1} of {total}: the receiver asked for it with Retry-After"
    spread = f", give or take {jitter:.0%}" if jitter else ""
    return f"attempt {tries + 1} of {total}: the schedule says {_span(gap_s)} after failure {tries}{spread}"


def _tries(facts: DeliveryFacts) -> int:
    """Attempts of this run that counted."""
    run = facts.row.run
    return sum(a.run == run and a.outcome != OutcomeKind.INTERRUPTED for a in facts.attempts)


def _gap_s(policy: RetryPolicy, attempts: int) -> float | None:
    """The bare gap after that many attempts; None when none is left."""
    if attempts < 1:
        return 0.0
    bare = msgspec.structs.replace(policy, jitter=0.0)
    due_ms = retry.next_due_ms(bare, attempts, 0, 0.5, None)
    return None if due_ms is None else due_ms / 1000


def _attempts_in_all(policy: RetryPolicy) -> int:
    return policy.attempts if policy.delays_s is None else len(policy.delays_s) + 1


def ended_with(row: DeliveryRow) -> str:
    """The last attempt's status, or what came instead."""
    return str(row.status) if row.status is not None else (row.outcome or "nothing").replace("_", " ")


def _quoted(attempt: AttemptView) -> str:
    info = read_info(attempt.info or b"")
    if info is None or not info.body.strip():
        return ""
    text = " ".join(info.body.decode(errors="replace").split())
    shown = "".join(char if char.isprintable() else "�" for char in text[:MAX_QUOTED_CHARS])
    return f": “{shown}{'…' if len(text) > MAX_QUOTED_CHARS else ''}”"


def _span(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.3g} s"


# ---- an event


def event_summary(total: int, counted: str) -> str:
    """How many deliveries it has and how they stand; ``counted`` are those words."""
    if not total:
        return "no endpoint wanted it: there are no deliveries"
    return f"{total} deliver{'y' if total == 1 else 'ies'}: {counted}"


def not_matched(endpoint: Endpoint, *, type_: str, accepted_at_ms: int, wanted: bool, unsaid: str | None) -> str:
    """Why an endpoint has no delivery of an event. ``wanted``: its filter, as it is now, lets the type through."""
    if endpoint.created_at_ms > accepted_at_ms:
        return f"it was made later, at {rfc3339(endpoint.created_at_ms)}"
    if not wanted:
        patterns = ", ".join(endpoint.events) or "everything but the daemon's own types"
        return f"its filter ({patterns}) does not match {type_}"
    if unsaid is not None:
        return unsaid
    return "it matches now, so its filter, options or dialect's words were changed since"


# ---- an endpoint

#: What became of a delivery after its last attempt.
_AFTER = {
    DeliveryState.PENDING: "; it is tried again",
    DeliveryState.SUCCEEDED: ": delivered",
    DeliveryState.DEAD: "; given up",
    DeliveryState.EXPIRED: "; expired since",
    DeliveryState.CANCELLED: "; cancelled since",
}


def endpoint_summary(endpoint: Endpoint, owed: int, *, capped: bool) -> str:
    """Where it stands and what it is owed, in one sentence."""
    count = f"{'more than ' if capped else ''}{owed}"
    owing = "it is owed nothing" if not owed else f"it is owed {count} deliver{'y' if owed == 1 else 'ies'}"
    reason = f" ({endpoint.status_reason})" if endpoint.status_reason else ""
    return f"{endpoint.status}{reason}; {owing}"


def endpoint_timeline(endpoint: Endpoint, latest: Sequence[DeliveryRow], trying: Trying | None = None) -> list[Line]:
    """Its making, its proof or the latest try at one, and its latest deliveries by their last attempt."""
    patterns = ", ".join(endpoint.events) or "everything but the daemon's own types"
    where = redact_url(endpoint.url)
    made = "made" if endpoint.revision == 1 else "made, changed since; now"
    lines = [Line(endpoint.created_at_ms, f"{made} for {where}, dialect {endpoint.dialect}; it wants {patterns}")]
    if endpoint.proof is not None and endpoint.proof.proved_at_ms is not None:
        lines.append(Line(endpoint.proof.proved_at_ms, f"proved itself (handshake {endpoint.handshake})"))
    if trying is not None and trying.asked_at_ms is not None:
        said = f", which failed ({trying.failure})" if trying.failure and trying.phase is Phase.READY else ""
        lines.append(Line(trying.asked_at_ms, f"asked to prove itself: challenge {trying.tries}{said}"))
    if endpoint.status is not EndpointStatus.ACTIVE:
        lines.append(Line(endpoint.updated_at_ms, f"last changed; it is {endpoint.status} now"))
    for row in latest:
        if row.started_at_ms is not None:
            ended = f"attempt {row.attempts} ended with {ended_with(row)}"
            lines.append(Line(row.started_at_ms, f"event {row.event_id} ({row.type}): {ended}{_AFTER[row.state]}"))
    return sorted(lines, key=lambda line: line.at_ms)
