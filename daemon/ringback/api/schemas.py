"""What bodies and answers look like, as JSON Schema, by name.

Role: the components of the API's own description. What callers send comes from the models that judge it; what they get
is written down here in short hand (``schema_kinds``), and a test holds real answers to it.
Must not know: routes, how anything is answered.
"""

from typing import Any

from ringback.api.schema_kinds import Schema, choices, kind, object_of, optional, page_of
from ringback.core.callbacks import METHODS
from ringback.core.events import MAX_TENANT_CHARS, MAX_TYPE_CHARS
from ringback.core.model import EndpointStatus
from ringback.service.endpoint_fields import EndpointFields
from ringback.service.maintenance import MAX_DAYS
from ringback.service.rotation import MAX_GRACE_S
from ringback.service.views import STATUSES


def _fields() -> Schema:
    """The members of a create or a patch, from the model that judges them."""
    schema = EndpointFields.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    found: Schema = _anchored(schema)
    return found


def _parts_of_fields() -> dict[str, Schema]:
    found: dict[str, Schema] = EndpointFields.model_json_schema(ref_template="#/components/schemas/{model}")["$defs"]
    return {name: _anchored(schema) for name, schema in found.items()}


def _anchored(value: Any) -> Any:
    """Patterns with the anchors of JSON Schema's dialect instead of Python's."""
    if isinstance(value, dict):
        return {
            name: item.replace(r"\A", "^").replace(r"\z", "$") if name == "pattern" else _anchored(item)
            for name, item in value.items()
        }
    return [_anchored(item) for item in value] if isinstance(value, list) else value


def _event() -> Schema:
    names = {"tenant": MAX_TENANT_CHARS, "id": 128}
    words = {name: {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{most}}}$"} for name, most in names.items()}
    times = {name: kind("time") for name in ("created_at", "deliver_after", "expires_at")}
    type_ = {"type": "string", "maxLength": MAX_TYPE_CHARS, "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"}
    return {
        "type": "object",
        "description": "An event as a producer writes it",
        "properties": {"type": type_, "data": {"type": "object"}, **words, **times, "callback": _asked()},
        "required": ["type", "data"],
        "additionalProperties": False,
    }


def _asked() -> Schema:
    extra = {"anyOf": [{"type": "object"}, {"type": "string"}], "description": "An object, or key:value,key:value"}
    texts: dict[str, Any] = {name: {"type": "string"} for name in ("url", "dialect", "secret")}
    return {
        "type": "object",
        "description": "A URL that gets this event besides the endpoints",
        "properties": {**texts, "method": {"type": "string", "enum": list(METHODS)}, "extra": extra},
        "required": ["url"],
        "additionalProperties": False,
    }


_TENANT = object_of(
    "What there is of a tenant; owed: deliveries; left: events that an erasure has yet to look at",
    tenant="text", endpoints="int", tokens="int", events="int", owed="int", erasing="bool", left="int",
)  # fmt: skip
_STATUS = object_of(
    "The daemon at a glance; failing: active endpoints whose latest attempts failed",
    state="text", version="text", started_at="time", restored_at="time?", encryption="{any}", endpoints="{int}",
    failing="int", in_flight="int", queue="Queue", writing="{int}", disk="{any}",
)  # fmt: skip
_LANE = object_of(
    "How one lane stands; null where its endpoint is gone",
    endpoint_id="text?", name="text?", tenant="text?", status="text?", in_flight="int", window="int",
    concurrency="int", waiting="int", failures="int", failing="bool", rate_wait_s="number", next_due_at="time?",
)  # fmt: skip
_HASTENED = object_of(
    "Retries that are due now; the cursor goes on behind what was looked at, null at the end",
    id="text", deliveries="int", more="bool", next_cursor="text?",
)  # fmt: skip
#: One of three kinds; each has the members that tell of it.
_WHY = optional(
    object_of(
        "What happened, in plain words, and what it waits for; kind is event, delivery or endpoint",
        kind="text", id="text", summary="text", timeline="[any]", waits_for="[text]", next="any", status="text",
        tenant="text", name="text?", type="text", event_id="text", endpoint_id="text?", expires_at="time?",
        matched="[any]", more_matched="int", not_matched="[any]", more_not_matched="bool",
    ),
    "waits_for", "next", "status", "tenant", "name", "type", "event_id", "endpoint_id", "expires_at",
    "matched", "more_matched", "not_matched", "more_not_matched",
)  # fmt: skip


