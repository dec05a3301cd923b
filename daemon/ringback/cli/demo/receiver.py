"""The demo's receiver: a process of its own that trusts nothing it is sent.

Role: plays three customers' servers on one port of 127.0.0.1 (one fine, one that refuses at first, one slow), checks
each request as the Standard Webhooks specification says, and tells its parent about each in one JSON line.
Rules: the checking code is its own and shares nothing with the code that signs. It ends when its standard input ends,
so that it can't outlive whoever started it.
Must not know: the daemon, its database, what was emitted.
Protocol: standard input ``{"endpoint", "secret"}`` lines; standard output ``{"port"}`` first, then a line for each
request: ``{"endpoint", "id", "status", "signature", "data"}``.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
from typing import Any

from aiohttp import web

from ringback.cli.demo.jobs import digest_of
from ringback.kit.clock import Clock, SystemClock

HEALTHY = "healthy"
FLAKY = "flaky"
SLOW = "slow"
#: How long the slow one thinks before it answers.
SLOW_S = 0.15
#: A signature older or newer than this is refused, against replays.
TOLERANCE_S = 300
MAX_BODY_BYTES = 1_048_576
MAX_LINE_BYTES = 4096


def check(secret: str, headers: dict[str, str], body: bytes, now_s: int) -> str:
    """Verify one request. Returns ``ok``, or in words what is wrong. ``headers`` have lower-case names."""
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    given = headers.get("webhook-signature")
    if not (message_id and timestamp and given):
        return "a header is missing"
    if not timestamp.isdigit() or abs(now_s - int(timestamp)) > TOLERANCE_S:
        return "the timestamp is too far from now"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    if any(hmac.compare_digest(f"v1,{wanted}", item) for item in given.split()):
        return "ok"
    return "the signature doesn't match"


class Receiver:
    """Three endpoints and what they were sent. ``refusals`` is how many requests the flaky one answers with 503."""

    def __init__(self, clock: Clock, refusals: int) -> None:
        self._clock = clock
        self._refusals = refusals
        self._secrets: dict[str, str] = {}

    def learn(self, line: bytes) -> None:
        """Take one line of standard input: an endpoint's secret."""
        told = json.loads(line)
        self._secrets[told["endpoint"]] = told["secret"]

    async def take(self, request: web.Request) -> web.Response:
        """Receive one webhook."""
        endpoint = request.match_info["endpoint"]
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        signature = check(self._secrets.get(endpoint, ""), headers, body, self._clock.now_ms() // 1000)
        if endpoint == SLOW:
            await self._clock.sleep(SLOW_S)
        status = self._status(endpoint, signature)
        tell(
            endpoint=endpoint,
            id=headers.get("webhook-id", ""),
            status=status,
            signature=signature,
            data=_fingerprint(body),
        )
        return web.Response(status=status, text="thank you" if status == 200 else "not now")

    def _status(self, endpoint: str, signature: str) -> int:
        if signature != "ok":
            return 401
        if endpoint == FLAKY and self._refusals > 0:
            self._refusals -= 1
            return 503
        return 200


def _fingerprint(body: bytes) -> str:
    """Stands for the event's data, or says that there was none."""
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        return "none"
    return digest_of(data) if isinstance(data, dict) else "none"


def tell(**facts: Any) -> None:
    """Say one line to the parent."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def _serve(refusals: int) -> None:
    receiver = Receiver(SystemClock(), refusals)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/{endpoint}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tell(port=runner.addresses[0][1])
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        receiver.learn(line)
    await runner.cleanup()


def main() -> None:
    """Run until standard input ends. The one argument is the number of refusals."""
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
