"""The events socket: lines in, one answer a line out, in the lines' order.

Role: listens on a Unix stream socket, admits producers up to the limit, deals the turns of the event loop out to their
connections, and ends them in good order.
Rules: one turn handles a bounded share of lines, dealt out by turns, so that no producer starves another and the loop
stays quick; back-pressure is not reading; on a stop what was read is answered first. When all places are taken, the
connection that has been idle longest gives way to a new one, so that silent ones can't keep producers out.
Must not know: what a line says, what an answer says, what makes an event durable.
"""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable, Mapping

from ringback.transports.bind import Identity, bind_unix, identity, unlink_if_ours
from ringback.transports.line_connection import Connection, LineHandler, SocketLimits

#: Lines handled in one turn of the event loop, all connections together, and in one connection's share of it. Measured
#: under a flood: with 256 a turn deliveries fell to a third of what they are with 32, and no more was accepted; below
#: 32 less is accepted and no more delivered.
MAX_LINES_PER_TURN = 32
MAX_LINES_PER_SHARE = 32

#: Bytes of lines after which a turn ends (the line that crosses it is still handled): a long line is slow to parse.
MAX_BYTES_PER_TURN = 262_144

#: How long connections that were cut off may take to say so.
ABORT_S = 1.0

#: Told of what an operator may want to see: a constant dotted name and its key-values.
Notice = Callable[[str, Mapping[str, object]], None]


class EventsServer:
    """The listener and its connections. One start, one stop."""

    def __init__(self, handler: LineHandler, limits: SocketLimits, on_event: Notice | None = None) -> None:
        self._handler = handler
        self._limits = limits
        self._on_event = on_event
        self._paused = False
        self._stopping = False
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._queue: deque[Connection] = deque()  # those with lines to handle; each at most once
        self._turn_due = False
        self._none_idle_until_s = 0.0  # by the loop's clock: until then looking for an idle connection is in vain
        self._server: asyncio.AbstractServer | None = None
        self._path = ""
        self._ours: Identity | None = None

    @property
    def connections(self) -> int:
        """Producers connected now."""
        return len(self._connections)

    async def start(
        self, path: str, mode: int, group: str | None = None, inherited: socket.socket | None = None
    ) -> None:
        """Listen at ``path`` with these rights, or on ``inherited`` (then path, mode and group are its giver's affair).

        Raises: what ``bind_unix`` raises.
        """
        listener = inherited
        if listener is None:
            listener = bind_unix(path, mode, group)
            self._path, self._ours = path, identity(path)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Connection(self, self._limits, self._handler), sock=listener
        )

    def pause(self) -> None:
        """Stop reading on every connection and leave what was read where it is: producers block, nothing is refused."""
        self._paused = True
        for connection in self._connections:
            connection.adjust()

    def resume(self) -> None:
        """Undo ``pause``."""
        self._paused = False
        for connection in self._connections:
            connection.adjust()

    async def stop(self, grace_s: float) -> None:
        """Stop accepting and reading; answer the complete lines already read; close each connection as it is done.

        What isn't done within ``grace_s`` seconds is cut off, its lines unanswered. A pause holds during the stop, too.
        """
        self._stopping = True
        if self._server is not None:
            self._server.close()
        unlink_if_ours(self._path, self._ours)
        for connection in tuple(self._connections):
            connection.drain()
        if not await self._emptied(grace_s):
            for connection in tuple(self._connections):
                connection.abort()
            await self._emptied(ABORT_S)

    async def _emptied(self, timeout_s: float) -> bool:
        if not self._connections:
            return True
        self._empty.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    # What the connections call (line_connection.Host).

    @property
    def paused(self) -> bool:
        """Whether ``pause`` is in force."""
        return self._paused

    def now_s(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    def admit(self, connection: Connection) -> bytes | None:
        """Take the connection in (None), or say with which line it is turned away."""
        if self._stopping:
            return self._handler.refuse("shutting_down", "the daemon is stopping")
        if len(self._connections) >= self._limits.max_connections and not self._make_room():
            self.notice("socket.overloaded", {"max_connections": self._limits.max_connections})
            return self._handler.refuse("overloaded", f"more than {self._limits.max_connections} connections")
        self._connections.add(connection)
        return None

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest, if it was for long enough; whether there was one."""
        now_s, idle_s = self.now_s(), self._limits.idle_s
        if now_s < self._none_idle_until_s:
            return False
        longest = min(self._connections, key=lambda one: one.active_s if one.idle else math.inf)
        if not longest.idle or now_s - longest.active_s < idle_s:
            self._none_idle_until_s = (longest.active_s if longest.idle else now_s) + idle_s
            return False
        self._connections.discard(longest)  # its place is free now; the transport tells of its end later
        longest.give_way()
        silent_s = round(now_s - longest.active_s)
        self.notice("socket.gave_way", {"idle_s": silent_s, "uid": longest.peer.uid, "pid": longest.peer.pid})
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def enqueue(self, connection: Connection) -> None:
        """Give the connection a share of a turn soon."""
        self._queue.append(connection)
        self._plan_turn()

    def notice(self, event: str, values: Mapping[str, object]) -> None:
        """Tell an operator."""
        if self._on_event is not None:
            self._on_event(event, values)

    def _plan_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        queue = self._queue
        lines_left, bytes_left = MAX_LINES_PER_TURN, MAX_BYTES_PER_TURN
        try:
            while queue and lines_left > 0 and bytes_left > 0:
                lines, size = queue.popleft().work(min(lines_left, MAX_LINES_PER_SHARE), bytes_left)
                lines_left -= lines
                bytes_left -= size
        finally:
            if queue:
                self._plan_turn()
