"""Committing the events of spool files, in bounded slices.

Role: hands events to ``Intake`` and says, file by file, what became of them.
Rules: never more than a slice waits for its commit; nothing new is handed in while intake is pressed; after the first
answer that says "not now" no further slice is begun.
Must not know: directories, what is done with a file afterwards.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ringback.core.model import Event, Peer, Rejection
from ringback.core.spool import BadLine, Judged
from ringback.service.intake import CONFLICT, Intake
from ringback.store.ops import Accepted

#: Events, and bytes of their data, waiting for their commit at once.
SLICE_EVENTS = 512
SLICE_BYTES = 4 * 1024 * 1024

#: Answers that say nothing about the event: the same file later.
NOT_NOW = frozenset({"storage_full", "unknown_outcome", "shutting_down"})

_Work = list[tuple[Event, Peer]]
_Outcome = Accepted | Rejection


class Settled(NamedTuple):
    """What became of one file. All None, and nothing to wait for: its events are durable."""

    accepted: int
    duplicates: int
    bad: list[BadLine]  #: lines whose id was taken in between
    stuck: Rejection | None = None  #: an answer that no later try is likely to better
    waits: Rejection | None = None  #: an answer that says "not now"
    cut: bool = False  #: not every event was handed in


class SpoolCommit:
    """Commits for one spool."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._relieved = asyncio.Event()
        self._relieved.set()
        self._stopping = False
        intake.on_pressure(self._pressed)

    def stop(self) -> None:
        """Begin no further slice."""
        self._stopping = True
        self._relieved.set()

    def refusals(self, judged: Judged) -> list[BadLine]:
        """The lines whose callback may not be called or can't be made."""
        found = ((number, self._intake.refusal(event)) for number, event in judged.events if event.callback)
        return [bad_line(number, rejection) for number, rejection in found if rejection is not None]

    def count(self, lines: Sequence[BadLine]) -> None:
        """Count lines that were refused without having been handed in; what is wrong with a whole file is no event."""
        for line in lines:
            if line.line is not None:
                self._intake.count_refused(line.code)

    async def commit(self, files: Sequence[tuple[Peer, Judged]]) -> list[Settled]:
        """Hand the files' events in; one answer for each file, in order."""
        work = [(event, peer) for peer, judged in files for _, event in judged.events]
        outcomes: list[_Outcome] = []
        waits = False
        while len(outcomes) < len(work) and not waits:
            await self._relieved.wait()
            if self._stopping:
                break
            answers = await self._commit_slice(_slice(work, len(outcomes)))
            waits = any(isinstance(one, Rejection) and one.code in NOT_NOW for one in answers)
            outcomes += answers
        settled, at = [], 0
        for _, judged in files:
            settled.append(_settle(judged, outcomes[at : at + len(judged.events)]))
            at += len(judged.events)
        return settled

    def _pressed(self, pressed: bool) -> None:  # noqa: FBT001 - as intake calls it
        if pressed and not self._stopping:
            self._relieved.clear()
        else:
            self._relieved.set()

    async def _commit_slice(self, part: _Work) -> list[_Outcome]:
        outcomes: dict[int, _Outcome] = {}
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done_at(place: int) -> Callable[[_Outcome], None]:
            def done(outcome: _Outcome) -> None:
                outcomes[place] = outcome
                if len(outcomes) == len(part) and not settled.done():
                    settled.set_result(None)

            return done

        for place, (event, peer) in enumerate(part):
            self._intake.take(event, peer, done_at(place))
        await settled
        return [outcomes[place] for place in range(len(part))]


def _slice(work: _Work, start: int) -> _Work:
    end, size = start, 0
    while end < len(work) and end - start < SLICE_EVENTS and size < SLICE_BYTES:
        size += len(work[end][0].data)
        end += 1
    return work[start:end]


def _settle(judged: Judged, outcomes: list[_Outcome]) -> Settled:
    refused = [
        (number, one) for (number, _), one in zip(judged.events, outcomes, strict=False) if isinstance(one, Rejection)
    ]
    codes = {one.code: one for _, one in refused}
    waits = next((one for code, one in codes.items() if code in NOT_NOW), None)
    stuck = next((one for code, one in codes.items() if code not in NOT_NOW and code != CONFLICT.code), None)
    bad = [bad_line(number, one) for number, one in refused if one.code == CONFLICT.code]
    duplicates = sum(1 for one in outcomes if isinstance(one, Accepted) and one.duplicate)
    cut = len(outcomes) < len(judged.events)
    return Settled(len(outcomes) - len(refused), duplicates, bad, stuck, waits, cut)


def bad_line(number: int, rejection: Rejection) -> BadLine:
    """A refusal as a line of the reason."""
    return BadLine(number, rejection.code, rejection.message, rejection.field)
