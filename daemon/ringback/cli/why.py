"""``ringback why``: what happened to an event, a delivery or an endpoint, in plain words, and what it waits for.

Must not know: the words; the daemon finds them.
"""

from collections.abc import Iterator
from typing import Any

import click

from ringback.cli.client import Api, NotFound, of_tenant, segment
from ringback.cli.context import Command, api, json_option, print_json, where
from ringback.cli.lists import endpoint_id
from ringback.cli.words import folded

PATH = "/api/v1/why"


@click.command(cls=Command)
@click.argument("what", metavar="EVENT|DELIVERY|ENDPOINT")
@click.option("--tenant", help="Whose event or endpoint it is; 'default' if not given.")
@json_option
@where
def why(
    what: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Tell why something did or didn't arrive.

    Takes the id of an event, a delivery or an endpoint, or an endpoint's name.

    \b
    Examples:
      ringback why 019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21
      ringback why crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    with of_tenant(tenant):
        found = _find(api(config_path, socket_path), what, tenant)
    if as_json:
        print_json(found)
        return
    for line in told(found):
        click.echo(line)


def _find(daemon: Api, what: str, tenant: str | None) -> Any:
    """By id; else as an endpoint's name."""
    params = {"tenant": tenant}
    try:
        return daemon.get(f"{PATH}/{segment(what)}", params)
    except NotFound as unknown:
        try:
            named = endpoint_id(daemon, what, tenant)
        except NotFound:
            raise unknown from None
        return daemon.get(f"{PATH}/{segment(named)}", params)


def told(found: dict[str, Any]) -> Iterator[str]:
    """The answer as lines of text."""
    name = f" ({found['name']})" if found.get("name") else ""
    yield f"{found['kind']} {found['id']}{name}"
    yield folded("  ", found["summary"])
    yield ""
    for line in found["timeline"]:
        yield folded(f"  {_when(line['at'])}  ", line["text"])
    endpoint = found["kind"] == "endpoint"
    yield from _section("what holds it back" if endpoint else "why it waits", found.get("waits_for", ()))
    step = found.get("next")
    if step:
        yield from _section(
            "next request" if endpoint else "next attempt",
            [f"{_when(step['at'])}: {step['rule']}" if step["at"] else step["rule"]],
        )
    if found.get("expires_at"):
        yield from _section("expires", [f"{_when(found['expires_at'])}: no attempt is made after that"])
    if found["kind"] == "event":
        yield from _event(found)


def _event(found: dict[str, Any]) -> Iterator[str]:
    matched = [f"{one['delivery_id']}  {one['to']}: {one['text']}" for one in found["matched"]]
    if found["more_matched"]:
        matched.append(f"and {found['more_matched']} more")
    yield from _section("goes to", matched)
    left_out = [f"{one['name'] or one['endpoint_id']}: {one['reason']}" for one in found["not_matched"]]
    if found["more_not_matched"]:
        left_out.append("and more endpoints, which were not looked at")
    yield from _section("did not go to", left_out)


def _section(title: str, lines: Any) -> Iterator[str]:
    if lines:
        yield ""
        yield f"  {title}:"
        for line in lines:
            yield folded("    ", line)


def _when(timestamp: str) -> str:
    return timestamp.replace("T", " ")
