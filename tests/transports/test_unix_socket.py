"""The events socket over real sockets, on both event loops: order, bounds, ends."""

import asyncio
import contextlib
import functools
import inspect
import os
import random
import socket
import sys
from pathlib import Path

import pytest
import uvloop

from ringback.transports.bind import AddressInUse, bind_unix
from ringback.transports.unix_socket import MAX_LINES_PER_TURN, EventsServer, SocketLimits


def both_loops(test):
    """Run an async test on asyncio's own loop and on uvloop, within a time that only a hang exceeds."""

    def run(loop_factory, **fixtures):
        async def bounded():
            async with asyncio.timeout(20):
                await test(**fixtures)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(bounded())

    functools.update_wrapper(run, test)
    names = ["loop_factory", *inspect.signature(test).parameters]
    run.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names])
    del run.__wrapped__
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return pytest.mark.parametrize("loop_factory", loops.values(), ids=loops.keys())(run)


class Echo:
    """Answers each line with itself at once."""

    def __init__(self):
        self.lines = []
        self.peers = []

    def handle(self, line, peer, answer):
        self.lines.append(line)
        self.peers.append(peer)
        answer(line + b"\n")

    def refuse(self, code, message):
        return f"refused {code}: {message}\n".encode()


class Later(Echo):
    """Keeps the answers back until the test gives them."""

    def __init__(self):
        super().__init__()
        self.answers = []
        self._grew = asyncio.Event()

    def handle(self, line, peer, answer):
        self.lines.append(line)
        self.answers.append((answer, line + b"\n"))
        self._grew.set()

    async def until(self, count):
        while len(self.lines) < count:
            self._grew.clear()
            await self._grew.wait()

    def answer(self, count):
        now, self.answers = self.answers[:count], self.answers[count:]
        for answer, text in now:
            answer(text)


@contextlib.asynccontextmanager
async def serving(tmp_path, handler, notices=None, **limits):
    """A started server, stopped at the end."""
    server = EventsServer(handler, SocketLimits(**limits), None if notices is None else lambda *n: notices.append(n))
    await server.start(str(tmp_path / "s"), 0o600)
    try:
        yield server
    finally:
        await server.stop(0.5)


async def connect(tmp_path):
    """A producer's two streams."""
    return await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1 << 24)


async def ask(tmp_path, data, half_close=True):
    """Send bytes, half-close, return all that comes back."""
    reader, writer = await connect(tmp_path)
    writer.write(data)
    if half_close:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def descriptors():
    """How many descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition):
    """Let the loop go round until the condition holds; the test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - nothing announces what is waited for here
        await asyncio.sleep(0)


async def settle(turns=50):
    """Let the loop go round: everything that can happen without us has happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


@both_loops
async def test_ten_thousand_pipelined_lines_are_answered_in_order(tmp_path):
    """A producer that never waits gets one answer for each line, in order."""
    stream = b"".join(b"line %d\n" % n for n in range(10_000))
    async with serving(tmp_path, Echo()):
        assert await ask(tmp_path, stream) == stream


@both_loops
async def test_many_producers_at_once_each_get_their_own_answers(tmp_path):
    """Answers never cross connections."""
    streams = [b"".join(b"%d:%d\n" % (p, n) for n in range(500)) for p in range(20)]
    async with serving(tmp_path, Echo()):
        assert await asyncio.gather(*(ask(tmp_path, stream) for stream in streams)) == streams


@both_loops
async def test_answers_given_in_any_order_leave_in_line_order(tmp_path):
    """However the handler shuffles, the producer sees its lines' order."""
    handler = Later()
    async with serving(tmp_path, handler):
        stream = b"".join(b"%d\n" % n for n in range(1000))
        asked = asyncio.ensure_future(ask(tmp_path, stream))
        await handler.until(1000)
        random.Random(7).shuffle(handler.answers)
        while handler.answers:
            handler.answer(37)
            await asyncio.sleep(0)
        assert await asked == stream


