"""``ringback top``: the busiest lanes, live.

Rules: one cheap question a look; rates are differences between two looks.
Must not know: how lanes are chosen.
"""

import sys
from threading import Event
from typing import Any

import click

from ringback.cli.client import Api
from ringback.cli.context import Command, api, json_option, print_json, where

PATH = "/api/v1/lanes"
ROOMY = 100  # columns of a terminal that has room for tenants


@click.command(cls=Command)
@click.option("--limit", type=click.IntRange(1, 250), default=20, show_default=True, help="How many lanes at most.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once and end; so too when the output is no terminal.")
@json_option
@where
def top(
    limit: int,
    every_s: float,
    once: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Watch the busiest lanes: requests in flight, what waits, who is failing. Ctrl-C ends it.

    A lane is what one endpoint is owed. LIMIT is how many requests it may have in flight now, WAITING what could go at
    once (as far as it lies in memory), FAILED how many attempts failed in a row.

    \b
    Example:
      ringback top --every 1
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    if as_json:
        print_json(daemon.get(PATH, {"limit": limit}))
        return
    from ringback.cli.tables import console  # noqa: PLC0415 - rich is slow to import

    if once or not sys.stdout.isatty():
        console().print(_screen(daemon.get(PATH, {"limit": limit}), None, every_s))
        return
    _watch(daemon, limit, every_s)


def _watch(daemon: Api, limit: int, every_s: float) -> None:
    from rich.live import Live  # noqa: PLC0415 - as above

    pause, before = Event(), None
    with Live(screen=True, auto_refresh=False) as live:
        try:
            while True:
                now = daemon.get(PATH, {"limit": limit})
                live.update(_screen(now, before, every_s), refresh=True)
                before = now
                pause.wait(every_s)
        except KeyboardInterrupt:
            return


def _screen(now: dict[str, Any], before: dict[str, Any] | None, every_s: float) -> Any:
    from rich.table import Table  # noqa: PLC0415 - as above

    from ringback.cli.tables import cell, console  # noqa: PLC0415 - as above

    roomy = console().width >= ROOMY
    table = Table(box=None, title=headline(now, before, every_s), title_justify="left", header_style="bold")
    table.add_column("ENDPOINT")  # the one that gives way: its cells are cut, not broken
    for name in (*["TENANT"] * roomy, "STATUS"):
        table.add_column(name, no_wrap=True)
    for name in ("IN FLIGHT", "LIMIT", "WAITING", "FAILED"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("NEXT RETRY", no_wrap=True)
    for lane in now["data"]:
        called = cell(lane["name"] or lane["endpoint_id"])
        called.no_wrap, called.overflow = True, "ellipsis"
        status = _status(lane)
        numbers = (lane["in_flight"], lane["window"], lane["waiting"], lane["failures"])
        due = lane["next_due_at"] and f"{lane['next_due_at'][5:10]} {lane['next_due_at'][11:19]}Z"
        table.add_row(called, *map(cell, (*[lane["tenant"]] * roomy, status, *numbers, due)))
    return table


def _status(lane: dict[str, Any]) -> str | None:
    """Of an active one, what keeps it from sending more."""
    status: str | None = lane["status"]
    if status != "active":
        return status
    return "failing" if lane["failing"] else "rate limit" if lane["waiting"] and lane["rate_wait_s"] else status


def headline(now: dict[str, Any], before: dict[str, Any] | None, every_s: float) -> str:
    """Totals since the start, or the rates since the look before."""
    attempts, delivered = sum(now["attempts"].values()), now["attempts"].get("delivered", 0)
    events = now["events_accepted"]
    if before is None:
        return f"since the start: {events} events, {attempts} attempts, {delivered} delivered"
    attempts -= sum(before["attempts"].values())
    delivered -= before["attempts"].get("delivered", 0)
    if attempts < 0 or events < before["events_accepted"]:  # it was started anew between the two looks
        return headline(now, None, every_s)
    rates = ((events - before["events_accepted"], "events"), (attempts, "attempts"), (delivered, "delivered"))
    return ", ".join(f"{count / every_s:.1f} {what}/s" for count, what in rates)
