"""``ringback delivery``: what became of each event at each endpoint, and what to do about it."""

from typing import Any

import click

from ringback.cli.client import segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.lists import endpoint_id, fetch, limit_option, time_options

PATH = "/api/v1/deliveries"
STATUSES = ("pending", "in_flight", "held", "succeeded", "dead", "expired", "cancelled")
MAX_BODY_SHOWN = 2000
#: Columns of a terminal that has room for the time, and for the event's id too.
WITH_TIME, WITH_EVENT = 100, 120


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
    from ringback.cli.tables import WIDE, Column, briefly, print_table  # noqa: PLC0415 - rich is slow to import

    rows = [
        [
            d["id"],
            d["status"],
            d["attempt_count"],
            briefly(d["created_at"]),
            _to(d),
            d["type"],
            _last(d),
            briefly(d["next_attempt_at"]),
            d["event_id"],
            d["endpoint_id"],
        ]
        for d in page["data"]
    ]
    columns = (
        *map(Column, ("ID", "STATUS", "TRIES")),
        Column("CREATED", wide=WITH_TIME),
        *(Column(name, "elastic") for name in ("TO", "TYPE")),
        Column("LAST", "elastic", wide=WITH_TIME),
        Column("NEXT", wide=WIDE),
        Column("EVENT", "elastic", wide=WITH_EVENT),
        Column("ENDPOINT", wide=WIDE),
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

    attempts, callback = found.pop("attempts"), found.pop("callback")
    facts = dict(found)
    if callback is not None:
        method = f"{callback['method']} " if callback["method"] else ""
        del facts["callback_origin"]
        facts["callback"] = f"{method}{callback['url']} ({callback['dialect']})"
    print_sheet(facts.items())
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
    """Send a delivery now: again if it is finished, sooner if it waits for its next try.

    A finished one begins a fresh retry schedule; one that waits goes on with its own, and this try is the next of it.

    \b
    Example:
      ringback delivery retry 019a9c1e-7d0f-7000-8000-00010000002a
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    _act(delivery_id, "retry", "is sent now", config_path, socket_path, as_json=as_json)


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
    elif done["status"] == "held":
        click.echo(f"{delivery_id} is owed again, and held: ringback why {delivery_id}")
    else:
        click.echo(f"{delivery_id} {words}")


def _attempt_facts(attempt: dict[str, Any]) -> list[tuple[str, object]]:
    request, response = attempt["request"] or {}, attempt["response"] or {}
    status = response.get("status")
    facts: list[tuple[str, object]] = [
        (f"attempt {attempt['n']}", attempt["outcome"] + _again(attempt["run"])),
        ("  started", f"{attempt['started_at']}, {attempt['elapsed_ms']} ms"),
        ("  error", attempt["error"]),
        ("  request", f"{request['method']} {request['url']}" if request else None),
    ]
    facts += [(f"    {name}", value) for name, value in request.get("headers", {}).items()]
    facts += [("    body", _cut(request.get("body"))), ("  response", status)]
    facts += [(f"    {name}", value) for name, value in response.get("headers", {}).items()]
    return [*facts, ("    body", _cut(response.get("body")))]


def _to(delivery: dict[str, Any]) -> str | None:
    """Who gets it, as people call it."""
    name: str | None = delivery["endpoint_name"] or delivery["callback_origin"] or delivery["endpoint_id"]
    return name


def _last(delivery: dict[str, Any]) -> str | None:
    """What the latest attempt ended with: the receiver's status, or what came instead of one."""
    status, outcome = delivery["last_status"], delivery["last_outcome"]
    return str(status) if status is not None else outcome and outcome.replace("_", " ")


def _again(run: int) -> str:
    """Which schedule an attempt is of, once it was sent again by hand: the log counts attempts within one."""
    return f" (run {run}: sent again by hand)" if run > 1 else ""


def _cut(body: str | None) -> str | None:
    if body is None or len(body) <= MAX_BODY_SHOWN:
        return body
    return f"{body[:MAX_BODY_SHOWN]}… ({len(body)} characters; --json has all)"
