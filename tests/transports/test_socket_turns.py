"""How a turn of the event loop is dealt out, and what a connection holds: the two halves of the socket on their own."""

import asyncio

import pytest

from ringback.transports.line_connection import READ_AHEAD_BYTES, Connection, SocketLimits
from ringback.transports.unix_socket import MAX_BYTES_PER_TURN, MAX_LINES_PER_SHARE, MAX_LINES_PER_TURN, EventsServer


class Nobody:
    """A handler that is never asked."""

    def handle(self, line, peer, answer):
        raise AssertionError(line)

    def refuse(self, code, message, peer=None):
        return b"refused\n"


class Backlog:
    """A connection with so many lines of one size, as the server sees it."""

    def __init__(self, server, name, lines, size, diary):
        self.server, self.name, self.lines, self.size, self.diary = server, name, lines, size, diary

    def work(self, max_lines, max_bytes):
        done = 0
        while done < min(max_lines, self.lines) and done * self.size < max_bytes:
            done += 1
        self.lines -= done
        self.diary.append((self.name, done))
        if self.lines:
            self.server.enqueue(self)
        return done, done * self.size


async def deal(*backlogs):
    """Let a server deal its turns to connections of (lines, size); return each turn's (name, lines) shares."""
    server, diary, turns = EventsServer(Nobody(), SocketLimits()), [], []
    for name, (lines, size) in enumerate(backlogs):
        server.enqueue(Backlog(server, name, lines, size, diary))
    while server._queue:
        await asyncio.sleep(0)
        if diary:
            turns.append(diary[:])
            diary.clear()
    return turns


async def test_a_turn_is_dealt_in_equal_shares():
    """Connections with much to do take turns by small shares, and a turn ends at its limit."""
    turns = await deal((1_000, 10), (1_000, 10), (40, 10))
    assert [name for turn in turns for name, _ in turn][:9] == [0, 1, 2, 0, 1, 2, 0, 1, 0]
    for turn in turns:
        assert all(lines <= MAX_LINES_PER_SHARE for _, lines in turn)
        assert sum(lines for _, lines in turn) <= MAX_LINES_PER_TURN
    assert sum(lines for turn in turns for _, lines in turn) == 2_040


async def test_a_turn_ends_at_its_bytes():
    """A few long lines fill a turn as well as many short ones do."""
    turns = await deal((3, MAX_BYTES_PER_TURN), (2, 10))
    assert turns[0] == [(0, 1)]
    assert turns[1] == [(1, 2), (0, 1)]


async def test_a_bug_in_one_connections_turn_costs_the_others_nothing():
    """When a connection's work raises, those behind it in the queue still get their turn, and the bug is reported."""

    class Broken:
        def work(self, max_lines, max_bytes):
            raise ZeroDivisionError

    bugs, diary = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))
    server = EventsServer(Nobody(), SocketLimits())
    server.enqueue(Broken())
    server.enqueue(Backlog(server, "next", 1, 1, diary))
    for _ in range(3):
        await asyncio.sleep(0)
    assert diary == [("next", 1)]
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


class Host:
    """A server that deals no turns: the test calls work itself."""

    paused = False

    def __init__(self):
        self.queued = []

    def admit(self, connection):
        return None

    def forget(self, connection):
        self.queued.clear()

    def now_s(self):
        return 0.0

    def enqueue(self, connection):
        self.queued.append(connection)

    def notice(self, event, values):
        raise AssertionError(event)


class Wire:
    """A transport that notes whether it is read from."""

    def __init__(self, credentials):
        self.reading = True
        self.credentials = credentials

    def get_extra_info(self, name):
        return self.credentials

    def set_write_buffer_limits(self, high):
        pass

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True


class Credentials:
    """The one call made on a connection's socket."""

    def getsockopt(self, *_):
        return bytes(12)


class Taking:
    """Notes lines and answers none."""

    def __init__(self):
        self.lines = []

    def handle(self, line, peer, answer):
        self.lines.append(line)


@pytest.fixture
def parts():
    """A connection, its handler, its host and its wire."""
    handler, host, wire = Taking(), Host(), Wire(Credentials())
    connection = Connection(host, SocketLimits(max_event_bytes=1_000_000), handler)
    connection.connection_made(wire)
    return connection, handler, host, wire


def test_what_is_read_ahead_is_bounded(parts):
    """Reading stops while more than READ_AHEAD_BYTES wait for a turn, and goes on after it."""
    connection, handler, host, wire = parts
    connection.data_received(b"x" * 100 + b"\n")
    assert wire.reading
    connection.data_received((b"y" * 99 + b"\n") * (READ_AHEAD_BYTES // 100))
    assert not wire.reading
    assert host.queued == [connection]
    connection.work(32, 1 << 20)
    assert len(handler.lines) == 32
    assert wire.reading, "what waits fits again"
    assert host.queued == [connection, connection], "and stands in the queue for the rest"


def test_a_long_line_is_read_on_once_it_is_known_to_be_one(parts):
    """The beginning of a line doesn't stop the reading of its end, however long it is."""
    connection, handler, _, wire = parts
    connection.data_received(b"x" * 500_000)
    assert not wire.reading
    assert connection.work(32, 1 << 20) == (0, 0)
    assert wire.reading
    connection.data_received(b"x" * 400_000 + b"\n")
    connection.work(32, 1 << 20)
    assert [len(line) for line in handler.lines] == [900_000]


def test_a_share_is_kept_to_in_lines_and_bytes(parts):
    """A connection takes no more than its share; the line that crosses the bytes is still taken."""
    connection, handler, _, _ = parts
    connection.data_received(b"12345\n" * 100)
    assert connection.work(7, 1 << 20) == (7, 35)
    assert connection.work(32, 12) == (3, 15)
    assert len(handler.lines) == 10


@pytest.mark.parametrize("cause", ["server paused", "answers unread"])
def test_a_queued_connection_that_may_no_longer_work_does_not(parts, cause):
    """What happened between the queue and the turn counts: nothing is handled, and all is handled later."""
    connection, handler, host, wire = parts
    connection.data_received(b"a\nb\n")
    if cause == "server paused":
        host.paused = True
    else:
        connection.pause_writing()
    assert connection.work(32, 1 << 20) == (0, 0)
    assert handler.lines == []
    assert not wire.reading
    host.paused = False
    connection.resume_writing()
    assert host.queued == [connection, connection]
    assert wire.reading
    connection.work(32, 1 << 20)
    assert handler.lines == [b"a", b"b"]


def test_a_lost_connection_does_nothing_more(parts):
    """Its lines are forgotten, its turn is empty, late calls do no harm."""
    connection, handler, _, _ = parts
    connection.data_received(b"a\n")
    connection.connection_lost(None)
    assert connection.work(32, 1 << 20) == (0, 0)
    connection.data_received(b"b\n")
    connection.adjust()
    connection.drain()
    connection.abort()
    assert connection.eof_received() is False
    assert handler.lines == []
