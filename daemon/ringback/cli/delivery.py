"""``ringback delivery``: what became of each event at each endpoint, and what to do about it."""

from typing import Any

import click

from ringback.cli.client import segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.lists import endpoint_id, fetch, limit_option, time_options

PATH = "/api/v1/deliveries"
STATUSES = ("pending", "in_flight", "held", "succeeded", "dead", "expired", "cancelled")
MAX_BODY_SHOWN = 2000


@click.group(cls=Group)
def delivery() -> None:
    """Look at deliveries, send them again, call them off."""


@delivery.command("list")
@click.option("--endpoint", metavar="ENDPOINT", help="Only to this endpoint, by id or name.")
@click.option("--event", metavar="ID", help="Only of this event.")
@click.option("--status", type=click.Choice(STATUSES), help="Only in this status.")
@click.option("--type", "type_", help="Only of events of this type.")
@click.option("--tenant", help="Only this tenant's; with --event, whose event it is.")
@time_options
@limit_option
@json_option
@where
def list_(
    endpoint: str | None,
    type_: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
    **filters: str | None,
) -> None:
    """List deliveries, newest first.

    \b
    Example:
      ringback delivery list --endpoint crm --status dead
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    filters["type"] = type_
    if endpoint is not None:
        filters["endpoint"] = endpoint_id(daemon, endpoint, filters["tenant"])
    page = fetch(daemon, PATH, filters, limit)
    if as_json:
        print_json(page)
        return
    from ringback.cli.tables import Column, print_table, when  # noqa: PLC0415 - rich is slow to import

    rows = [
        [d["id"], d["status"], d["attempt_count"], when(d["created_at"]), d["type"], d["event_id"], d["endpoint_id"]]
        for d in page["data"]
    ]
    columns = (
        *map(Column, ("ID", "STATUS", "TRIES", "CREATED")),
        Column("TYPE", "elastic"),
        Column("EVENT", "spare"),
        Column("ENDPOINT", "spare"),
    )
    print_table(columns, rows, "No deliveries.")


@delivery.command()
@click.argument("delivery_id", metavar="ID")
@json_option
@where
def show(
    delivery_id: str,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show one delivery with every attempt: what was sent, what came back.

    \b
    Example:
      ringback delivery show 019a9c1e-7d0f-7000-8000-00010000002a
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    found = api(config_path, socket_path).get(f"{PATH}/{segment(delivery_id)}")
    if as_json:
        print_json(found)
        return
    from ringback.cli.tables import print_sheet  # noqa: PLC0415 - rich is slow to import

    attempts = found.pop("attempts")
    print_sheet(found.items())
    for attempt in attempts:
        click.echo()
        print_sheet(_attempt_facts(attempt))


@delivery.command()
@click.argument("delivery_id", metavar="ID")
@json_option
@where
def retry(
    delivery_id: str,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Send a finished delivery again, now, with a fresh retry schedule.

    \b
    Example:
      ringback delivery retry 019a9c1e-7d0f-7000-8000-00010000002a
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    _act(delivery_id, "retry", "will be sent again", config_path, socket_path, as_json=as_json)


@delivery.command()
@click.argument("delivery_id", metavar="ID")
@json_option
@where
def cancel(
    delivery_id: str,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Call off a delivery that is still owed.

    \b
    Example:
      ringback delivery cancel 019a9c1e-7d0f-7000-8000-00010000002a
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    _act(delivery_id, "cancel", "is cancelled", config_path, socket_path, as_json=as_json)


def _act(
    delivery_id: str, verb: str, words: str, config_path: str | None, socket_path: str | None, *, as_json: bool
) -> None:
    done = api(config_path, socket_path).post(f"{PATH}/{segment(delivery_id)}/{verb}")
    if as_json:
        print_json(done)
    else:
        click.echo(f"{delivery_id} {words}")


def _attempt_facts(attempt: dict[str, Any]) -> list[tuple[str, object]]:
    request, response = attempt["request"] or {}, attempt["response"] or {}
    status = response.get("status")
    facts: list[tuple[str, object]] = [
        (f"attempt {attempt['n']}", attempt["outcome"]),
        ("  started", f"{attempt['started_at']}, {attempt['elapsed_ms']} ms"),
        ("  error", attempt["error"]),
        ("  request", f"{request['method']} {request['url']}" if request else None),
    ]
    facts += [(f"    {name}", value) for name, value in request.get("headers", {}).items()]
    facts += [("    body", _cut(request.get("body"))), ("  response", status)]
    facts += [(f"    {name}", value) for name, value in response.get("headers", {}).items()]
    return [*facts, ("    body", _cut(response.get("body")))]


def _cut(body: str | None) -> str | None:
    if body is None or len(body) <= MAX_BODY_SHOWN:
        return body
    return f"{body[:MAX_BODY_SHOWN]}… ({len(body)} characters; --json has all)"