@both_loops
async def test_an_early_answer_waits_for_the_first(tmp_path):
    """Nothing is written before the first line's answer is there; then all that is done leaves."""
    handler = Later()
    async with serving(tmp_path, handler):
        reader, writer = await connect(tmp_path)
        writer.write(b"1\n2\n3\n")
        await handler.until(3)
        (first, text), *others = handler.answers
        for answer, other in others:
            answer(other)
        await settle()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.01)
        first(text)
        assert await reader.readexactly(6) == b"1\n2\n3\n"
        writer.close()


@both_loops
async def test_an_unterminated_last_line_is_never_an_event(tmp_path):
    """After a half-close the whole lines are answered, the torn one is not, and the connection is closed."""
    handler = Echo()
    async with serving(tmp_path, handler):
        assert await ask(tmp_path, b"one\ntwo\ntorn") == b"one\ntwo\n"
        assert await ask(tmp_path, b"torn") == b""
        assert await ask(tmp_path, b"") == b""
        assert handler.lines == [b"one", b"two"]


@both_loops
async def test_after_a_half_close_late_answers_still_arrive(tmp_path):
    """Half-closing doesn't cost the answers of lines that are still at work."""
    handler = Later()
    async with serving(tmp_path, handler):
        asked = asyncio.ensure_future(ask(tmp_path, b"a\nb\n"))
        await handler.until(2)
        await settle()
        assert not asked.done()
        handler.answer(2)
        assert await asked == b"a\nb\n"


@both_loops
async def test_line_ends_blanks_and_binary(tmp_path):
    """CR before LF goes, blank lines vanish, every other byte comes through."""
    handler = Echo()
    garbage = bytes(set(range(256)) - {10, 13})
    async with serving(tmp_path, handler):
        await ask(tmp_path, b"a\r\n\n\r\n  \t\nb\n\x00\x00\nc\rd\n\r\re\n" + garbage + b"\n\xff\xfe\n")
        assert handler.lines == [b"a", b"b", b"\x00\x00", b"c\rd", b"\r\re", garbage, b"\xff\xfe"]


