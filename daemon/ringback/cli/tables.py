"""What people see: tables and sheets that read well at 100 columns.

Rules: on a terminal tables fit it; into a pipe nothing is cut, so that grep finds whole ids.
Must not know: where the values come from.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 1000
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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table; without rows the sentence ``empty``. The first column is never cut: it is the one to copy."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(
            column, no_wrap=True, overflow="ellipsis" if place else "fold", min_width=36 if not place else 1
        )
    for row in rows:
        table.add_row(*map(cell, row))
    if table.row_count:
        console().print(table)
    else:
        console().print(Text(empty))


def print_sheet(facts: Iterable[tuple[str, object]]) -> None:
    """One thing's facts, a line each; what is empty is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", [], {}):
            table.add_row(name, cell(value))
    console().print(table)


def cell(value: object) -> Text:
    """A value as text, never as markup: what an endpoint is named must not paint the screen."""
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return Text(text, style=_STYLES.get(text, ""))


def when(timestamp: str | None) -> str | None:
    """An API time, shortened to seconds for a column."""
    return None if timestamp is None else f"{timestamp[:10]} {timestamp[11:19]}Z"
