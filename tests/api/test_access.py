"""Whose things are there for whom: every route of the router, two tenants, the operator, and nobody."""

from typing import Any, NamedTuple

import pytest
import structlog
from tests.api.parts import Parts

from ringback.api.access import RULES, Door, Rule
from ringback.api.app import make_app
from ringback.api.route import Route
from ringback.api.routes import ROUTES, UNBUILT
from ringback.core.lifecycle import dead

NOBODYS = "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"
#: What a route with a path parameter is asked with: whose thing (an attribute of Theirs) and which body. A route of a
#: tenant's things that is missing here fails the test that walks over all of them.
THINGS: dict[tuple[str, str], tuple[str, Any]] = {
    ("GET", "/api/v1/endpoints/{id}"): ("endpoint", None),
    ("PATCH", "/api/v1/endpoints/{id}"): ("endpoint", {"description": "mine now"}),
    ("DELETE", "/api/v1/endpoints/{id}"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/pause"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/resume"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/challenge"): ("endpoint", None),
    ("GET", "/api/v1/endpoints/{id}/stats"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/ping"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/test"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/retry"): ("endpoint", None),
    ("POST", "/api/v1/endpoints/{id}/rotate-secret"): ("endpoint", {"grace_s": 0}),
    ("GET", "/api/v1/events/{id}"): ("event", None),
    ("POST", "/api/v1/events/{id}/erase"): ("event", None),
    ("GET", "/api/v1/deliveries/{id}"): ("delivery", None),
    ("GET", "/api/v1/why/{id}"): ("delivery", None),
    ("POST", "/api/v1/deliveries/{id}/retry"): ("delivery", None),
    ("POST", "/api/v1/deliveries/{id}/cancel"): ("delivery", None),
}
#: Lists, and a call that makes something: narrowed, tested below by name.
LISTS = {("GET", f"/api/v1/{name}") for name in ("endpoints", "events", "deliveries")}
MAKERS = {("POST", "/api/v1/endpoints"), ("POST", "/api/v1/events")}
#: The same for everybody with a token.
SHARED = {("GET", "/readyz"), ("GET", "/openapi.json")}


class Theirs(NamedTuple):
    """One tenant's things."""

    token: str
    endpoint: str
    event: str
    delivery: str


def things(parts: Parts, tenant: str) -> Theirs:
    """A tenant with a token, an endpoint, and an event whose delivery is dead."""
    endpoint = parts.endpoint(tenant=tenant, name=f"{tenant}-crm")["id"]
    event = parts.event(tenant=tenant)["id"]
    (row,) = parts.call("GET", f"/api/v1/deliveries?tenant={tenant}")[1]["data"]
    seq, lane = parts.flights.owed[-1]
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=410)
    parts.index()
    return Theirs(parts.token(tenant), endpoint, event, row["id"])


@pytest.fixture
def acme(parts: Parts) -> Theirs:
    """Whose things are reached for."""
    return things(parts, "acme")


@pytest.fixture
def beta(parts: Parts) -> Theirs:
    """Who reaches."""
    return things(parts, "beta")


def routed() -> list[tuple[str, str]]:
    """What the router has, whoever put it there."""
    app = make_app(None, Door.TCP)  # type: ignore[arg-type] - nothing is called
    return [(route.method, route.resource.canonical) for route in app.router.routes() if route.method != "HEAD"]


def test_every_route_has_a_rule_and_every_tenants_route_its_trial() -> None:
    """A new route without a rule, or one of a tenant's things that isn't tried below, fails here."""
    app = make_app(None, Door.TCP)  # type: ignore[arg-type] - nothing is called
    assert set(routed()) == set(app[RULES])
    mine = {(route.method, route.path) for route in ROUTES if route.rule is Rule.TENANT}
    assert mine == set(THINGS) | LISTS | MAKERS | SHARED


OPEN = {("GET", "/healthz"), ("GET", "/api/v1/handshakes/{token}"), ("POST", "/api/v1/handshakes/{token}")}


def test_what_is_open_to_everybody_is_listed_here() -> None:
    """A route can't be opened by oversight."""
    assert {(route.method, route.path) for route in ROUTES if route.rule is Rule.OPEN} == OPEN


@pytest.mark.parametrize(("method", "path"), [key for key in routed() if key not in OPEN])
def test_nobody_gets_anything_over_tcp(parts: Parts, method: str, path: str) -> None:
    """Without a token, and with a wrong one, 401 whatever the route, before anything is read."""
    for token in (None, "rbt_" + "0" * 64, "x"):
        status, told = parts.tcp(method, path.replace("{id}", NOBODYS), token=token)
        assert (status, told["code"]) == (401, "unauthorized")


def test_unknown_paths_are_nobodys_secret_but_take_a_token(parts: Parts) -> None:
    """A stranger can't even learn which paths there are."""
    assert parts.tcp("GET", "/api/v1/nothing")[0] == 401
    assert parts.tcp("GET", "/api/v1/nothing", token=parts.token("acme"))[0] == 404
    assert parts.tcp("PUT", "/api/v1/endpoints", token=parts.token("acme"))[0] == 405


def test_health_is_for_everybody(parts: Parts) -> None:
    """A load balancer needs no token for this one."""
    assert parts.tcp("GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("key", THINGS)
def test_things_of_another_tenant_are_not_there(parts: Parts, acme: Theirs, beta: Theirs, key: tuple[str, str]) -> None:
    """404 by either door, in the words for a thing that never was; and nothing about it has changed."""
    (method, path), (kind, body) = key, THINGS[key]
    theirs = getattr(acme, kind)
    before = state(parts, acme)
    for call in (lambda *a: parts.tcp(*a, token=beta.token), lambda *a: parts.call_as(beta.token, *a)):
        status, told = call(method, path.replace("{id}", theirs), body)
        never, words = call(method, path.replace("{id}", NOBODYS), body)
        assert (status, never) == (404, 404)
        assert told["detail"].replace(theirs, "ID") == words["detail"].replace(NOBODYS, "ID")
    assert state(parts, acme) == before


def state(parts: Parts, theirs: Theirs) -> list[Any]:
    """A tenant's things as the operator sees them."""
    return [
        parts.call("GET", f"/api/v1/endpoints/{theirs.endpoint}?reveal=true"),
        parts.call("GET", f"/api/v1/events/{theirs.event}?tenant=acme"),
        parts.call("GET", f"/api/v1/deliveries/{theirs.delivery}"),
    ]


@pytest.mark.parametrize("key", THINGS)
def test_a_tenant_reaches_its_own(parts: Parts, acme: Theirs, key: tuple[str, str]) -> None:
    """The same calls with the right token do what they do for the operator."""
    (method, path), (kind, body) = key, THINGS[key]
    status, told = parts.tcp(method, path.replace("{id}", getattr(acme, kind)), body, acme.token)
    assert status in (200, 202, 204) or (key[1].endswith(("/cancel", "/challenge")) and status == 409), told


@pytest.mark.parametrize("route", [r for r in ROUTES if r.rule in (Rule.OPERATOR, Rule.CONTROL)], ids=lambda r: r.path)
def test_the_operators_routes_are_not_a_tenants(parts: Parts, route: Route) -> None:
    """403 by either door."""
    token = parts.token("acme")
    path = route.path.replace("{id}", NOBODYS).replace("{name}", "acme")
    assert parts.tcp(route.method, path, token=token)[0] == 403
    assert parts.call_as(token, route.method, path)[0] == 403


@pytest.mark.parametrize("route", [r for r in ROUTES if r.rule is Rule.CONTROL], ids=lambda r: f"{r.method} {r.path}")
def test_tokens_are_managed_on_the_control_socket_alone(parts: Parts, route: Route) -> None:
    """Whoever got hold of an operator's token can't make more of them."""
    token = parts.token()
    assert parts.tcp(route.method, route.path.replace("{id}", NOBODYS), token=token)[0] == 403
    assert parts.call_as(token, "GET", "/api/v1/tokens")[0] == 200


@pytest.mark.parametrize("name", ["endpoints", "events", "deliveries"])
def test_lists_show_a_tenant_its_own(parts: Parts, acme: Theirs, beta: Theirs, name: str) -> None:
    """The filter by tenant is there without being asked for; for another tenant it is 403; the operator sees all."""
    listed = {row["tenant"] for row in parts.tcp("GET", f"/api/v1/{name}", token=beta.token)[1]["data"]}
    assert listed == {"beta"}
    assert parts.tcp("GET", f"/api/v1/{name}?tenant=beta", token=beta.token)[0] == 200
    assert parts.tcp("GET", f"/api/v1/{name}?tenant=acme", token=beta.token)[0] == 403
    listed = {row["tenant"] for row in parts.tcp("GET", f"/api/v1/{name}", token=parts.token())[1]["data"]}
    assert listed == {"acme", "beta"}


def test_filters_find_nothing_of_another_tenant(parts: Parts, acme: Theirs, beta: Theirs) -> None:
    """Neither by endpoint, which is told as one that never was, nor by event, name or status."""
    by = lambda text: parts.tcp("GET", f"/api/v1/deliveries?{text}", token=beta.token)  # noqa: E731 - short
    status, told = by(f"endpoint={acme.endpoint}")
    never, words = by(f"endpoint={NOBODYS}")
    assert (status, never) == (422, 422)
    assert told["detail"].replace(acme.endpoint, "ID") == words["detail"].replace(NOBODYS, "ID")
    assert by(f"event={acme.event}")[1]["data"] == []
    assert {row["tenant"] for row in by("status=dead")[1]["data"]} == {"beta"}
    assert parts.tcp("GET", "/api/v1/endpoints?name=acme-crm", token=beta.token)[1]["data"] == []


def test_a_cursor_of_the_operator_opens_nothing(parts: Parts, acme: Theirs, beta: Theirs) -> None:
    """A cursor says where to go on, not what may be seen."""
    parts.endpoint(tenant="beta")
    cursor = parts.call("GET", "/api/v1/endpoints?limit=1")[1]["next_cursor"]
    rows = parts.tcp("GET", f"/api/v1/endpoints?cursor={cursor}", token=beta.token)[1]["data"]
    assert {row["tenant"] for row in rows} == {"beta"}


def test_a_tenants_endpoint_is_its_own(parts: Parts) -> None:
    """The tenant is filled in; another one is 403 and makes nothing."""
    token, body = parts.token("acme"), {"url": "https://a.example.com/"}
    for given in ({}, {"tenant": None}, {"tenant": "acme"}):
        assert parts.tcp("POST", "/api/v1/endpoints", body | given, token)[1]["tenant"] == "acme"
    status, told = parts.tcp("POST", "/api/v1/endpoints", body | {"tenant": "beta"}, token)
    assert (status, told["code"], told["errors"][0]["loc"]) == (403, "forbidden", ["tenant"])
    assert parts.call("GET", "/api/v1/endpoints?tenant=beta")[1]["data"] == []


def test_a_tenants_event_is_its_own(parts: Parts) -> None:
    """Filled in, one by one and in NDJSON; another tenant's is refused and the lines around it are taken."""
    token = parts.token("acme")
    assert parts.tcp("POST", "/api/v1/events", {"id": "a", "type": "x", "data": {}}, token)[0] == 200
    status, told = parts.tcp("POST", "/api/v1/events", {"type": "x", "data": {}, "tenant": "beta"}, token)
    assert (status, told["code"], told["errors"][0]["loc"]) == (403, "forbidden", ["tenant"])
    assert parts.call("GET", "/api/v1/events?tenant=acme")[1]["data"][0]["id"] == "a"
    assert parts.call("GET", "/api/v1/events?tenant=beta")[1]["data"] == []
    assert parts.tcp("GET", "/api/v1/events/a", token=token)[1]["tenant"] == "acme"
    assert parts.tcp("GET", "/api/v1/events/a?tenant=beta", token=token)[0] == 403


def test_a_token_narrows_on_the_control_socket_too(parts: Parts, acme: Theirs, beta: Theirs) -> None:
    """Without one it is the operator's; a wrong one is refused rather than ignored."""
    assert {row["tenant"] for row in parts.call_as(acme.token, "GET", "/api/v1/events")[1]["data"]} == {"acme"}
    assert len(parts.call("GET", "/api/v1/events")[1]["data"]) == 2
    assert parts.call_as("rbt_" + "0" * 64, "GET", "/api/v1/events")[0] == 401


def test_a_removed_token_is_nobody(parts: Parts) -> None:
    """From its removal on, and its id is not there a second time."""
    token = parts.token("acme")
    (shown,) = parts.call("GET", "/api/v1/tokens")[1]["data"]
    assert token not in str(shown)
    assert parts.tcp("GET", "/api/v1/events", token=token)[0] == 200
    assert parts.call("DELETE", f"/api/v1/tokens/{shown['id']}") == (204, None)
    assert parts.tcp("GET", "/api/v1/events", token=token)[0] == 401
    assert parts.call("DELETE", f"/api/v1/tokens/{shown['id']}")[0] == 404


@pytest.mark.parametrize("body", [{"tenant": "a b"}, {"tenant": 1}, {"tenat": "a"}, []])
def test_a_token_is_made_for_a_good_tenant_only(parts: Parts, body: Any) -> None:
    """Each problem has its place; nothing is made."""
    status, told = parts.call("POST", "/api/v1/tokens", body)
    assert (status, told["code"]) == (422, "invalid_request")
    assert parts.call("GET", "/api/v1/tokens")[1]["data"] == []


def test_tokens_are_listed_in_pages(parts: Parts) -> None:
    """Newest first, each once."""
    for n in range(3):
        parts.token(f"t{n}")
    page = parts.call("GET", "/api/v1/tokens?limit=2")[1]
    rest = parts.call("GET", f"/api/v1/tokens?cursor={page['next_cursor']}")[1]
    assert [row["tenant"] for row in page["data"] + rest["data"]] == ["t2", "t1", "t0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("header", ["Basic {0}", "{0}", "Bearer", "Bearer {0} {0}", "Bearer {0}x"])
def test_only_a_bearers_own_text_counts(parts: Parts, header: str) -> None:
    """Another scheme, none, or anything about the token but itself is 401."""
    token = parts.token("acme")
    connection = __import__("http.client").client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    connection.request("GET", "/readyz", headers={"Authorization": header.format(token)})
    answer = connection.getresponse()
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    connection.close()


def test_vain_tries_are_logged_without_the_token(parts: Parts) -> None:
    """The operator sees who tried what; the token, right or wrong, is in no line."""
    token, wrong = parts.token("acme"), "rbt_" + "ab" * 32
    with structlog.testing.capture_logs() as lines:
        parts.tcp("GET", "/api/v1/tokens?x=" + wrong, token=wrong)
        parts.tcp("GET", "/api/v1/tokens", token=token)
    denied = [line for line in lines if line["event"] == "api.denied"]
    assert [line["reason"] for line in denied] == ["not a token of ours", "this call is the operator's"]
    assert denied[0]["remote"] == "127.0.0.1"
    assert wrong not in str(lines)
    assert token not in str(lines)


def test_what_is_not_built_is_said_to_whom_it_would_be_for(parts: Parts) -> None:
    """501 with a token, 401 without."""
    method, path = UNBUILT[0]
    assert parts.tcp(method, path.replace("{id}", NOBODYS), token=parts.token())[0] == 501