@both_loops
async def test_a_too_long_line_is_refused_at_its_place_and_the_connection_goes_on(tmp_path):
    """One answer for it, in order, nothing of its tail, and the next line is fine."""
    handler, notices = Echo(), []
    stream = b"before\n" + b"x" * 300_000 + b'{"id":"EVIL"}\nafter\n' + b"y" * 101 + b"\nlast\n"
    async with serving(tmp_path, handler, notices, max_event_bytes=100):
        answers = (await ask(tmp_path, stream)).splitlines()
        refusal = b"refused too_large: a line is longer than 100 bytes"
        assert answers == [b"before", refusal, b"after", refusal, b"last"]
        assert handler.lines == [b"before", b"after", b"last"]
        assert [name for name, _ in notices] == ["event.rejected"] * 2
        assert notices[0][1] == {"code": "too_large", "uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid()}


@both_loops
async def test_a_line_of_the_full_size_arrives_whole(tmp_path):
    """A megabyte is a line like any other."""
    handler = Echo()
    line = os.urandom(1 << 19).hex().encode()
    async with serving(tmp_path, handler):
        assert await ask(tmp_path, line + b"\n") == line + b"\n"


@both_loops
async def test_unanswered_lines_are_capped_and_none_is_lost(tmp_path):
    """At most max_unanswered lines are out; more come only when half of them are answered, and all come in the end."""
    handler = Later()
    async with serving(tmp_path, handler, max_unanswered=8):
        stream = b"".join(b"%d\n" % n for n in range(100))
        asked = asyncio.ensure_future(ask(tmp_path, stream))
        await handler.until(8)
        await settle()
        assert len(handler.lines) == 8
        handler.answer(4)
        await settle()
        assert len(handler.lines) == 8, "half is not below half"
        handler.answer(1)
        await settle()
        assert len(handler.lines) == 13
        while not asked.done():
            handler.answer(3)
            await asyncio.sleep(0)
        assert await asked == stream


@both_loops
async def test_one_line_at_a_time_is_a_valid_limit(tmp_path):
    """With max_unanswered = 1 the connection still moves on."""
    async with serving(tmp_path, Echo(), max_unanswered=1):
        assert await ask(tmp_path, b"a\nb\nc\n") == b"a\nb\nc\n"


@both_loops
async def test_a_paused_server_blocks_producers_and_loses_nothing(tmp_path):
    """While paused nothing is handled and a producer's writes block; after resume every line is answered."""
    handler = Echo()
    async with serving(tmp_path, handler) as server:
        with socket.socket(socket.AF_UNIX) as producer:
            producer.connect(str(tmp_path / "s"))
            producer.setblocking(False)
            await settle()
            server.pause()
            sent = 0
            for _ in range(200):  # the kernel's buffers and the read-ahead fill, then it blocks
                with contextlib.suppress(BlockingIOError):
                    sent += producer.send(b"0123456\n" * 4096)
                await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                producer.send(b"0123456\n")
            assert handler.lines == []
            server.resume()
            loop = asyncio.get_running_loop()
            got = 0
            while got < sent // 8 * 8:
                got += len(await loop.sock_recv(producer, 1 << 16))
        assert len(handler.lines) == sent // 8


@both_loops
async def test_a_pause_from_within_the_handler_holds_at_once(tmp_path):
    """A handler that is full says so on the line that filled it, and gets not one more."""

    class Full(Echo):
        def handle(self, line, peer, answer):
            super().handle(line, peer, answer)
            if len(self.lines) == 3:
                server.pause()

    handler = Full()
    async with serving(tmp_path, handler) as server:
        asked = asyncio.ensure_future(ask(tmp_path, b"a\n" * 10))
        await until(lambda: len(handler.lines) == 3)
        await settle()
        assert len(handler.lines) == 3
        server.resume()
        assert await asked == b"a\n" * 10


@both_loops
async def test_a_producer_that_reads_no_answers_is_read_no_further(tmp_path):
    """Unread answers stop the reading; what they hold is bounded; reading them sets all going again."""

    class Long(Echo):
        def handle(self, line, peer, answer):
            self.lines.append(line)
            answer(b"x" * 9_999 + b"\n")

    handler = Long()
    async with serving(tmp_path, handler) as server:
        reader, writer = await connect(tmp_path)
        reader._transport.pause_reading()
        writer.write(b"l\n" * 20_000)
        seen = -1
        while seen != len(handler.lines) or seen == 0:
            seen = len(handler.lines)
            await settle(100)
        assert seen < 3_000
        (connection,) = server._connections
        assert connection._transport.get_write_buffer_size() < MAX_LINES_PER_TURN * 10_000 + (1 << 17)
        reader._transport.resume_reading()
        writer.write_eof()
        got = 0
        while chunk := await reader.read(1 << 20):
            got += len(chunk)
        assert got == 20_000 * 10_000
        writer.close()


@both_loops
async def test_connections_beyond_the_cap_are_told_so_and_closed(tmp_path):
    """One `overloaded` line, then the end; a place that falls free is given again."""
    notices = []
    async with serving(tmp_path, Echo(), notices, max_connections=2) as server:
        held = [await connect(tmp_path) for _ in range(2)]
        await until(lambda: server.connections == 2)
        answer = await ask(tmp_path, b"", half_close=False)
        assert answer == b"refused overloaded: more than 2 connections\n"
        assert notices == [("socket.overloaded", {"max_connections": 2})]
        for _, writer in held:
            writer.close()
        await until(lambda: not server.connections)
        assert await ask(tmp_path, b"again\n") == b"again\n"


@both_loops
async def test_late_answers_to_a_dead_producer_are_dropped(tmp_path):
    """A producer that dies before its answers disturbs nobody."""
    handler = Later()
    async with serving(tmp_path, handler) as server:
        _, writer = await connect(tmp_path)
        writer.write(b"a\nb\n")
        await handler.until(2)
        writer.transport.abort()
        handler.answer(1)
        await until(lambda: not server.connections)
        handler.answer(1)
        asked = asyncio.ensure_future(ask(tmp_path, b"alive\n"))
        await handler.until(3)
        handler.answer(1)
        assert await asked == b"alive\n"


@both_loops
async def test_a_bug_in_the_handler_ends_its_connection_and_no_other(tmp_path):
    """The producer of the fatal line is cut off instead of waiting for ever; the bug is reported; others go on."""

    class Buggy(Echo):
        def handle(self, line, peer, answer):
            if line == b"boom":
                raise ZeroDivisionError
            super().handle(line, peer, answer)

    bugs = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))
    async with serving(tmp_path, Buggy()):
        good_reader, good_writer = await connect(tmp_path)
        good_writer.write(b"fine\n")
        assert await good_reader.readline() == b"fine\n"
        with contextlib.suppress(ConnectionResetError):
            assert await ask(tmp_path, b"boom\nnext\n", half_close=False) == b""
        good_writer.write(b"still fine\n")
        assert await good_reader.readline() == b"still fine\n"
        good_writer.close()
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


