"""``ringback event``: look at what was accepted, erase it."""

import json

import click

from ringback.cli.client import Unreachable, of_tenant, segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.erasing import event_alone, sure, yes_option
from ringback.cli.lists import fetch, limit_option, time_options

PATH = "/api/v1/events"


@click.group(cls=Group)
def event() -> None:
    """Look at events that were accepted, erase them."""


@event.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--type", "type_", help="Only of this type.")
@time_options
@limit_option
@json_option
@where
def list_(
    tenant: str | None,
    type_: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """List events, newest first.

    \b
    Example:
      ringback event list --type stt.jobs.completed --since 2026-11-21T09:00:00Z
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    filters = {"tenant": tenant, "type": type_, "since": since, "until": until}
    page = fetch(api(config_path, socket_path), PATH, filters, limit)
    if as_json:
        print_json(page)
        return
    from ringback.cli.tables import Column, print_table, when  # noqa: PLC0415 - rich is slow to import

    rows = [
        [e["id"], when(e["created_at"]), e["tenant"], e["type"] + (" (erased)" if e["erased_at"] else "")]
        for e in page["data"]
    ]
    columns = (*map(Column, ("ID", "CREATED")), Column("TENANT", "elastic"), Column("TYPE", "elastic"))
    print_table(columns, rows, "No events.")


@event.command()
@click.argument("event_id", metavar="ID")
@click.option("--tenant", help="Whose event it is; 'default' if not given.")
@json_option
@where
def show(
    event_id: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show one event and how many deliveries stand how.

    \b
    Example:
      ringback event show 019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    with of_tenant(tenant):
        found = api(config_path, socket_path).get(f"{PATH}/{segment(event_id)}", {"tenant": tenant})
    if as_json:
        print_json(found)
        return
    from ringback.cli.tables import print_sheet  # noqa: PLC0415 - rich is slow to import

    gone = found["erased_at"] is not None
    found["data"] = f"erased at {found['erased_at']}" if gone else json.dumps(found["data"], ensure_ascii=False)
    print_sheet(found.items())


@event.command()
@click.argument("event_id", metavar="ID")
@click.option("--tenant", help="Whose event it is; 'default' if not given.")
@yes_option
@json_option
@where
def erase(
    event_id: str,
    tenant: str | None,
    yes: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Erase what an event held: its data, and all that its receivers answered. It can't be undone.

    What is still owed of it is cancelled. Its id, type and times stay, so the same id sent again is a duplicate. With
    no daemon running it is done in the state directory.

    \b
    Example:
      ringback event erase 019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    sure(lambda: f"Erase event {event_id}? It can't be undone.", yes=yes)
    with of_tenant(tenant):
        try:
            query = f"?tenant={segment(tenant)}" if tenant is not None else ""
            done = api(config_path, socket_path).post(f"{PATH}/{segment(event_id)}/erase{query}")
        except Unreachable:
            done = event_alone(config_path, socket_path, tenant or "default", event_id)
    if as_json:
        print_json(done)
        return
    click.echo(f"{event_id} is erased, since {done['erased_at']}")
