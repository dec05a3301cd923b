"""One HTTP/1.1 connection, and the idle ones kept for the next request.

The parser, the body's stream and the flow control are aiohttp's; added here is what it lacks: a budget for everything
that is no body, the count of requests a connection has served, and idle connections bounded in number and time.

Rules: a connection belongs to one request at a time; one that speaks unasked, or has anything left over, is closed
rather than kept. Must not know: addresses, requests' contents, outcomes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

MAX_LINE_BYTES = 8190  #: status line, and each header's name and value
MAX_RESPONSE_HEADERS = 128
MAX_INTERIM_RESPONSES = 32  #: 1xx before the answer; the head's budget alone would let 2,600 pass, 60 ms of parsing
HEAD_STEP_BYTES = 2048  #: fed to the parser at once until the answer's body begins, so that the count can stop it
BODILESS = frozenset({b"204", b"304"})  #: statuses whose response ends with its head, whatever it says of a body
READ_BUFFER_BYTES = 65536  #: the stream holds back the peer beyond twice this
WIRE_BYTES_PER_BODY_BYTE = 16  #: one-byte chunks take 6; beyond this the framing is an attack


class HeadOverrunError(Exception):
    """The peer sent more head and framing than the budget allows."""


class HttpConnection(ResponseHandler):
    """aiohttp's response protocol with a byte budget.

    ``served`` counts the requests begun; ``wire_bytes`` what has come since the latest began. ``epoch``: the pool's
    when the connection was asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: Hashable, pool: "Pool", epoch: int = 0) -> None:
        super().__init__(loop)
        self.origin = origin
        self.epoch = epoch
        self.served = 0
        self.wire_bytes = 0
        self.parked = False
        self._counted = False
        self._pool = pool
        self._budget = 0
        self._heads = 0

    def begin(self, *, method: str, max_head_bytes: int) -> None:
        """Get ready for one response; call right before its request is written."""
        self.served += 1
        self.wire_bytes = 0
        self._heads = 0
        self._budget = max_head_bytes
        self._payload = None  # the last response's would lend this one its bytes
        self.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_RESPONSE_HEADERS,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it: only now is there something to close."""
        super().connection_made(transport)
        self._counted = True
        self._pool.opened()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, never more of what is not body than the budget."""
        if self.parked:
            self.abort()  # nobody asked: whatever this is, it must not answer the next request
            return
        room = self._allowed() - self.wire_bytes
        while len(data) > room:
            if room <= 0:
                self._overrun()
                return
            self._feed(data[:room])  # what of it is body widens the room for the rest
            data = data[room:]
            room = self._allowed() - self.wire_bytes
        self._feed(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the pool before anybody else."""
        self.forget()
        super().connection_lost(exc)

    def forget(self) -> None:
        """Tell the pool, once, that this is over; also where uvloop doesn't: cancelled as the connection was made."""
        if self._counted:
            self._counted = False
            self._pool.lost(self)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A response's head is complete: count it."""
        self._heads += 1
        super().feed_data(data, size)

    def _feed(self, data: bytes) -> None:
        if data[9:12] in BODILESS and not self._heads and self.wire_bytes == 0:
            data = self._head_alone(data)
        while len(data) > HEAD_STEP_BYTES and self._allowed() == self._budget:  # no byte of a body yet
            self._parse(data[:HEAD_STEP_BYTES])
            data = data[HEAD_STEP_BYTES:]
            if self._heads > MAX_INTERIM_RESPONSES + 1:
                self._overrun()
                return
        self._parse(data)

    def _head_alone(self, data: bytes) -> bytes:
        """A bodiless answer without the body that came with it: taken for a next answer, it would spoil this one."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end == len(data):
            return data
        self.force_close()  # nobody knows how much of it is still to come
        return data[:end]

    def _parse(self, data: bytes) -> None:
        self.wire_bytes += len(data)
        if self._exception is not None:
            return  # the parser has given up; what follows would only cost time
        super().data_received(data)
        if self._exception is not None and self._payload is not None:
            _break_off(self._payload, self._exception)

    def _allowed(self) -> int:
        payload = self._payload
        if payload is None:
            return self._budget
        return self._budget + WIRE_BYTES_PER_BODY_BYTE * payload.total_bytes

    def _overrun(self) -> None:
        error = HeadOverrunError(
            f"more than {MAX_INTERIM_RESPONSES} interim responses"
            if self._heads > MAX_INTERIM_RESPONSES + 1
            else f"more than {self._budget} bytes of head or framing"
        )
        if self._payload is not None:
            _break_off(self._payload, error)
        self.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


def _break_off(payload: StreamReader, error: BaseException) -> None:
    """End a body that will get no further byte; aiohttp tells the queue of responses alone when the parser fails."""
    if not payload.is_eof() and payload.exception() is None:
        payload.set_exception(error)


class Pool:
    """The idle connections: at most ``max_idle`` in all, none for longer than ``idle_timeout_s``.

    One too many pushes the longest idle one out, whoever's it is.
    """

    def __init__(self, *, max_idle: int, idle_timeout_s: float) -> None:
        self._max_idle = max_idle
        self._idle_timeout_s = idle_timeout_s
        self._idle: OrderedDict[HttpConnection, float] = OrderedDict()  # parked at, oldest first
        self._of: dict[Hashable, list[HttpConnection]] = {}  # the same ones by origin, newest last
        self._open = 0
        self._sweep: asyncio.TimerHandle | None = None
        self.epoch = 0  #: counts the times everything idle was closed; who was asked for in an earlier one isn't kept

    def limit(self, max_idle: int) -> None:
        """Keep at most so many from here on."""
        self._max_idle = max_idle
        while len(self._idle) > max_idle:
            oldest = next(iter(self._idle))
            self._remove(oldest)
            oldest.close()

    @property
    def idle(self) -> int:
        """How many connections wait for a next request."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections there are, idle or busy."""
        return self._open

    def opened(self) -> None:
        """Count one."""
        self._open += 1

    def lost(self, connection: HttpConnection) -> None:
        """Forget one that has ended."""
        self._open -= 1
        self._remove(connection)

    def take(self, origin: Hashable) -> HttpConnection | None:
        """Hand out the idle connection to ``origin`` that was used last, or None."""
        of = self._of.get(origin)
        while of:
            connection = of[-1]
            self._remove(connection)
            if connection.is_connected():
                return connection
        return None

    def park(self, connection: HttpConnection) -> None:
        """Keep a connection whose response is complete; closes it if it isn't fit for another."""
        transport = connection.transport
        fit = connection.epoch == self.epoch and not connection.should_close
        if not fit or transport is None or self._max_idle == 0:
            connection.close()
            return
        if transport.get_write_buffer_size():
            connection.abort()  # it answered before it had the whole request: the rest must not reach the next
            return
        if len(self._idle) >= self._max_idle:
            oldest = next(iter(self._idle))
            self._remove(oldest)
            oldest.close()
        loop = asyncio.get_running_loop()
        connection.parked = True
        self._idle[connection] = loop.time()
        self._of.setdefault(connection.origin, []).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_timeout_s, self._close_expired)

    def close_idle(self) -> None:
        """Close every idle connection, and the busy ones once they are done."""
        self.epoch += 1
        for connection in list(self._idle):
            self._remove(connection)
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _remove(self, connection: HttpConnection) -> None:
        if not connection.parked:
            return
        connection.parked = False
        del self._idle[connection]
        of = self._of[connection.origin]
        of.remove(connection)
        if not of:
            del self._of[connection.origin]

    def _close_expired(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        latest = loop.time() - self._idle_timeout_s
        while self._idle:
            connection, parked_at = next(iter(self._idle.items()))
            if parked_at > latest:
                self._sweep = loop.call_later(parked_at - latest, self._close_expired)
                return
            self._remove(connection)
            connection.close()