@both_loops
async def test_a_line_is_answered_once(tmp_path):
    """A second answer to one line is a bug and says so."""
    handler = Later()
    async with serving(tmp_path, handler):
        _, writer = await connect(tmp_path)
        writer.write(b"a\n")
        await handler.until(1)
        ((answer, text),) = handler.answers
        answer(text)
        with pytest.raises(RuntimeError, match="once"):
            answer(text)
        writer.close()


@both_loops
async def test_a_producer_with_one_line_is_not_behind_all_of_another(tmp_path):
    """A line that arrives while a long backlog is at work is handled long before the backlog's end."""
    small = socket.socket(socket.AF_UNIX)

    class Sending(Echo):
        def handle(self, line, peer, answer):
            if not self.lines:
                small.send(b"small\n")
            super().handle(line, peer, answer)

    handler = Sending()
    async with serving(tmp_path, handler) as server:
        small.connect(str(tmp_path / "s"))
        await until(lambda: server.connections == 1)
        await ask(tmp_path, b"bulk\n" * 20_000)
        assert handler.lines.index(b"small") <= 4 * MAX_LINES_PER_TURN
        small.close()


@both_loops
async def test_one_turn_handles_a_bounded_share(tmp_path):
    """Between any two chances of the loop to do something else, at most MAX_LINES_PER_TURN lines are handled."""
    handler = Echo()
    async with serving(tmp_path, handler):
        asked = [asyncio.ensure_future(ask(tmp_path, b"x\n" * 5_000)) for _ in range(3)]
        most = before = 0
        while not all(task.done() for task in asked):
            await asyncio.sleep(0)
            most, before = max(most, len(handler.lines) - before), len(handler.lines)
        assert len(handler.lines) == 15_000
        assert most <= 2 * MAX_LINES_PER_TURN  # our own step may lie between two turns


@both_loops
async def test_the_peer_is_the_kernels_word(tmp_path):
    """uid, gid and pid come from SO_PEERCRED, of the process that connected."""
    handler = Echo()
    program = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'x\\n'); s.recv(9)"
    async with serving(tmp_path, handler):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path / "s"))
        assert await process.wait() == 0
        (peer,) = handler.peers
        assert (peer.via, peer.uid, peer.gid, peer.pid) == ("socket", os.getuid(), os.getgid(), process.pid)


