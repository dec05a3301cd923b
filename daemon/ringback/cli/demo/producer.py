"""The demo's producer: writes events at a steady pace and keeps each until the daemon has answered for it.

Role: what any careful producer does. Lines are pipelined; when the connection breaks, the ones without an answer are
written again with the same ids, and the daemon knows the doubles.
Rules: an event is forgotten only when its answer is in.
Must not know: endpoints, the receiver, why a connection broke.
"""

import asyncio
import json
from collections import deque

from ringback.cli.demo.jobs import Job
from ringback.cli.demo.ledger import Ledger
from ringback.kit.clock import Clock

#: Between tries to connect while the daemon is away.
RECONNECT_S = 0.05
#: Lines written and not answered yet, at most.
MAX_UNANSWERED = 256
#: Lines written at a time, as a platform does that ends several jobs at once.
BURST = 6
#: The longest answer read.
MAX_ANSWER_BYTES = 65_536


class Producer:
    """Emits the jobs, in order, ``gap_s`` seconds apart."""

    def __init__(self, path: str, jobs: list[Job], gap_s: float, ledger: Ledger, clock: Clock) -> None:
        self._path = path
        self._todo = deque(jobs)
        self._half = len(jobs) // 2
        self._unanswered: deque[Job] = deque()
        self._again: set[str] = set()
        self._gap_s = gap_s
        self._ledger = ledger
        self._clock = clock
        self._burst = asyncio.Event()
        #: Half of the jobs are written.
        self.halfway = asyncio.Event()
        #: Nothing that was written again waits for its answer.
        self.caught_up = asyncio.Event()
        self.caught_up.set()

    async def next_burst(self) -> None:
        """Until some more lines are written and, most likely, not answered yet; at once if all are written."""
        self._burst.clear()
        if self._todo:
            await self._burst.wait()

    async def run(self) -> None:
        """Until every job is answered; through as many broken connections as it takes."""
        while self._todo:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_ANSWER_BYTES)
            except OSError:
                await self._clock.sleep(RECONNECT_S)
                continue
            await self._session(reader, writer)
            self._keep_unanswered()

    def _keep_unanswered(self) -> None:
        """The connection is over: what has no answer is to be written again, first and in order."""
        self._ledger.resent += len(self._unanswered)
        self._again.update(job.id for job in self._unanswered)
        self._todo.extendleft(reversed(self._unanswered))
        self._unanswered.clear()
        if self._again:
            self.caught_up.clear()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = asyncio.create_task(self._read_answers(reader))
        try:
            await self._write_lines(writer, answers)
            if writer.can_write_eof():
                writer.write_eof()
            await answers
        except OSError:
            pass  # the daemon went away: what is unanswered is written again
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            writer.close()

    async def _write_lines(self, writer: asyncio.StreamWriter, answers: "asyncio.Task[None]") -> None:
        while self._todo and not answers.done():
            for _ in range(min(BURST, len(self._todo), MAX_UNANSWERED - len(self._unanswered))):
                job = self._todo.popleft()
                self._unanswered.append(job)
                writer.write(job.line)
            self._burst.set()
            if len(self._todo) <= self._half:
                self.halfway.set()
            await writer.drain()
            await self._clock.sleep(self._gap_s * BURST)

    async def _read_answers(self, reader: asyncio.StreamReader) -> None:
        """One answer for each line, in order, until the connection ends."""
        while (line := await reader.readline()).endswith(b"\n"):
            event_id = self._unanswered.popleft().id
            self._ledger.acked(event_id, json.loads(line))
            self._again.discard(event_id)
            if not self._again:
                self.caught_up.set()
