"""``POST /api/v1/doctor``: why nothing arrives at a receiver, each step of the way in words.

Role: gathers what is known of an endpoint, has the way walked, and, if asked, waits for what comes of a test event.
Rules: the operator's alone, for it connects where it is told to, as far as the egress rules let it. What is diverted is
looked at where it goes. A test event is sent to an active endpoint only: elsewhere it would just be held.
Must not know: the words (service), how a step is looked at.
"""

from typing import Any

import msgspec
from aiohttp import web

from ringback import dialects
from ringback.api import delivery_view
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import Invalid, answer, problem, refused
from ringback.api.reading import query, read_json
from ringback.api.stats import OWED_CAP
from ringback.api.submit import peer_of
from ringback.core.ids import parse_delivery_id
from ringback.core.model import DeliveryState, Endpoint, EndpointStatus, Peer, Rejection
from ringback.kit.redact import redact_url
from ringback.service import diagnosis_endpoint as words
from ringback.service import probes, why
from ringback.service.diagnosis import Level, Step
from ringback.service.diagnosis_endpoint import Standing
from ringback.service.doctor import Asked
from ringback.service.endpoint_fields import Problem, Refusal
from ringback.service.views import CANCELLED, HELD, IN_FLIGHT, PENDING

#: Of its newest deliveries.
LATEST = 5
#: How long the answer to a test is waited for beyond the request's own deadline, and how often it is looked for.
SLACK_S = 5.0
LOOK_AGAIN_S = 0.05


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body: a ``url``, or an ``endpoint`` by its id; ``send``: whether it gets a test event, too."""

    url: str | None = None
    endpoint: str | None = None
    send: bool = False


async def doctor(request: web.Request) -> web.Response:
    """200 with the steps, whatever they say; 404 for an endpoint there isn't; 503 while too many are looked at."""
    query(request, {})
    deps, wanted = deps_of(request), _read(await read_json(request))
    endpoint = None if wanted.endpoint is None else deps.endpoints.get(wanted.endpoint)
    if wanted.endpoint is not None and endpoint is None:
        return problem("not_found", f"there is no endpoint {wanted.endpoint}")
    asked = Asked(wanted.url or "") if endpoint is None else _asked(deps, endpoint)
    steps = await deps.doctor.walk(asked)
    if isinstance(steps, Refusal):
        return refused(steps)
    if wanted.endpoint is not None:  # the walk took its time: told as it is by now
        endpoint = deps.endpoints.get(wanted.endpoint)
        if endpoint is None:
            return problem("not_found", f"the endpoint {wanted.endpoint} was deleted meanwhile")
        steps = words.standing(await _standing(deps, endpoint)) + steps
    if endpoint is None and deps.divert_to:
        steps.append(words.diverted(deps.divert_to))
    if endpoint is not None and wanted.send:
        steps.append(await _tested(deps, endpoint, peer_of(request)))
    return answer(report(asked.url, steps, endpoint))


def report(url: str, steps: list[Step], endpoint: Endpoint | None = None) -> dict[str, Any]:
    """The steps as they are answered; ``ok``: whether none is a problem."""
    return {
        "url": redact_url(url),
        "endpoint_id": None if endpoint is None else endpoint.id,
        "name": None if endpoint is None else endpoint.name,
        "ok": all(step.level is not Level.PROBLEM for step in steps),
        "steps": [{"step": one.name, "level": one.level, "text": one.text, "do": one.do} for one in steps],
    }


def _read(body: object) -> _Wanted:
    try:
        wanted = msgspec.convert(body, _Wanted)
    except msgspec.ValidationError as wrong:
        raise Invalid("invalid_request", str(wrong), [Problem(("body",), str(wrong))]) from None
    if (wanted.url is None) == (wanted.endpoint is None):
        raise Invalid(
            "invalid_request", "give either a url or an endpoint", [Problem((), "url or endpoint, one of them")]
        )
    if wanted.send and wanted.endpoint is None:
        raise Invalid(
            "invalid_request", "only an endpoint can be sent a test", [Problem(("send",), "needs an endpoint")]
        )
    return wanted


def _asked(deps: Deps, endpoint: Endpoint) -> Asked:
    """As its attempts are made."""
    return Asked(
        url=deps.divert_to or endpoint.url,
        headers=() if deps.divert_to else tuple(endpoint.headers.items()),
        tls_verify=endpoint.tls_verify,
        timeout_s=deps.endpoints.effective(endpoint).timeout_s,
    )


async def _standing(deps: Deps, endpoint: Endpoint) -> Standing:
    owing = await deps.stats_reads.owing(endpoint.lane, OWED_CAP)
    return Standing(
        endpoint=endpoint,
        dialect=dialects.get(endpoint.dialect),
        lane=deps.lane_facts(endpoint.lane),
        owed=owing.rows,
        capped=owing.rows >= OWED_CAP,
        latest=await deps.reads.latest_tried(endpoint.lane, LATEST),
        trying=deps.verify.trying(endpoint.lane),
        divert_to=deps.divert_to,
        now_ms=deps.clock.now_ms(),
    )


async def _tested(deps: Deps, endpoint: Endpoint, peer: Peer) -> Step:
    """Send a test event and wait for its first attempt."""
    if endpoint.status is not EndpointStatus.ACTIVE:
        return words.untested(endpoint)
    sent = await probes.send(deps.intake, endpoint, probes.TEST, peer, clock=deps.clock, chance=deps.chance)
    if isinstance(sent, Rejection):
        raise Invalid(sent.code, sent.message)
    parts = parse_delivery_id(sent.delivery_id)
    assert parts is not None, "we made it just now"
    clock = deps.clock
    deadline = clock.monotonic() + deps.endpoints.effective(endpoint).timeout_s + SLACK_S
    while clock.monotonic() < deadline:
        now = deps.endpoints.get(endpoint.id)  # before the look: its own attempt may disable it
        found = await delivery_view.look(deps, parts[1], parts[2])
        if found is not None and found[0].attempts:
            delivered = found[0].row.state is DeliveryState.SUCCEEDED
            return words.tested(sent.delivery_id, why.answer_of(found[0].attempts[-1]), delivered=delivered)
        now = deps.endpoints.get(endpoint.id) and now  # a deletion calls off what is owed: it is the cause to be told
        if (ended := _untried(deps, now, found[1] if found else CANCELLED)) is not None:
            return words.tested(sent.delivery_id, ended, delivered=False)
        await clock.sleep(LOOK_AGAIN_S)
    waits = why.lane_waits(deps.lane_facts(endpoint.lane), clock.now_ms())
    return words.tested(sent.delivery_id, "; ".join(["it still waits", *waits]), delivered=False)


def _untried(deps: Deps, endpoint: Endpoint | None, status: str) -> str | None:
    """Why no attempt of a test event needs to be waited for any longer, in words; ``endpoint`` None: it was deleted."""
    if status == IN_FLIGHT:
        return None
    if endpoint is None:
        return "its endpoint was deleted before it was sent"
    if status == HELD and endpoint.status is not EndpointStatus.ACTIVE:
        return why.held(endpoint, deps.verify.trying(endpoint.lane))
    return None if status in (PENDING, HELD) else f"it was {status} before it was sent"
