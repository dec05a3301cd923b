"""Events to lines and answers to outcomes: the protocol without its socket.

Role: what both producers share. ``Conversation`` keeps what is to be sent, what waits for its answer, and what must be
sent again.
Rules: answers come in the order of the lines; a lost connection or a refusal that isn't final puts events back at the
head, in their order, under their ids.
Must not know: sockets, time, threads.
"""

import json
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ringback.client.errors import Rejected

#: Answers that mean: the same event, later.
NOT_NOW = frozenset({"overloaded", "storage_full", "shutting_down", "unknown_outcome"})

#: Longer than any answer; a peer that sends more speaks something else.
MAX_ANSWER_BYTES = 65_536

#: The wait before the next connection or try: doubled each time, shortened by chance. A try costs little.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 0.5

_TIMES = ("created_at", "deliver_after", "expires_at")
_ONE, _TWO = 0x7 << 76, 0b10 << 62


@dataclass(frozen=True, slots=True)
class Ack:
    """The event is on disk. ``deliveries``: how many endpoints will get it; ``duplicate``: it had been there before."""

    id: str
    deliveries: int
    duplicate: bool = False


Outcome = Ack | Rejected


class ProtocolError(ConnectionError):
    """What came is no answer."""


@dataclass(eq=False, slots=True)
class Sent:
    """One event on its way."""

    event: Mapping[str, Any]
    line: bytes
    outcome: Outcome | None = None
    waiter: Any = None
    abandoned: bool = False

    @property
    def id(self) -> str:
        """The event's id."""
        return str(self.event["id"])


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then chance."""
    chance = int.from_bytes(os.urandom(10))
    number = (time.time_ns() // 1_000_000) << 80 | (chance >> 68) << 64 | _ONE | _TWO | chance & (1 << 62) - 1
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def prepare(event: Mapping[str, Any]) -> Sent:
    """An event with an id, as its line. Members that are None are left out; times may be aware datetimes.

    Raises:
        TypeError, ValueError: it isn't JSON, e.g. NaN, a datetime without a zone, or without an end.
    """
    members = {name: _time(value) if name in _TIMES else value for name, value in event.items() if value is not None}
    members.setdefault("id", new_id())
    try:
        text = json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("the event nests too deep") from None
    return Sent(members, text.encode() + b"\n")


def _time(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None:
        raise ValueError(f"{value} has no time zone")
    return value.isoformat()


def wait_s(tries: int, chance: float) -> float:
    """How long to wait after so many tries in vain (the first is 1); ``chance`` in [0, 1)."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries - 1, 16)) * (0.5 + chance / 2)


class Conversation:
    """What one producer has still to say and to hear."""

    def __init__(self) -> None:
        self.unsent: deque[Sent] = deque()
        self.asked: deque[Sent] = deque()
        self.code: str | None = None  #: the last answer that wasn't final
        self._again: list[Sent] = []
        self._buffer = b""

    @property
    def open(self) -> int:
        """Events without an outcome."""
        return len(self.unsent) + len(self.asked) + len(self._again)

    def take(self, max_bytes: int) -> bytes:
        """Lines to write now; from here on they wait for their answers."""
        lines, size = [], 0
        while self.unsent and size < max_bytes:
            sent = self.unsent.popleft()
            self.asked.append(sent)
            lines.append(sent.line)
            size += len(sent.line)
        return b"".join(lines)

    def hear(self, data: bytes) -> list[Sent]:
        """Take what was read; the events that have their outcome now.

        Raises:
            ProtocolError: that was no answer.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_ANSWER_BYTES:
            raise ProtocolError("an answer without end")
        settled = []
        for line in lines:
            outcome = _outcome(line)
            if isinstance(outcome, Rejected) and outcome.code in NOT_NOW:
                self.code = outcome.code
                if self.asked:  # else it is said to the connection, before any line
                    sent = self.asked.popleft()
                    if not sent.abandoned:
                        self._again.append(sent)
                continue
            if not self.asked:
                raise ProtocolError("an answer to nothing")
            sent = self.asked.popleft()
            if isinstance(outcome, Rejected):
                outcome.id = sent.id
            sent.outcome = outcome
            settled.append(sent)
        return settled

    @property
    def refused(self) -> bool:
        """Whether something was answered with "not now"."""
        return bool(self._again)

    @property
    def stalled(self) -> bool:
        """Whether all that is open was answered with "not now": wait, then ``again``."""
        return bool(self._again) and not self.asked and not self.unsent

    def again(self) -> None:
        """Send once more what was answered with "not now"."""
        self.unsent.extendleft(reversed(self._again))
        self._again = []

    def lost(self) -> None:
        """The connection is gone: whatever has no answer is sent again, in its order."""
        again = [sent for sent in (*self._again, *self.asked) if not sent.abandoned]
        self.unsent.extendleft(reversed(again))
        self.asked.clear()
        self._again = []
        self._buffer = b""

    def abandon(self, sent: Sent) -> None:
        """Nobody waits for it any more: don't send it again. One that was written keeps its place, its answer comes."""
        for waiting in (self.unsent, self._again):
            if sent in waiting:
                waiting.remove(sent)
        sent.abandoned = True

    def forget(self) -> list[Sent]:
        """Give up on everything that is open; returns it. The connection must be closed with it."""
        self.lost()
        left = list(self.unsent)
        self.unsent.clear()
        return left


def _outcome(line: bytes) -> Outcome:
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return Ack(answer["id"], answer["deliveries"], answer.get("duplicate", False))
        error = answer["error"]
        return Rejected(str(error["code"]), str(error["message"]), error.get("field"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProtocolError(f"no answer: {line[:80]!r}") from None
