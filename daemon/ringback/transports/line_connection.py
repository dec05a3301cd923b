"""One connection of the events socket: the state between a producer's bytes and the answers to its lines.

Role: an asyncio protocol that feeds a LineBuffer, hands lines to the handler when the host gives it a share of a turn,
and writes the answers in line order.
Rules: an answer waits for those before it; answers of one turn leave in one write; reading stops while too much is held
(lines without an answer, answers not read, bytes not looked at); a line lost to a bug cuts the connection off.
Must not know: how connections are accepted or share the loop, what a line says.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol, cast

import msgspec

from ringback.core.model import Peer
from ringback.transports.lines import BLANK, TOO_LONG, LineBuffer

#: With this many bytes read and not yet looked at, a connection is not read further.
READ_AHEAD_BYTES = 65_536

_PEER_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class LineHandler(Protocol):
    """What takes the lines."""

    def handle(self, line: bytes, peer: Peer, answer: Callable[[bytes], None]) -> None:
        """Take one line, without its line end.

        ``answer`` is called once, now or later, on the event loop's thread, with one answer line including its LF.
        """
        ...

    def refuse(self, code: str, message: str, peer: Peer | None = None) -> bytes:
        """The answer line, including its LF, that says so: ``too_large``, ``overloaded``, ``shutting_down``."""
        ...


class SocketLimits(msgspec.Struct, frozen=True):
    """What one server holds at most.

    ``max_unanswered`` and ``write_high_bytes`` are a connection's: lines that wait for their answer, and bytes of
    answers its producer hasn't read, before it is read no further. ``idle_s``: one that was silent for longer, with
    nothing unanswered, gives way when a new producer finds no place.
    """

    max_event_bytes: int = 1_048_576
    max_unanswered: int = 1024
    max_connections: int = 256
    write_high_bytes: int = 65_536
    idle_s: float = 60.0


class Host(Protocol):
    """What a connection needs of its server."""

    @property
    def paused(self) -> bool:
        """Whether nothing is read or handled at present."""
        ...

    def now_s(self) -> float:
        """Monotonic seconds; need not be finer than a turn of the loop."""
        ...

    def admit(self, connection: "Connection") -> bytes | None:
        """Take the connection in (None), or say with which line it is turned away."""
        ...

    def forget(self, connection: "Connection") -> None:
        """The connection is gone."""
        ...

    def enqueue(self, connection: "Connection") -> None:
        """Call the connection's ``work`` when its turn comes. It asks again only after that."""
        ...

    def notice(self, event: str, values: Mapping[str, object]) -> None:
        """Tell an operator."""
        ...


class Slot:
    """The place of one line's answer among its connection's; calling it answers the line."""

    __slots__ = ("_connection", "answer")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.answer: bytes | None = None

    def __call__(self, answer: bytes) -> None:
        """Answer the line, once, with one line including its LF."""
        if self.answer is not None:
            raise RuntimeError("a line is answered once")
        self.answer = answer
        self._connection.answered(self)


