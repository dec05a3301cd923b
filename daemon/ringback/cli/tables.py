"""What people see: tables and sheets that read well at 100 columns.

Rules: on a terminal tables fit it; into a pipe nothing is cut, so that grep finds whole ids.
Must not know: where the values come from.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeGuard

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringback.cli.words import plain, plain_lines

PIPE_WIDTH = 1000
GAP = 2
WIDE = 160  # columns of a terminal that has room for everything
_STYLES = {
    "active": "green",
    "succeeded": "green",
    "delivered": "green",
    "pending": "yellow",
    "in_flight": "yellow",
    "held": "yellow",
    "paused": "yellow",
    "dead": "red",
    "failed": "red",
    "disabled": "red",
    "expired": "red",
    "cancelled": "dim",
}


def console() -> Console:
    """Where tables go."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


class Column(NamedTuple):
    """A column: never cut (ids, states, times), or giving way; shown on terminals of at least ``wide`` columns."""

    name: str
    kind: Literal["whole", "elastic"] = "whole"
    wide: int = 0


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table; without rows the sentence ``empty``."""
    out = console()
    if not rows:
        out.print(Text(empty))
        return
    shown = [place for place, column in enumerate(columns) if out.width >= column.wide]
    cells = [[cell(row[place]) for place in shown] for row in rows]
    needs = [max(len(columns[place].name), *(len(row[at]) for row in cells)) for at, place in enumerate(shown)]
    elastic = [at for at, place in enumerate(shown) if columns[place].kind == "elastic"]
    widths = _widths(needs, elastic, out.width - GAP * (len(shown) - 1))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for place, width in zip(shown, widths, strict=True):
        table.add_column(columns[place].name, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row)
    _print(out, table)


def _widths(needs: Sequence[int], elastic: Sequence[int], room: int) -> list[int]:
    """What each column gets: the whole ones all they need, the elastic ones fair shares of the rest."""
    widths = list(needs)
    room -= sum(need for at, need in enumerate(needs) if at not in elastic)
    for done, at in enumerate(sorted(elastic, key=lambda at: needs[at])):
        widths[at] = max(1, min(needs[at], room // (len(elastic) - done)))
        room -= widths[at]
    return widths


def print_sheet(facts: Iterable[tuple[str, object]]) -> None:
    """One thing's facts, a line each; what is empty is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", [], {}):
            table.add_row(name, Text(plain_lines(value)) if _has_lines(value) else cell(value))
    _print(console(), table)


def _has_lines(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and any(char in value for char in "\n\t")


def _print(out: Console, table: Table) -> None:
    """Print it; into a pipe without the blanks that fill its last column."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as printed:
        out.print(table)
    out.file.write("".join(f"{line.rstrip()}\n" for line in printed.get().removesuffix("\n").split("\n")))


def cell(value: object) -> Text:
    """A value as text, never as markup: what an endpoint is named must not paint the screen."""
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    text = plain(str(value))
    return Text(text, style=_STYLES.get(text, ""))


def briefly(timestamp: str | None) -> str | None:
    """The same without year and zone on a terminal that is not wide: what is listed is seldom that old."""
    whole = when(timestamp)
    return whole if whole is None or console().width >= WIDE else whole[5:-1]


def when(timestamp: str | None) -> str | None:
    """An API time, shortened to seconds for a column."""
    return None if timestamp is None else f"{timestamp[:10]} {timestamp[11:19]}Z"
