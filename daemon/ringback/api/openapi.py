"""``/openapi.json``: the API's description of itself, OpenAPI 3.1, made from the table of calls.

Rules: what is in the table is in the document; nothing is described twice.
Must not know: what any call does.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from aiohttp import web

from ringback import __version__
from ringback.api.access import Rule
from ringback.api.problems import PROBLEM_TYPE, answer
from ringback.api.reading import Parse, query, schema_of
from ringback.api.route import Route
from ringback.api.schema_kinds import kind
from ringback.api.schemas import schemas
from ringback.api.submit import NDJSON

JSON = "application/json"
#: Bodies, by schema, that may be left out; and texts that a call needs of a schema it shares with others.
OPTIONAL_BODIES = frozenset({"RotateFields", "TokenFields", "DbPruneFields"})
NEEDED = {("POST", "EndpointFields"): ["url"]}


class Document:
    """The document of these calls, made when it is first asked for."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    @cached_property
    def whole(self) -> dict[str, Any]:
        """All of it."""
        return describe(self._routes)


DOCUMENT = web.AppKey("document", Document)


async def show(request: web.Request) -> web.Response:
    """The document."""
    query(request, {})
    return answer(request.app[DOCUMENT].whole)


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document. KeyError if a route names a schema that there isn't."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ringback",
            "version": __version__,
            "description": "The management API. On the control socket the caller is the operator; over TCP a bearer "
            "token says whose things are there.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name(route),
        "parameters": [*_in_path(route.path), *_in_query(route.query)],
        "responses": _responses(route),
    }
    if route.takes:
        made["requestBody"] = {"required": route.takes not in OPTIONAL_BODIES, "content": _content(route)}
    if route.rule is Rule.OPEN:
        made["security"] = []
    if route.rule in (Rule.OPERATOR, Rule.CONTROL):
        where = " on the control socket" if route.rule is Rule.CONTROL else ""
        made["description"] = f"For the operator{where}."
    return made


def _name(route: Route) -> str:
    """A name of its own for each call: its method and its path."""
    return "_".join([route.method.lower(), *re.findall(r"[A-Za-z0-9]+", route.path.removeprefix("/api/v1"))])


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _in_query(parameters: Mapping[str, Parse]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema_of(parse)} for name, parse in parameters.items()]


def _responses(route: Route) -> dict[str, Any]:
    found = {str(route.status): _response(route.summary, route.gives)}
    if route.takes == "Event":
        lines = {"type": "string", "description": "One answer line for each line, in order, as on the events socket"}
        found[str(route.status)]["content"][NDJSON] = {"schema": lines}
    found |= {str(status): _response(route.summary, gives) for status, gives in route.also.items()}
    problem = {"description": "A problem", "content": {PROBLEM_TYPE: {"schema": kind("Problem")}}}
    return found | {"default": problem}


def _response(description: str, gives: str) -> dict[str, Any]:
    return {"description": description} | ({"content": {JSON: {"schema": kind(gives)}}} if gives else {})


def _content(route: Route) -> dict[str, Any]:
    types = (JSON, NDJSON) if route.takes == "Event" else (JSON,)
    needed = NEEDED.get((route.method, route.takes))
    given = {"required": needed, "properties": {name: {"type": "string", "minLength": 1} for name in needed or ()}}
    schema = {"allOf": [kind(route.takes), given]} if needed else kind(route.takes)
    return {type_: {"schema": schema} for type_ in types}