class Connection(asyncio.Protocol):
    """One producer's connection. Its public methods are the event loop's and the host's to call."""

    def __init__(self, host: Host, limits: SocketLimits, handler: LineHandler) -> None:
        self._host = host
        self._handler = handler
        self._max_unanswered = limits.max_unanswered
        self._resume_below = max(1, limits.max_unanswered // 2)
        self._max_event_bytes = limits.max_event_bytes
        self._write_high_bytes = limits.write_high_bytes
        self._buffer = LineBuffer(limits.max_event_bytes)
        self._slots: deque[Slot] = deque()
        self._transport: asyncio.Transport | None = None  # None: not made yet, turned away, or lost
        self.peer = Peer(via="socket")
        self.active_s = 0.0  #: when it was last heard or answered, by the host's clock
        self._unseen = False  # the buffer may hold a complete line
        self._queued = False  # stands in the server's queue
        self._flush_due = False
        self._saturated = False  # too many lines wait for their answer
        self._write_blocked = False  # the producer doesn't read its answers
        self._ending = False  # nothing more will be read: half-closed by the producer, or the server stops
        self._reading = True

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the host, or be turned away with one line."""
        stream = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self.active_s = self._host.now_s()
        refusal = self._host.admit(self)
        if refusal is not None:
            stream.write(refusal)
            stream.close()
            return
        stream.set_write_buffer_limits(high=self._write_high_bytes)
        self._transport = stream
        self.peer = _peer_of(stream)

    def data_received(self, data: bytes) -> None:
        """Keep what was read and ask for a turn."""
        if self._transport is None:
            return
        self.active_s = self._host.now_s()
        self._buffer.feed(data)
        self._unseen = True
        self.adjust()

    def eof_received(self) -> bool:
        """The producer half-closed: the rest is answered, then the connection is closed."""
        if self._transport is None:
            return False
        self._ending = True
        self._close_if_done()
        return True  # stay open for the answers

    def connection_lost(self, exc: Exception | None) -> None:
        """The producer is gone: answers still to come are dropped."""
        del exc  # a producer that went away is no error of ours
        self._transport = None
        self._unseen = False
        self._buffer.clear()
        self._slots.clear()
        self._host.forget(self)

    def pause_writing(self) -> None:
        """The producer doesn't read its answers: handle nothing more."""
        self._write_blocked = True
        self.adjust()

    def resume_writing(self) -> None:
        """It reads again."""
        self._write_blocked = False
        self.adjust()

    # What the server calls.

    def adjust(self) -> None:
        """Read, and stand in the server's queue, exactly when the state allows it."""
        transport = self._transport
        if transport is None:
            return
        may_work = not (self._saturated or self._write_blocked or self._host.paused)
        if may_work and self._unseen and not self._queued:
            self._queued = True
            self._host.enqueue(self)
        reading = may_work and not self._ending and not (self._unseen and len(self._buffer) > READ_AHEAD_BYTES)
        if reading != self._reading:
            self._reading = reading
            (transport.resume_reading if reading else transport.pause_reading)()

    def work(self, max_lines: int, max_bytes: int) -> tuple[int, int]:
        """Handle some of the lines in the buffer; return how many and how many bytes they were."""
        self._queued = False
        lines = size = 0
        try:
            while lines < max_lines and size < max_bytes and self._may_take():
                line = self._buffer.take()
                if line is None:
                    self._unseen = False
                    break
                lines += 1
                size += len(line)
                if line != BLANK:
                    self._handle(line)
        except BaseException:
            self.abort()  # a line was lost to a bug: the producer must not wait for its answer
            raise
        self.adjust()
        self._close_if_done()
        return lines, size

    def drain(self) -> None:
        """Read no more; close when everything read is answered."""
        self._ending = True
        self.adjust()
        self._close_if_done()

    @property
    def idle(self) -> bool:
        """Whether it owes its producer nothing: no line waits to be looked at or answered, no answer to be read."""
        transport = self._transport
        return transport is not None and not (self._unseen or self._slots or transport.get_write_buffer_size())

    def give_way(self) -> None:
        """Close, as idle as it is; the beginning of a line that may have come is no event."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection off."""
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    def _may_take(self) -> bool:
        return self._unseen and not (self._saturated or self._write_blocked or self._host.paused)

    def _handle(self, line: bytes) -> None:
        slot = Slot(self)
        self._slots.append(slot)
        self._saturated = len(self._slots) >= self._max_unanswered
        if line is TOO_LONG:
            message = f"a line is longer than {self._max_event_bytes} bytes"
            slot(self._handler.refuse("too_large", message, self.peer))
        else:
            self._handler.handle(line, self.peer, slot)

    def answered(self, slot: Slot) -> None:
        """Write soon, so that the answers of one turn leave in one write."""
        if not self._flush_due and self._slots and self._slots[0] is slot:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        slots, transport = self._slots, self._transport
        if transport is None:
            return
        answers: list[bytes] = []
        while slots and (answer := slots[0].answer) is not None:
            answers.append(answer)
            slots.popleft()
        transport.write(b"".join(answers))
        self.active_s = self._host.now_s()
        if self._saturated and len(slots) < self._resume_below:
            self._saturated = False
            self.adjust()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ending and not self._unseen and not self._slots and self._transport is not None:
            self._transport.close()


def _peer_of(transport: asyncio.Transport) -> Peer:
    """The kernel's word on who connected, taken when it did."""
    sock = transport.get_extra_info("socket")
    size = _PEER_CREDENTIALS.size
    pid, uid, gid = _PEER_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(via="socket", uid=uid, gid=gid, pid=pid)
