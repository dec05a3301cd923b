"""The API's description of itself: complete, sound, and true of real answers."""

import re
from typing import Any

import pytest
from tests.api.parts import Parts

from ringback.api.access import Rule
from ringback.api.openapi import JSON, NDJSON, describe
from ringback.api.routes import ROUTES
from ringback.core.lifecycle import dead

DOCUMENT = describe(ROUTES)
SCHEMAS = DOCUMENT["components"]["schemas"]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Every (path, method, operation)."""
    return [(path, method, one) for path, item in DOCUMENT["paths"].items() for method, one in item.items()]


def refs(value: Any) -> set[str]:
    """Every reference inside."""
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()


def faults(schema: dict[str, Any], value: Any, at: str = "") -> list[str]:
    """What is wrong with a value, by the part of JSON Schema that the document uses; an unknown member is a fault."""
    if "$ref" in schema:
        return faults(SCHEMAS[schema["$ref"].rpartition("/")[2]], value, at)
    if "anyOf" in schema:
        tries = [faults(one, value, at) for one in schema["anyOf"]]
        return [] if [] in tries else min(tries, key=len)
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
    wanted = schema.get("type")
    if wanted == "null":
        return [] if value is None else [f"{at}: {value!r} is not null"]
    if wanted and (not isinstance(value, types[wanted]) or (wanted != "boolean" and isinstance(value, bool))):
        return [f"{at}: {value!r} is no {wanted}"]
    found = [f"{at}: {value!r} is none of {schema['enum']}"] if "enum" in schema and value not in schema["enum"] else []
    if schema.get("format") == "date-time" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value):
        found.append(f"{at}: {value!r} is no time")
    if wanted == "array":
        found += [said for n, item in enumerate(value) for said in faults(schema["items"], item, f"{at}/{n}")]
    if wanted == "object":
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        found += [f"{at}: lacks {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            if name in known or isinstance(others, dict):
                found += faults(known.get(name, others), item, f"{at}/{name}")
            else:
                found.append(f"{at}: {name} is not described")
    return found


def test_every_call_is_described() -> None:
    """What the router has is in the document, once, under a name of its own."""
    assert {(path, method.upper()) for path, method, _ in operations()} == {(r.path, r.method) for r in ROUTES}
    names = [one["operationId"] for _, _, one in operations()]
    assert len(set(names)) == len(names) == len(ROUTES)


def test_the_document_is_sound() -> None:
    """OpenAPI 3.1's own rules: references lead somewhere, path parameters are declared, responses are described."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {ref.removeprefix("#/components/schemas/") for ref in refs(DOCUMENT)} <= set(SCHEMAS)
    for path, _, one in operations():
        declared = {p["name"] for p in one["parameters"] if p["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))
        assert len({(p["name"], p["in"]) for p in one["parameters"]}) == len(one["parameters"])
        assert all(response["description"] for response in one["responses"].values())
        assert "application/problem+json" in one["responses"]["default"]["content"]
        assert all(re.fullmatch(r"[1-5]\d\d|default", status) for status in one["responses"])


def test_every_schema_is_used() -> None:
    """Nothing is described that is never sent."""
    used = refs(DOCUMENT["paths"])
    while (more := used | set().union(*(refs(SCHEMAS[ref.rpartition("/")[2]]) for ref in used))) != used:
        used = more
    assert {ref.rpartition("/")[2] for ref in used} == set(SCHEMAS)


def test_what_may_be_sent_comes_from_the_model() -> None:
    """The members of an endpoint with their bounds, in JSON Schema's own patterns."""
    fields = SCHEMAS["EndpointFields"]
    assert {"url", "secret", "retry", "rate_limit"} <= set(fields["properties"])
    assert fields["additionalProperties"] is False
    assert "\\A" not in str(DOCUMENT)
    assert "\\z" not in str(DOCUMENT)


def test_what_must_be_sent_is_said(parts: Parts) -> None:
    """Of every call that takes a body the document says whether it may be left out, and so it is."""
    made = parts.endpoint()
    for path, method, one in operations():
        if "requestBody" in one:
            status = parts.call(method.upper(), path.replace("{id}", made["id"]))[0]
            assert (status < 400) is not one["requestBody"]["required"], f"{method} {path}: {status}"
    content = DOCUMENT["paths"]["/api/v1/endpoints"]["post"]["requestBody"]["content"]
    assert set(DOCUMENT["paths"]["/api/v1/events"]["post"]["responses"]["200"]["content"]) == {JSON, NDJSON}
    needed = content["application/json"]["schema"]["allOf"][1]
    assert (needed["required"], needed["properties"]["url"]["type"]) == (["url"], "string")


def test_open_calls_take_no_token_in_the_document_either() -> None:
    """As the rules have it."""
    open_ = {(path, method.upper()) for path, method, one in operations() if one.get("security") == []}
    assert open_ == {(r.path, r.method) for r in ROUTES if r.rule is Rule.OPEN}


def test_the_document_is_served_to_every_token(parts: Parts) -> None:
    """By either door."""
    status, told = parts.tcp("GET", "/openapi.json", token=parts.token("acme"))
    assert (status, told) == (200, parts.call("GET", "/openapi.json")[1])
    assert set(told["paths"]) == set(DOCUMENT["paths"])


@pytest.fixture
def things(parts: Parts) -> dict[str, str]:
    """One of each, with a failed attempt; the path parameter each route is asked with."""
    made = parts.endpoint(rate_limit={"requests": 5, "per_s": 1}, retry={"delays_s": [1]})
    event = parts.event()["id"]
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    seq, lane = parts.flights.owed[-1]
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=410)
    parts.index()
    parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret")
    parts.token("acme")
    token = parts.call("GET", "/api/v1/tokens")[1]["data"][0]["id"]
    return {"endpoints": made["id"], "events": event, "deliveries": row["id"], "tokens": token}


BODIES: dict[str, Any] = {
    "EndpointFields": {"url": "https://a.example.com/", "name": "crm"},
    "Event": {"type": "x", "data": {}},
    "TokenFields": {"tenant": "acme"},
    "RotateFields": {"grace_s": 60},
    "DoctorFields": {"url": "https://receiver.test./#"},
}
#: Can't be asked for out of the blue, or doesn't answer with JSON.
ELSEWHERE = {"/api/v1/handshakes/{token}", "/openapi.json", "/metrics", "/api/v1/db/backup", "/api/v1/db/keyring"}


@pytest.mark.parametrize("route", [r for r in ROUTES if r.path not in ELSEWHERE], ids=lambda r: f"{r.method} {r.path}")
def test_real_answers_are_as_described(parts: Parts, things: dict[str, str], route: Any) -> None:
    """Every member that is answered is described with its type; what is described is there. Problems too."""
    kind = route.path.split("/")[3] if route.path.startswith("/api/v1/") else ""
    kind = "deliveries" if kind == "why" else kind
    path = route.path.replace("{id}", things.get(kind, "")).replace("{name}", "default")
    if route.path.endswith("/cancel"):
        parts.event()
        path = f"/api/v1/deliveries/{parts.call('GET', '/api/v1/deliveries')[1]['data'][0]['id']}/cancel"
    status, told = parts.call(route.method, path, BODIES.get(route.takes))
    described = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
    if status != route.status and route.path.endswith("/challenge"):
        assert status == 409, "it has no handshake"
    else:
        assert status == route.status, told
        content = described[str(status)].get("content")
        assert (told is None) == (content is None)
        assert content is None or faults(content["application/json"]["schema"], told) == []
    refused, problem = parts.call(route.method, path + "?no_such=1")
    assert refused >= 400
    assert faults(SCHEMAS["Problem"], problem) == []
