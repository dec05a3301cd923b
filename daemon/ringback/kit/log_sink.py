"""Where log lines go: a bounded buffer and a thread that writes it out.

Role: takes finished lines from any thread without ever waiting, and writes them to a file descriptor.
Rules: what doesn't fit is dropped and counted, never waited for; the count is told in a line of its own once there is
room again; many lines leave in one write; a failed write loses its lines, never the process; the end is bounded.
Must not know: what a line says.
"""

import os
import select
import threading
from collections.abc import Callable

#: Lines and bytes that wait for the writer; as much again may be in its hand.
MAX_LINES = 16_384
MAX_BYTES = 4_194_304

#: After a write the writer rests this long, so that a busy daemon wakes it 50 times a second and not for every line.
REST_S = 0.02

#: How often the writer looks whether a descriptor that takes nothing (non-blocking, full) takes something again.
RETRY_MS = 100

#: Bytes handed to the kernel in one call.
WRITE_BYTES = 65_536

NEWLINE = 0x0A

#: How long ``stop`` waits for what is left.
STOP_S = 1.0


class LogSink:
    """One descriptor's writer. ``tell_dropped`` makes the line (LF included) that tells how many lines were lost."""

    def __init__(self, fd: int, tell_dropped: Callable[[int], bytes]) -> None:
        self._fd = fd
        self._tell_dropped = tell_dropped
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._untold = 0
        self._torn = False  # the last write ended inside a line
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Hand over one line, LF included. Never waits, never raises; thread-safe."""
        size = len(line)
        with self._lock:
            if len(self._lines) >= MAX_LINES or self._bytes + size > MAX_BYTES or self._stopping.is_set():
                self._lose(1)
                return
            self._lines.append(line)
            self._bytes += size
        if not self._work.is_set():
            self._work.set()

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Write what is left, for at most ``timeout_s`` seconds, and end; say whether all was written.

        Lines put afterwards are dropped.
        """
        self._stopping.set()
        self._work.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._lines

    def _lose(self, count: int) -> None:
        self._dropped += count
        self._untold += count

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            last = self._stopping.is_set()
            self._drain()
            if last:
                return
            self._stopping.wait(REST_S)

    def _drain(self) -> None:
        with self._lock:
            lines, self._lines, self._bytes = self._lines, [], 0
            untold, self._untold = self._untold, 0
        if untold:
            lines.append(self._tell_dropped(untold))
        batch: list[bytes] = []
        size = 0
        for line in lines:
            batch.append(line)
            size += len(line)
            if size >= WRITE_BYTES:
                self._write(batch)
                batch, size = [], 0
        if batch:
            self._write(batch)

    def _write(self, batch: list[bytes]) -> None:
        text = (b"\n" if self._torn else b"") + b"".join(batch)
        written = 0
        try:
            while written < len(text):
                try:
                    written += os.write(self._fd, memoryview(text)[written:])
                except BlockingIOError:
                    self._await_room()
            self._torn = False
        except OSError:
            # A full disk, a closed pipe: nobody can be told here; the lines are counted and the next batch tries again.
            if written:
                self._torn = text[written - 1] != NEWLINE
            with self._lock:
                self._lose(max(0, len(batch) - text.count(b"\n", 0, written)))

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(RETRY_MS)
