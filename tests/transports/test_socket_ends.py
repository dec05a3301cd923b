"""The events socket over real sockets, on both event loops: who connects, what goes wrong, how it ends."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest
from tests.transports.socket_parts import Echo, Later, ask, both_loops, connect, descriptors, serving, settle, until

from ringback import AsyncProducer, Producer
from ringback.transports.bind import AddressInUse, bind_unix
from ringback.transports.unix_socket import MAX_LINES_PER_TURN, EventsServer, SocketLimits


def close(*writers):
    """Let go of producers' ends."""
    for writer in writers:
        writer.close()


class Acks(Echo):
    """Answers each line as the daemon answers an accepted event."""

    def handle(self, line, peer, answer):
        answer(json.dumps({"ok": True, "id": json.loads(line)["id"], "deliveries": 0}).encode() + b"\n")


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
async def test_the_longest_idle_gives_way_to_a_newcomer(tmp_path):
    """With all places taken, who was silent longest and is owed nothing is closed, and an operator is told."""
    notices, handler = [], Later()
    async with serving(tmp_path, handler, notices, max_connections=3, idle_s=0) as server:
        (asking_reader, asking), (first, one), (second, two) = [await connect(tmp_path) for _ in range(3)]
        asking.write(b"a\n")
        await handler.until(1)
        await until(lambda: server.connections == 3)
        newcomer = asyncio.ensure_future(ask(tmp_path, b"new\n"))
        await handler.until(2)
        await until(lambda: first.at_eof() or second.at_eof())
        await settle()
        assert not (first.at_eof() and second.at_eof())
        (notice,) = notices
        assert notice[0] == "socket.gave_way"
        assert notice[1]["pid"] == os.getpid()
        handler.answer(2)
        assert await newcomer == b"new\n"
        assert await asking_reader.readline() == b"a\n"
        close(asking, one, two)


@both_loops
async def test_who_is_owed_an_answer_never_gives_way(tmp_path):
    """Connections with a line unanswered keep their places, however long they were silent."""
    handler = Later()
    async with serving(tmp_path, handler, max_connections=2, idle_s=0) as server:
        writers = [(await connect(tmp_path))[1] for _ in range(2)]
        for writer in writers:
            writer.write(b"a\n")
        await handler.until(2)
        assert (await ask(tmp_path, b"", half_close=False)).startswith(b"refused overloaded")
        assert server.connections == 2
        close(*writers)


@both_loops
async def test_half_a_line_keeps_no_place(tmp_path):
    """An unterminated line is no event, so who leaves one there and falls silent is idle."""
    async with serving(tmp_path, Echo(), max_connections=1, idle_s=0) as server:
        reader, writer = await connect(tmp_path)
        writer.write(b'{"type":')
        await until(lambda: server.connections == 1)
        await settle()
        assert await ask(tmp_path, b"new\n") == b"new\n"
        assert await reader.read() == b""
        close(writer)


@both_loops
async def test_who_was_silent_for_less_than_the_limit_keeps_its_place(tmp_path):
    """A newcomer is turned away while nobody was idle for long."""
    async with serving(tmp_path, Echo(), max_connections=1) as server:
        reader, writer = await connect(tmp_path)
        await until(lambda: server.connections == 1)
        for _ in range(2):
            assert (await ask(tmp_path, b"", half_close=False)).startswith(b"refused overloaded")
        assert not reader.at_eof()
        close(writer)


@both_loops
async def test_producers_connect_again_when_they_had_to_give_way(tmp_path):
    """Both producers send over a fresh connection, without an error, after theirs was closed as idle."""
    path = str(tmp_path / "s")
    async with serving(tmp_path, Acks(), max_connections=1, idle_s=0):
        with Producer(path) as blocking:
            async with AsyncProducer(path) as other:
                for n in range(3):
                    assert (await asyncio.to_thread(blocking.send, "a.b", {}, id=f"b{n}")).id == f"b{n}"
                    assert (await other.send("a.b", {}, id=f"o{n}")).id == f"o{n}"


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
