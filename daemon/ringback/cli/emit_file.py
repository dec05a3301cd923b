"""``ringback emit --ndjson``: many events over one connection, without waiting for each answer.

Rules: at most ``WINDOW`` lines are unanswered; every rejection is told with its line number; blank lines are skipped.
Answers come in order, so the n-th answer is the n-th line's.
"""

import json
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from ringback.cli.client import CommandError, Refused, connect
from ringback.cli.context import print_json

#: Lines sent and not answered yet; the daemon itself stops reading at 1024.
WINDOW = 1000
MAX_LINE_BYTES = 33_554_432
FLUSH_BYTES = 65_536
MAX_ANSWER_BYTES = 65_536

Show = Callable[[int], None]


class Pipeline:
    """Sends lines and counts answers. ``counts``: accepted, duplicate, rejected, deliveries."""

    def __init__(self, sock: socket.socket, tell: Callable[[str], None]) -> None:
        self._sock = sock
        self._tell = tell
        self._free = threading.Semaphore(WINDOW)
        self._numbers: deque[int] = deque()
        self._held = bytearray()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.counts: Counter[str] = Counter()
        self._reader.start()

    def send(self, number: int, line: bytes) -> None:
        """Queue one line, its number for the messages. Waits while the window is full. Raises CommandError."""
        if not self._free.acquire(blocking=False):
            self.flush()
            self._free.acquire()
        if self._ended.is_set():
            raise CommandError("the daemon closed the connection")
        self._numbers.append(number)
        self._held += line
        if len(self._held) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is queued to the socket. Raises CommandError if the daemon went away."""
        try:
            self._sock.sendall(self._held)
        except OSError as failed:
            raise CommandError(f"the connection broke: {failed.strerror or failed}") from None
        finally:
            self._held.clear()

    def finish(self) -> int:
        """Send the rest, wait for the answers; returns how many lines have none."""
        try:
            self.flush()
            self._sock.shutdown(socket.SHUT_WR)
        except (CommandError, OSError):
            pass  # the lines without an answer tell it
        self._reader.join()
        return len(self._numbers)

    def _read(self) -> None:
        try:
            with self._sock.makefile("rb") as answers:
                while (answer := answers.readline(MAX_ANSWER_BYTES)).endswith(b"\n"):
                    self._count(json.loads(answer))
                    self._free.release()
        except (OSError, ValueError) as failed:
            self._tell(f"the answers broke off: {failed}")
        finally:
            self._ended.set()
            self._free.release()  # a sender that waits must see the end

    def _count(self, told: dict[str, object]) -> None:
        error = told.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        # a connection too many is told so unasked: that is no line's answer
        number = self._numbers.popleft() if self._numbers and code != "overloaded" else 0
        if told.get("ok"):
            self.counts["duplicate" if told.get("duplicate") else "accepted"] += 1
            deliveries = told.get("deliveries")
            if not told.get("duplicate") and isinstance(deliveries, int):
                self.counts["deliveries"] += deliveries
            return
        words = f"{code}: {error.get('message')}" if isinstance(error, dict) else str(error)
        self.counts["rejected"] += number > 0
        self._tell(f"line {number}: {words}" if number else words)


def emit_file(path: str, name: str, rate: float | None, *, as_json: bool) -> None:
    """Send every line of the file ``name`` (``-``: stdin) to the socket at ``path``, at most ``rate`` a second."""
    with ExitStack() as stack:
        stream = _open(name, stack)
        sock = stack.enter_context(connect(path))
        sock.settimeout(None)  # a daemon that can't keep up stops reading: waiting is right
        show, tell = _progress(stream, name, stack)
        pipeline = Pipeline(sock, tell)
        broken = ""
        try:
            for number, line in _paced(_lines(stream), rate, pipeline.flush):
                pipeline.send(number, line)
                show(len(line))
        except CommandError as failed:
            broken = str(failed)
        unanswered = pipeline.finish()
    counts = {key: pipeline.counts[key] for key in ("accepted", "duplicate", "rejected", "deliveries")}
    counts["unanswered"] = unanswered
    if as_json:
        print_json(counts)
    else:
        click.echo(", ".join(f"{key} {value}" for key, value in counts.items() if value or key == "accepted"))
    if broken or unanswered:
        raise CommandError(f"{broken or 'the daemon closed the connection'}; {unanswered} lines have no answer")
    if counts["rejected"]:
        raise Refused(f"{counts['rejected']} of {sum(counts.values()) - counts['deliveries']} lines were rejected")


def _open(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(name).open("rb"))
    except OSError as failed:
        raise click.UsageError(f"{name} can't be read: {failed.strerror}") from None


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that aren't blank, with their numbers, each ending in LF."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise CommandError(f"line {number} is longer than {MAX_LINE_BYTES} bytes")
        if line.strip(b" \t\r\n"):
            yield number, line if line.endswith(b"\n") else line + b"\n"


def _paced(
    lines: Iterator[tuple[int, bytes]], rate: float | None, flush: Callable[[], None]
) -> Iterator[tuple[int, bytes]]:
    """The same lines, not before their time; what was queued goes out before a wait."""
    if rate is None:
        yield from lines
        return
    from ringback.kit.clock import SystemClock  # noqa: PLC0415 - only a rate needs a clock

    clock, waiting = SystemClock(), threading.Event()
    began_s = clock.monotonic()
    for place, numbered in enumerate(lines):
        early_s = began_s + place / rate - clock.monotonic()
        if early_s > 0:
            flush()
            waiting.wait(early_s)
        yield numbered


def _progress(stream: BinaryIO, name: str, stack: ExitStack) -> tuple[Show, Callable[[str], None]]:
    """A bar on a terminal, nothing elsewhere; and how to print a line beside it."""
    if not sys.stderr.isatty():
        return (lambda _: None), (lambda text: click.echo(text, err=True))
    from rich import progress  # noqa: PLC0415 - only a terminal pays for it
    from rich.console import Console  # noqa: PLC0415 - as above

    console = Console(stderr=True, highlight=False)
    bar = stack.enter_context(
        progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[lines]} events"),
            progress.TimeRemainingColumn(),
            console=console,
        )
    )
    total = None if name == "-" else Path(stream.name).stat().st_size
    task = bar.add_task("emit", total=total, lines=0)
    sent = 0

    def show(size: int) -> None:
        nonlocal sent
        sent += 1
        bar.update(task, advance=size, lines=sent)

    return show, lambda text: console.print(text, markup=False)
