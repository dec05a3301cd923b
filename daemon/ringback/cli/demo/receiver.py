"""The demo's receiver: a process of its own that trusts nothing it is sent.

Role: plays all customers' servers on one port of 127.0.0.1, checks each request by its dialect's rules, answers a
challenge once its signature held and a moment has passed, refuses or dawdles where that is its role.
Rules: the checking code (``cli.receiver``) shares nothing with the code that signs. It ends when its standard input
ends, so that it can't outlive whoever started it.
Must not know: the daemon, its database, what was emitted.
Protocol: standard input has ``{"endpoint", "dialect", "secret", "options"}`` lines; standard output ``{"port"}`` first,
then a line for each request: ``{"endpoint", "id", "mark", "status", "signature", "data"}`` or, of a challenge,
``{"endpoint", "challenge", "signature"}`` with ``received`` and then, before it is answered, ``answered``.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from ringback.cli.demo.cast import FLAKY, SLOW, SLOW_S
from ringback.cli.demo.reading import read
from ringback.cli.receiver.captured import Captured, Settings
from ringback.cli.receiver.challenges import Reply, reply_to
from ringback.cli.receiver.checks import check
from ringback.kit.clock import Clock, SystemClock

#: A request may come before the line that tells its endpoint's secret: so long it waits for it.
LEARN_S = 5.0
MAX_ENDPOINTS = 64
MAX_BODY_BYTES = 1_048_576
MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Known:
    """What an endpoint's owner knows of it."""

    dialect: str
    secrets: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)


def judge(known: Known, captured: Captured, now_s: int) -> str:
    """``ok``, or in words what is wrong with a request. ``now_s``: Unix seconds."""
    findings = check(known.dialect, captured, Settings(known.secrets, now_s, options=known.options))
    return "; ".join(finding.said for finding in findings if not finding.ok) or "ok"


class Receiver:
    """The endpoints and what they were sent.

    ``refusals``: how many requests the flaky one answers with 503; ``hesitation_s``: how long a challenge waits.
    """

    def __init__(self, clock: Clock, refusals: int, hesitation_s: float) -> None:
        self._clock = clock
        self._refusals = refusals
        self._hesitation_s = hesitation_s
        self._known: dict[str, Known] = {}
        self._learned = asyncio.Condition()

    async def learn(self, line: bytes) -> None:
        """Take one line of standard input."""
        told = json.loads(line)
        async with self._learned:
            if len(self._known) < MAX_ENDPOINTS:
                self._known[told["endpoint"]] = Known(told["dialect"], (told["secret"],), told["options"])
            self._learned.notify_all()

    async def take(self, request: web.Request) -> web.Response:
        """Receive one webhook."""
        name = request.match_info["endpoint"]
        headers = {key.lower(): value for key, value in request.headers.items()}
        captured = Captured(headers, await request.read(), request.method, request.path_qs)
        try:
            async with asyncio.timeout(LEARN_S), self._learned:
                await self._learned.wait_for(lambda: name in self._known)
        except TimeoutError:
            return web.Response(status=404)
        known = self._known[name]
        challenge = reply_to(captured, known.secrets)
        if challenge is not None:
            return await self._prove(name, known, captured, challenge)
        return await self._receive(name, known, captured)

    async def _prove(self, name: str, known: Known, captured: Captured, challenge: Reply) -> web.Response:
        """The token is what a challenge signs; its echo is the proof."""
        signed = msgspec.structs.replace(captured, body=challenge.body.encode())
        signature = judge(known, signed, self._clock.now_ms() // 1000)
        tell(endpoint=name, challenge="received", signature=signature)
        if signature != "ok":
            return web.Response(status=401)
        await self._clock.sleep(self._hesitation_s)
        tell(endpoint=name, challenge="answered", signature=signature)
        return web.Response(status=challenge.status, text=challenge.body, headers=challenge.headers)

    async def _receive(self, name: str, known: Known, captured: Captured) -> web.Response:
        signature = judge(known, captured, self._clock.now_ms() // 1000)
        if name == SLOW:
            await self._clock.sleep(SLOW_S)
        status = self._status(name, signature)
        reading = read(known.dialect, captured)
        tell(endpoint=name, id=reading.event, mark=reading.mark, status=status, signature=signature, data=reading.data)
        return web.Response(status=status, text="thank you" if status == 200 else "not now")

    def _status(self, endpoint: str, signature: str) -> int:
        if signature != "ok":
            return 401
        if endpoint == FLAKY and self._refusals > 0:
            self._refusals -= 1
            return 503
        return 200


def tell(**facts: Any) -> None:
    """Say one line to the parent."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def _serve(refusals: int, hesitation_s: float) -> None:
    receiver = Receiver(SystemClock(), refusals, hesitation_s)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{endpoint}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tell(port=runner.addresses[0][1])
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        await receiver.learn(line)
    await runner.cleanup()


def main() -> None:
    """Run until standard input ends. The arguments: the number of refusals, a challenge's wait in seconds."""
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
