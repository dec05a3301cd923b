"""Parts for tests of the events socket: both event loops, handlers, producers."""

import asyncio
import contextlib
import functools
import inspect
from pathlib import Path

import pytest
import uvloop

from ringback.transports.unix_socket import EventsServer, SocketLimits

HANG_S = 120


def both_loops(test):
    """Run an async test on asyncio's own loop and on uvloop, within a time that only a hang exceeds."""

    def run(loop_factory, **fixtures):
        async def bounded():
            async with asyncio.timeout(HANG_S):
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
        self.refused = []

    def handle(self, line, peer, answer):
        self.lines.append(line)
        self.peers.append(peer)
        answer(line + b"\n")

    def refuse(self, code, message, peer=None):
        self.refused.append((code, peer))
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
