"""``ringback status``: the daemon at a glance."""

from typing import Any

import click

from ringback.cli.context import Command, api, json_option, print_json, where

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command(cls=Command)
@json_option
@where
def status(
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show how the daemon is: its state, what it owes, its endpoints, its disk.

    \b
    Example:
      ringback status
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    found = api(config_path, socket_path).get("/api/v1/status")
    if as_json:
        print_json(found)
        return
    from ringback.cli.tables import print_sheet, when  # noqa: PLC0415 - rich is slow to import

    queue, disk, writing = found["queue"], found["disk"], found["writing"]
    endpoints = ", ".join(f"{count} {name}" for name, count in found["endpoints"].items() if count)
    failing = f"{found['failing']}; who: ringback top" if found["failing"] else ""
    owed = f"{queue['owed']}{' or more' if queue['capped'] else ''}"
    oldest = f", the oldest accepted {when(queue['oldest_accepted_at'])}" if queue["oldest_accepted_at"] else ""
    room = f"{size(disk['database_bytes'] + disk['log_bytes'])} used, {size(disk['free_bytes'])} free"
    if disk["budget_bytes"]:
        room += f"; {size(disk['used_bytes'] or 0)} of the budget of {size(disk['budget_bytes'])}"
    held = bool(found["restored_at"])
    print_sheet(
        [
            ("state", found["state"]),
            ("version", found["version"]),
            ("started", when(found["started_at"])),
            *([("restored", f"{when(found['restored_at'])}; what would be sent is held: ringback db held")] * held),
            ("encryption", _encryption(found["encryption"])),
            ("endpoints", endpoints or "none"),
            ("failing", failing),
            ("owed", owed + oldest),
            ("in flight", str(found["in_flight"])),
            ("to write", f"{writing['rows']} rows, {size(writing['bytes'])}"),
            ("disk", room),
            *([("FULL", f"events are refused, deliveries go on: {disk['full_because']}")] * disk["full"]),
        ]
    )


def _encryption(found: dict[str, Any]) -> str:
    if not found["on"]:
        return "OFF: payloads and secrets lie in the clear in the database"
    left = found["in_the_clear"]
    if not any(left.values()):
        return "on"
    return f"on; from before, up to {left['events']} events and {left['endpoints']} endpoints are still being sealed"


def size(count: int) -> str:
    """Bytes for people."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_UNITS[unit]}"
