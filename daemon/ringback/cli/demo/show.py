"""What the watcher of the demo sees: a live table on a terminal, plain lines elsewhere.

Rules: announcements stay on the screen above the table; without a terminal nothing is redrawn, so that a CI log reads
from top to bottom. Numbers are the books' own.
Must not know: processes, sockets, the order of the story.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ringback.cli.demo.ledger import Ledger
from ringback.cli.demo.values import Row

#: Without a terminal the lanes are told this often.
PLAIN_EVERY_S = 3.0
REFRESH_PER_S = 10
BAR_WIDTH = 12
#: Below these widths the table leaves out its bars, and what each endpoint is like.
BARS_FROM_WIDTH = 110
ABOUT_FROM_WIDTH = 98

_STATUS_STYLES = {"active": "green", "pending": "yellow"}


class PlainScreen:
    """Lines for logs and pipes. ``elapsed`` tells the seconds since the start."""

    def __init__(self, console: Console, elapsed: Callable[[], float]) -> None:
        self._console = console
        self._elapsed = elapsed
        self._told_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""

    def say(self, text: str, style: str = "") -> None:
        """Announce one thing that happens."""
        self._console.print(Text.assemble((f"{self._elapsed():6.1f} s  ", "dim"), (text, style)), soft_wrap=True)

    def draw(self, ledger: Ledger, daemon: str) -> None:
        """Tell the lanes, if the last time is long enough ago."""
        if self._elapsed() - self._told_at < PLAIN_EVERY_S:
            return
        self._told_at = self._elapsed()
        self.say(f"daemon {daemon}, accepted {len(ledger.accepted)} of {len(ledger.jobs)}")
        for lane in ledger.lanes:
            row = ledger.row(lane)
            self._console.print(
                f"          {row.name:12} {row.delivered:5} delivered {row.retried:5} retried {row.waiting:5} waiting "
                f"{row.in_flight:3} in flight {row.dead:5} given up {row.doubled:3} doubled",
                soft_wrap=True,
            )


class LiveScreen:
    """A table that is redrawn in place; announcements scroll above it."""

    def __init__(self, console: Console, elapsed: Callable[[], float]) -> None:
        self._console = console
        self._elapsed = elapsed
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_S, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the table as it stands."""
        self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """Announce one thing that happens."""
        line = Table.grid(padding=(0, 2))  # a column of its own, so that a long sentence wraps beside the time
        line.add_row(Text(f"{self._elapsed():6.1f} s", style="dim"), Text(text, style=style))
        self._console.print(line)

    def draw(self, ledger: Ledger, daemon: str) -> None:
        """Redraw the table."""
        table = lanes_table(ledger, daemon, self._console.width)
        self._live.update(Padding(Group(_accepted_line(ledger, daemon), table), (1, 0, 0, 2)))


def _accepted_line(ledger: Ledger, daemon: str) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    state = ("daemon up", "green") if daemon == "up" else ("daemon down", "bold red")
    bar = ProgressBar(total=len(ledger.jobs), completed=len(ledger.accepted), width=30, complete_style="cyan")
    line.add_row(Text(*state), bar, Text(f"{len(ledger.accepted)} of {len(ledger.jobs)} events acknowledged"))
    return line


def lanes_table(ledger: Ledger, daemon: str, width: int) -> Table:
    """The lanes as they stand now, for a screen of that many columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("endpoint", no_wrap=True)
    if width >= ABOUT_FROM_WIDTH:
        table.add_column("", no_wrap=True, style="dim")
    table.add_column("status", no_wrap=True)
    if width >= BARS_FROM_WIDTH:
        table.add_column("", width=BAR_WIDTH)
    for heading in ("delivered", "retried", "waiting", "in flight", "given up", "doubled"):
        table.add_column(heading, justify="right", no_wrap=True)
    for lane in ledger.lanes:
        table.add_row(*_cells(ledger.row(lane), ledger.due(lane), daemon, width))
    return table


def _cells(row: Row, total: int, daemon: str, width: int) -> list[RenderableType]:
    status = row.status if daemon == "up" else "–"
    style = "red" if row.dead else "green"
    ended = row.delivered + row.dead
    bar = ProgressBar(total=total, completed=ended, width=BAR_WIDTH, complete_style=style, finished_style=style)
    return [
        Text(row.name, style="bold"),
        *([Text(row.about)] if width >= ABOUT_FROM_WIDTH else []),
        Text(status, style=_STATUS_STYLES.get(status, "")),
        *([bar] if width >= BARS_FROM_WIDTH else []),
        _number(row.delivered, "green"),
        _number(row.retried, "yellow"),
        _number(row.waiting, ""),
        _number(row.in_flight, "cyan"),
        _number(row.dead, "red"),
        _number(row.doubled, "magenta"),
    ]


def _number(value: int, style: str) -> Text:
    return Text(f"{value:,}", style=style if value else "dim")
