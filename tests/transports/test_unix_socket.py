"""The events socket over real sockets, on both event loops: lines, order, bounds."""

import asyncio
import contextlib
import os
import random
import socket

import pytest
from tests.transports.socket_parts import Echo, Later, ask, both_loops, connect, serving, settle, until

from ringback.core.model import Peer
from ringback.transports.unix_socket import MAX_LINES_PER_TURN


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
        assert notices == [], "who refuses also tells, once"
        peer = Peer("socket", os.getuid(), os.getgid(), os.getpid())
        assert handler.refused == [("too_large", peer)] * 2


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
