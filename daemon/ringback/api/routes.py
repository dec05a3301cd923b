"""Every call there is: path, handler, whom it is for, and what it takes and gives.

Role: the one table that the router, the access rules and the API's own description are made from.
Rules: a call that isn't here isn't there.
Must not know: what any call does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ringback.api import (
    deliveries,
    delivery_pages,
    endpoint_verbs,
    endpoints,
    events,
    handshakes,
    health,
    metrics,
    stats,
    submit,
    tokens,
)
from ringback.api.access import Rule
from ringback.api.problems import Handler
from ringback.api.reading import Parse


@dataclass(frozen=True, slots=True)
class Route:
    """One call. ``query``: its parameters. ``takes`` and ``gives``: schemas by name (``schemas``), "" without a body.

    ``also``: other good statuses, with the schema's name.
    """

    method: str
    path: str
    handler: Handler
    rule: Rule
    summary: str
    status: int = 200
    gives: str = ""
    takes: str = ""
    query: Mapping[str, Parse] = field(default_factory=dict)
    also: Mapping[int, str] = field(default_factory=dict)


_ONE = "/api/v1/endpoints/{id}"
_CONSENT = "/api/v1/handshakes/{token}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", health.healthz, Rule.OPEN, "Whether the loop turns", gives="Health"),
    Route(
        "GET",
        "/readyz",
        health.readyz,
        Rule.TENANT,
        "Whether events are taken now",
        gives="Health",
        also={503: "Health"},
    ),
    Route("GET", "/metrics", metrics.metrics, Rule.OPERATOR, "What was counted, in Prometheus's text form"),
    Route(
        "POST",
        "/api/v1/endpoints",
        endpoints.create,
        Rule.TENANT,
        "Make an endpoint; its secret is in full in this answer only",
        201,
        "Endpoint",
        "EndpointFields",
    ),
    Route(
        "GET",
        "/api/v1/endpoints",
        endpoints.index,
        Rule.TENANT,
        "Endpoints, newest first",
        gives="EndpointPage",
        query=endpoints.FILTERS,
    ),
    Route("GET", _ONE, endpoints.show, Rule.TENANT, "One endpoint", gives="Endpoint", query=endpoints.ONE),
    Route(
        "PATCH",
        _ONE,
        endpoints.patch,
        Rule.TENANT,
        "Merge a patch (RFC 7396); null restores a default",
        200,
        "Endpoint",
        "EndpointFields",
    ),
    Route(
        "DELETE",
        _ONE,
        endpoints.delete,
        Rule.TENANT,
        "Delete; what it is owed is cancelled, its history stays",
        204,
    ),
    Route("POST", _ONE + "/pause", endpoints.pause, Rule.TENANT, "Hold what it is owed", 202, "Endpoint"),
    Route("POST", _ONE + "/resume", endpoints.resume, Rule.TENANT, "Send to it again", 202, "Endpoint"),
    Route("POST", _ONE + "/challenge", endpoints.challenge, Rule.TENANT, "Have it prove itself now", 202, "Endpoint"),
    Route("GET", _CONSENT, handshakes.consent, Rule.OPEN, "A receiver consents, by its token", gives="Consent"),
    Route("POST", _CONSENT, handshakes.consent, Rule.OPEN, "A receiver consents, by its token", gives="Consent"),
    Route(
        "GET",
        _ONE + "/stats",
        stats.of_endpoint,
        Rule.TENANT,
        "Rates and latencies of the last hours; its lane and queue now",
        gives="Stats",
        query=stats.FILTERS,
    ),
    Route("GET", "/api/v1/status", stats.status, Rule.OPERATOR, "The daemon at a glance", gives="Status"),
    Route("POST", _ONE + "/ping", endpoint_verbs.ping, Rule.TENANT, "Send it ringback.test", 202, "Probed"),
    Route("POST", _ONE + "/test", endpoint_verbs.test, Rule.TENANT, "Send it ringback.test", 202, "Probed"),
    Route(
        "POST",
        _ONE + "/rotate-secret",
        endpoint_verbs.rotate_secret,
        Rule.TENANT,
        "Sign with a new secret, and for a while with the old one too; the new one is in full in this answer only",
        202,
        "Endpoint",
        "RotateFields",
    ),
    Route(
        "POST",
        "/api/v1/events",
        submit.submit,
        Rule.TENANT,
        "Take one event, or NDJSON; answered once it is on disk",
        200,
        "Accepted",
        "Event",
    ),
    Route(
        "GET",
        "/api/v1/events",
        events.index,
        Rule.TENANT,
        "Events, newest first",
        gives="EventPage",
        query=events.FILTERS,
    ),
    Route(
        "GET",
        "/api/v1/events/{id}",
        events.show,
        Rule.TENANT,
        "One event with its data",
        gives="EventShown",
        query=events.ONE,
    ),
    Route(
        "GET",
        "/api/v1/deliveries",
        deliveries.index,
        Rule.TENANT,
        "Deliveries, newest first",
        gives="DeliveryPage",
        query=delivery_pages.FILTERS,
    ),
    Route(
        "GET",
        "/api/v1/deliveries/{id}",
        deliveries.show,
        Rule.TENANT,
        "One delivery with its attempts",
        gives="DeliveryShown",
    ),
    Route(
        "POST",
        "/api/v1/deliveries/{id}/retry",
        deliveries.retry,
        Rule.TENANT,
        "Send it again now, from any final state",
        202,
        "Moved",
    ),
    Route(
        "POST",
        "/api/v1/deliveries/{id}/cancel",
        deliveries.cancel,
        Rule.TENANT,
        "Call off what is still owed",
        202,
        "Moved",
    ),
    Route(
        "POST",
        "/api/v1/tokens",
        tokens.create,
        Rule.CONTROL,
        "Make a token; it is in this answer only",
        201,
        "TokenMade",
        "TokenFields",
    ),
    Route(
        "GET",
        "/api/v1/tokens",
        tokens.index,
        Rule.CONTROL,
        "Tokens, newest first",
        gives="TokenPage",
        query=tokens.FILTERS,
    ),
    Route("DELETE", "/api/v1/tokens/{id}", tokens.delete, Rule.CONTROL, "Remove a token", 204),
)

#: Named in CONTRACT, not built: 501 rather than 404, so that a caller knows it isn't a typo.
UNBUILT = (
    ("POST", "/api/v1/endpoints/{id}/replay"),
    ("GET", "/openapi.json"),
)
