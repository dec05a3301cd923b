"""Plays the story on a stage and a screen, and makes an exit code of how it ended.

Rules: the stage is cleared on every way out: the end, a failure, Ctrl-C, SIGTERM, a closed terminal.
Must not know: the plot.
"""

import asyncio
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ringback.cli.context import print_json
from ringback.cli.demo.account import print_summary
from ringback.cli.demo.show import LiveScreen, PlainScreen
from ringback.cli.demo.stage import DemoError, Stage
from ringback.cli.demo.story import Story
from ringback.cli.demo.values import Summary
from ringback.kit.clock import Clock, SystemChance, SystemClock

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
LOG_WIDTH = 110
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(count: int, *, keep: bool, as_json: bool) -> int:
    """Play the demo with ``count`` events; returns the exit code."""
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    try:
        return asyncio.run(_play(count, console, SystemClock(), keep=keep, as_json=as_json))
    except DemoError as failed:
        console.print(Text(f"ringback demo: {failed}", style="red"), soft_wrap=True)
        return EXIT_FAILED
    except asyncio.CancelledError:
        console.print("ringback demo: interrupted; everything it started is gone")
        return EXIT_INTERRUPTED


async def _play(count: int, console: Console, clock: Clock, *, keep: bool, as_json: bool) -> int:
    _end_on_signals()
    started = clock.monotonic()
    kind = LiveScreen if console.is_terminal else PlainScreen
    stage = Stage(clock)
    try:
        with kind(console, lambda: clock.monotonic() - started) as screen:
            summary = await Story(count, stage, screen, clock, SystemChance()).play()
    finally:
        await stage.close(keep=keep)
    _report(console, summary, stage, keep=keep, as_json=as_json)
    return EXIT_FAILED if summary.problems else 0


def _end_on_signals() -> None:
    """A signal cancels the play once; what follows is the clearing of the stage, which a second one can't break."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asked = iter([task.cancel])

    def end() -> None:
        next(asked, lambda: None)()

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, end)


def _report(console: Console, summary: Summary, stage: Stage, *, keep: bool, as_json: bool) -> None:
    if as_json:
        print_json(asdict(summary) | {"folder": str(stage.folder) if keep else None})
        return
    print_summary(console, summary)
    command = _own_name()
    hints = ["next: README.md, “Five minutes”: an endpoint of your own", f"or look inside: {command} demo --keep"]
    if keep:
        hints = [
            f"kept: {stage.folder} (database, daemon.log). Look inside:",
            f"  {command} run --config {stage.config} > /dev/null &",
            f"  {command} delivery list --status dead --limit 5 --config {stage.config}",
        ]
    for hint in hints:
        console.print(Text(f"    {hint}", style="dim"), soft_wrap=True)


def _own_name() -> str:
    """How this command is called from a shell that hasn't activated its environment."""
    if shutil.which("ringback"):
        return "ringback"
    beside = Path(sys.executable).with_name("ringback")
    if not beside.exists():
        return f"{sys.executable} -m ringback"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)
