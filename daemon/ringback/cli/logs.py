"""``ringback logs``: the daemon's JSON lines, rendered for people.

Role: reads a file or a pipe (``journalctl -u ringback -o cat``), filters, prints one short line for each.
Rules: needs no daemon and no configuration; a line that isn't ours is shown as it stands; nothing in a line can steer
the terminal; memory is one line. What is unknown is shown, never dropped.
Must not know: what the names mean.
"""

import json
import os
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from threading import Event
from typing import IO, Any, NamedTuple

import click

from ringback.cli.client import CommandError, NotFound
from ringback.cli.context import Command

LEVELS = ("debug", "info", "warning", "error", "critical")
#: How often a file that is followed is looked at.
LOOK_EVERY_S = 0.2
#: A longer line is no line of ours.
MAX_LINE_BYTES = 1_048_576

_COLOURS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}
#: Shown first, and under a shorter name.
_FIRST = {
    "tenant": "tenant",
    "event_id": "event",
    "delivery_id": "delivery",
    "endpoint_name": "endpoint",
    "endpoint_id": "endpoint",
    "attempt": "attempt",
    "status": "status",
    "elapsed_ms": "ms",
}
_HEAD = frozenset({"event", "level", "timestamp"})
#: Lines below their head: a traceback is readable only as it was written, problems one by one.
_BELOW = ("exception", "problems")


class Wanted(NamedTuple):
    """Which lines to show. ``event``: an event's id, or a log name, which has a dot; ``*`` stands for anything."""

    level: str = "debug"
    endpoint: str | None = None
    event: str | None = None


@click.command(cls=Command)
@click.argument("file", default="-", metavar="[FILE|-]")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, also to a new file of that name.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="This level and above.")
@click.option("--endpoint", metavar="NAME|ID", help="Of this endpoint; the beginning of its id will do.")
@click.option("--event", metavar="ID|NAME", help="Of this event; or lines of this name, e.g. 'delivery.*'.")
def logs(
    file: str,
    follow: bool,  # noqa: FBT001 - a command-line flag
    level: str,
    endpoint: str | None,
    event: str | None,
) -> None:
    """Read the log as people do.

    \b
    Examples:
      journalctl -u ringback -o cat -f | ringback logs --level warning
      ringback logs ringback.log --follow --event 'delivery.*'
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    wanted, day = Wanted(level, endpoint, event), ""
    for line in _lines(file, follow=follow):
        values = parsed(line)
        if values is None:
            if wanted == Wanted():
                click.echo(printable(line))
            continue
        if not passes(values, wanted):
            continue
        if values["timestamp"][:10] != day:
            day = values["timestamp"][:10]
            click.secho(printable(day), bold=True)
        click.echo(rendered(values))


def parsed(line: str) -> dict[str, Any] | None:
    """A line of ours as its members; None if it is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(values, dict) and all(isinstance(values.get(name), str) for name in _HEAD)
    return values if ours else None


def passes(values: dict[str, Any], wanted: Wanted) -> bool:
    """Whether to show it; a level nobody knows counts as the highest."""
    level = values["level"]
    if level in LEVELS and LEVELS.index(level) < LEVELS.index(wanted.level):
        return False
    if wanted.endpoint is not None:
        ids = [values.get("endpoint_id"), *_list(values.get("endpoint_ids"))]
        known = any(isinstance(one, str) and one.startswith(wanted.endpoint) for one in ids)
        if not known and values.get("endpoint_name") != wanted.endpoint:
            return False
    if wanted.event is None:
        return True
    name = "event" if "." in wanted.event else "event_id"
    return fnmatchcase(str(values.get(name)), wanted.event)


def rendered(values: dict[str, Any]) -> str:
    """One line for people: the time of day, the name, then what is known; a traceback below."""
    level = values["level"]
    named = values.get("endpoint_name") is not None  # then people need no id; it is in the line itself
    first = {name: short for name, short in _FIRST.items() if not (named and name == "endpoint_id")}
    shown = [f"{short}={_value(values[name])}" for name, short in first.items() if values.get(name) is not None]
    below = [name for name in _BELOW if isinstance(values.get(name), str | list)]
    rest = values.keys() - _HEAD - _FIRST.keys() - set(below)
    shown += [
        f"{printable(name)}={_value(values[name])}" for name in values if name in rest and values[name] is not None
    ]
    mark = "" if level in ("info", "debug") else f"{level.upper()} "
    name = click.style(f"{mark}{printable(values['event'])}", fg=_COLOURS.get(level, "green"))
    head = f"{printable(values['timestamp'][11:].removesuffix('Z'))}  {name}"
    lines = [f"    {printable(line)}" for one in below for line in _lines_of(values[one])]
    return "\n".join(["  ".join([head, *shown]), *lines])


def _lines_of(value: str | list[object]) -> list[str]:
    return value.splitlines() if isinstance(value, str) else [str(one) for one in value]


def printable(text: str) -> str:
    """Text that can't steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _value(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if " " in value or not value else printable(value)
    return printable(json.dumps(value, ensure_ascii=False))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _lines(file: str, *, follow: bool) -> Iterator[str]:
    """Lines without their ends, as text whatever the bytes."""
    if file == "-":
        if sys.stdin.isatty():
            raise click.UsageError("name a file, or pipe a log in: journalctl -u ringback -o cat | ringback logs")
        yield from map(_text, iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b""))
        return
    yield from map(_text, _followed(file) if follow else _read(file))


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode(errors="backslashreplace")


def _open(file: str) -> IO[bytes]:
    try:
        return open(file, "rb")  # noqa: PTH123 - the readers below close it
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror or error}") from None


def _read(file: str) -> Iterator[bytes]:
    with _open(file) as stream:
        yield from iter(lambda: stream.readline(MAX_LINE_BYTES), b"")


def _followed(file: str) -> Iterator[bytes]:
    """What is there, then what comes: half a line is waited for, a file that was rotated away is left at its end."""
    pause, stream, begun = Event(), _open(file), b""
    try:
        while True:
            part = stream.readline(MAX_LINE_BYTES)
            begun += part
            if begun.endswith(b"\n") or len(begun) >= MAX_LINE_BYTES:
                yield begun
                begun = b""
            elif not part:
                if _replaced(file, stream):
                    stream.close()
                    stream, begun = _open(file), b""
                    continue
                pause.wait(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return
    finally:
        stream.close()


def _replaced(file: str, stream: IO[bytes]) -> bool:
    """Whether another file has that name by now, or this one was emptied."""
    ours = os.fstat(stream.fileno())
    try:
        now = os.stat(file)  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return False  # between two files
    return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino) or now.st_size < stream.tell()