def schemas() -> dict[str, Schema]:
    """All of them, by name."""
    return _of_endpoints() | _of_events() | _of_deliveries() | _of_statistics() | _of_the_database() | _of_the_rest()


def _of_endpoints() -> dict[str, Schema]:
    return {
        **_parts_of_fields(),
        "EndpointFields": _fields(),
        "Endpoint": _endpoint(),
        "EndpointPage": page_of("Endpoint"),
        "EndpointStatus": choices("Where an endpoint stands", *EndpointStatus),
        "Effective": object_of("What counts, defaults filled in", concurrency="int", timeout_s="number", retry="{any}"),
        "Proof": object_of(
            "What the latest handshake left",
            proved_at="time?",
            renew_at="time?",
            consent_until="time?",
            allowed_per_min="int?",
        ),
        "Challenge": object_of(
            "A handshake under way", tries="int", failure="text?", asked_at="time?", next_at="time?"
        ),
        "PreviousSecret": object_of("It still signs, beside the newest", secret="text", expires_at="time?"),  # noqa: S106 - a kind, not a secret
        "RotateFields": {
            "type": "object",
            "properties": {
                "grace_s": {"type": "number", "minimum": 0, "maximum": MAX_GRACE_S, "default": 86400},
                "secret": {"type": "string"},
            },
            "additionalProperties": False,
        },
    }


def _of_events() -> dict[str, Schema]:
    event = {"id": "text", "tenant": "text", "type": "text", "created_at": "time", "accepted_at": "time"}
    event |= {"deliver_after": "time?", "expires_at": "time?", "source": "Source?", "size": "int", "erased_at": "time?"}
    callback = {"url": "text", "dialect": "text", "method": "text?", "secret": "text?", "extra": "{any}"}
    return {
        "Event": _event(),
        "Accepted": optional(
            object_of("It is on disk", ok="bool", id="text", deliveries="int", duplicate="bool"), "duplicate"
        ),
        "EventRow": object_of("An event without its data", **event),
        "EventPage": page_of("EventRow"),
        "EventShown": object_of(
            "An event", **event, corrupt="bool", callback="Callback?", data="any", deliveries="{int}"
        ),
        "Callback": object_of("Where one delivery goes besides", **callback),
        "Source": object_of("Who handed it in", via="text", uid="int?", gid="int?", pid="int?"),
    }


def _of_deliveries() -> dict[str, Schema]:
    delivery = object_of(
        "One event's way to one endpoint",
        id="text",
        event_id="text",
        endpoint_id="text?",
        endpoint_name="text?",
        callback_origin="text?",
        tenant="text",
        type="text",
        status="DeliveryStatus",
        attempt_count="int",
        created_at="time",
        accepted_at="time",
        next_attempt_at="time?",
        last_attempt_at="time?",
        last_outcome="text?",
        last_status="int?",
        last_error="text?",
    )
    more = {"callback": kind("CallbackShown?"), "erased_at": kind("time?"), "attempts": kind("[Attempt]")}
    whole = {**delivery, "properties": delivery["properties"] | more}
    return {
        "Delivery": delivery,
        "DeliveryPage": page_of("Delivery"),
        "DeliveryShown": {**whole, "required": [*delivery["required"], *more]},
        "CallbackShown": object_of("Where it goes, without the query", url="text", dialect="text", method="text?"),
        "DeliveryStatus": choices("Where a delivery stands", *STATUSES),
        "Attempt": object_of(
            "One request",
            n="int",
            run="int",
            started_at="time",
            elapsed_ms="int",
            outcome="text",
            error="text?",
            request="AttemptRequest?",
            response="AttemptResponse?",
        ),
        "AttemptRequest": object_of(
            "Rebuilt, its secrets masked", method="text", url="text", headers="{text}", body="text", rebuilt="bool"
        ),
        "AttemptResponse": object_of("", status="int", headers="{text}", body="text", truncated="bool"),
    }


def _of_statistics() -> dict[str, Schema]:
    counts = {"attempts": "int", "delivered": "int", "failed": "int", "dead": "int"}
    return {
        "Hour": object_of("An hour's attempts", hour="time", **counts),
        "Percentiles": object_of("Milliseconds, at most an eighth too long", p50="int?", p99="int?"),
        "Queue": object_of("What is owed now, counted to a cap", owed="int", capped="bool", oldest_accepted_at="time?"),
        "Stats": object_of(
            "An endpoint's last hours, and how it stands now",
            endpoint_id="text",
            status="EndpointStatus",
            since="time",
            **counts,
            outcomes="{int}",
            success_rate="number?",
            attempts_per_s="number?",
            latency_ms="Percentiles",
            by_hour="[Hour]",
            window="number",
            concurrency="int",
            in_flight="int",
            queue="Queue",
        ),
        "Status": _STATUS,
    }


