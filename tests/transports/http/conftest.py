"""The sender's tests: each runs on asyncio's own loop and on uvloop, against real sockets on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import uvloop
from tests.harness.hostile_server import HostileServer
from tests.transports.http.helpers import ManualClock, allow_all, request

from ringback.core.model import Outcome
from ringback.kit.clock import SystemClock
from ringback.transports.dial import leave_none
from ringback.transports.http import HttpLimits, HttpSender

Post = Callable[..., Awaitable[Outcome]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Run everything on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _no_child_stays() -> None:
    """Nothing here starts a process, but threads of the resolver come and go while a listing of them would be read."""


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until told otherwise."""
    return ManualClock()


@pytest.fixture
async def make_sender() -> AsyncIterator[Callable[..., Awaitable[HttpSender]]]:
    """Make started senders that are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def make(judge: Callable[[str, str], str | None] = allow_all, **changes: object) -> HttpSender:
            nameservers = changes.pop("nameservers", None)
            clock = changes.pop("clock", SystemClock())
            leave = changes.pop("judge_name", leave_none)
            limits = HttpLimits(**changes)
            sender = HttpSender(
                clock=clock, judge_address=judge, judge_name=leave, limits=limits, nameservers=nameservers
            )
            await sender.start()
            stack.push_async_callback(sender.stop)
            return sender

        yield make


@pytest.fixture
async def sender(make_sender) -> HttpSender:
    """A sender that may go anywhere."""
    return await make_sender()


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    """The misbehaving receiver."""
    async with HostileServer() as running:
        yield running


@pytest.fixture
def post(sender: HttpSender, server: HostileServer) -> Post:
    """Post one delivery to a script of the receiver."""

    async def send(path: str, timeout_s: float = 10.0, **changes: object) -> Outcome:
        return await sender.send(request(server.url(path), **changes), timeout_s)

    return send