@both_loops
async def test_a_stop_answers_what_was_read_and_takes_nothing_more(tmp_path):
    """Complete lines already read are answered, then the connection ends, the torn line unanswered, the file gone."""
    handler = Later()
    server = EventsServer(handler, SocketLimits())
    await server.start(str(tmp_path / "s"), 0o600)
    reader, writer = await connect(tmp_path)
    writer.write(b"a\nb\ntorn")
    await handler.until(2)
    stopping = asyncio.ensure_future(server.stop(10))
    await settle()
    assert not (tmp_path / "s").exists()
    with contextlib.suppress(ConnectionError):
        writer.write(b" more\nc\n")
    await settle()
    assert not stopping.done()
    handler.answer(2)
    assert await reader.readexactly(4) == b"a\nb\n"
    await stopping
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert handler.lines == [b"a", b"b"]
    writer.close()


@both_loops
async def test_a_stop_handles_the_backlog_first(tmp_path):
    """Lines read but not yet looked at are handled and answered in a stop as well."""
    handler = Echo()
    server = EventsServer(handler, SocketLimits())
    await server.start(str(tmp_path / "s"), 0o600)
    reader, writer = await connect(tmp_path)
    writer.write(b"x\n" * 2_000)  # several turns' worth, read at once
    await until(lambda: handler.lines)
    assert len(handler.lines) < 2_000
    await server.stop(10)
    assert len(handler.lines) == 2_000
    with contextlib.suppress(ConnectionResetError):
        assert len(await reader.read()) == 4_000
    writer.close()


@both_loops
async def test_a_stop_is_bounded(tmp_path):
    """Answers that never come don't hold the stop beyond its grace; the connection is cut."""
    handler = Later()
    server = EventsServer(handler, SocketLimits())
    await server.start(str(tmp_path / "s"), 0o600)
    reader, writer = await connect(tmp_path)
    writer.write(b"a\n")
    await handler.until(1)
    await server.stop(0.01)
    assert server.connections == 0
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    handler.answer(1)
    writer.close()


@both_loops
async def test_a_connection_that_slips_in_during_the_stop_is_told_so(tmp_path):
    """Nobody is left without an answer: the line says shutting_down."""
    server = EventsServer(Echo(), SocketLimits())
    await server.start(str(tmp_path / "s"), 0o600)
    server._stopping = True  # the instant between the decision and the closing of the listener
    assert await ask(tmp_path, b"", half_close=False) == b"refused shutting_down: the daemon is stopping\n"
    await server.stop(1)


@both_loops
async def test_a_second_server_is_refused_and_the_first_goes_on(tmp_path):
    """Two daemons on one path: the second says why it can't start and harms nothing."""
    async with serving(tmp_path, Echo()):
        second = EventsServer(Echo(), SocketLimits())
        with pytest.raises(AddressInUse):
            await second.start(str(tmp_path / "s"), 0o600)
        await second.stop(0)
        assert await ask(tmp_path, b"first\n") == b"first\n"


@both_loops
async def test_an_inherited_socket_is_served_and_never_unlinked(tmp_path):
    """A socket handed down by a service manager serves, and its file survives our stop."""
    path = str(tmp_path / "s")
    given = bind_unix(path, 0o600)
    keeper = given.dup()
    server = EventsServer(Echo(), SocketLimits())
    await server.start("", 0o600, inherited=given)
    assert await ask(tmp_path, b"hello\n") == b"hello\n"
    await server.stop(1)
    assert Path(path).exists()  # noqa: ASYNC240 - a stat of a local file
    keeper.close()


@both_loops
async def test_a_hundred_producers_that_die_leave_nothing_behind(tmp_path):
    """Connections cut off at any moment cost neither memory nor descriptors."""
    handler = Echo()
    async with serving(tmp_path, handler) as server:
        before = descriptors()
        for n in range(100):
            with socket.socket(socket.AF_UNIX) as producer:
                producer.connect(str(tmp_path / "s"))
                producer.send(b"a\n" * n + b"torn")
            if n % 10 == 0:
                await asyncio.sleep(0)
        await until(lambda: not server.connections and not server._queue and descriptors() <= before)