def _of_the_database() -> dict[str, Schema]:
    days = {"type": "integer", "minimum": 0, "maximum": MAX_DAYS}
    return {
        "DbChecked": object_of(
            "What a check found; bytes, and the marker's word",
            ok="bool",
            problems="[text]",
            counts="{int}",
            size="int",
            free_bytes="int",
            schema="int",
            high_seq="int",
            lost_events="int",
        ),
        "DbPruneFields": {
            "type": "object",
            "description": "Days to keep, instead of the settings'",
            "properties": {"events_days": days, "attempts_days": days},
            "additionalProperties": False,
        },
        "DbPruned": object_of("What went", events="int", attempts="int", more="bool"),
        "DbRestored": object_of(
            "What is held since a restore; null: nothing is",
            restored_at="time?",
            taken_at="time?",
            endpoints="int",
            owed="int",
            owed_to="[OwedTo]",
        ),
        "OwedTo": object_of("Without an id: callbacks", endpoint_id="text?", tenant="text?", name="text?", owed="int"),
        "DbResumed": object_of("Endpoints that get what they are owed", resumed="int"),
    }


def _of_the_rest() -> dict[str, Schema]:
    return {
        "Why": _WHY,
        "DoctorFields": {
            "type": "object",
            "description": "A url, or an endpoint by its id; send: it gets a test event, too",
            "properties": {"url": kind("text?"), "endpoint": kind("text?"), "send": kind("bool")},
            "additionalProperties": False,
        },
        "Diagnosis": object_of(
            "The steps of the way; ok: none is a problem",
            url="text",
            endpoint_id="text?",
            name="text?",
            ok="bool",
            steps="[DoctorStep]",
        ),
        "DoctorStep": object_of(
            "What was found; level is ok, warning or problem", step="text", level="text", text="text", do="text?"
        ),
        "Lanes": object_of("The busiest lanes", data="[LaneNow]", attempts="{int}", events_accepted="int"),
        "LaneNow": _LANE,
        "Erased": object_of("A tombstone is left of an event", id="text", tenant="text", erased_at="time"),
        "Erasing": object_of("What goes, from now on", tenant="text", events="int", endpoints="int", erasing="bool"),
        "Tenant": _TENANT,
        "Moved": object_of("A delivery that was moved", id="text", status="text"),
        "Hastened": _HASTENED,
        "Probed": object_of("A test event is owed", id="text", delivery_id="text", event_id="text", endpoint_id="text"),
        "Consent": object_of("The receiver has consented", status="text"),
        "TokenFields": {
            "type": "object",
            "properties": {"tenant": kind("text?")},
            "additionalProperties": False,
        },
        "Token": object_of("A token; tenant null: the operator's", id="text", tenant="text?", created_at="time"),
        "TokenMade": object_of("", id="text", tenant="text?", created_at="time", token="text"),  # noqa: S106 - a kind, not a token
        "TokenPage": page_of("Token"),
        "Health": object_of("", status="text"),
        "Problem": optional(
            object_of(
                "RFC 9457, with a code and the members at fault",
                type="text",
                title="text",
                status="int",
                code="text",
                detail="text",
                errors="[Fault]",
            ),
            "errors",
        ),
        "Fault": {
            "type": "object",
            "properties": {
                "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                "msg": {"type": "string"},
            },
            "required": ["loc", "msg"],
        },
    }


def _endpoint() -> Schema:
    shown = object_of(
        "An endpoint; what it leaves to defaults is null",
        id="text",
        tenant="text",
        name="text?",
        description="text?",
        url="text",
        dialect="text",
        events="[text]",
        secret="text",  # noqa: S106 - a kind, not a secret
        previous_secrets="[PreviousSecret]",
        status="EndpointStatus",
        status_reason="text?",
        concurrency="int?",
        rate_limit="RateLimitFields?",
        ordering="text",
        timeout_s="number?",
        retry="{any}?",
        handshake="text",
        proof="Proof?",
        challenge="Challenge?",
        tls_verify="bool",
        headers="{text}",
        options="{text}",
        metadata="{text}",
        declared="bool",
        revision="int",
        created_at="time",
        updated_at="time",
        effective="Effective",
        warnings="[text]",
    )
    return optional(shown, "warnings")
