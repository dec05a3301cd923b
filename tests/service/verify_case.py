"""A world with one receiver whose answers to challenges the test decides."""

import json
from urllib.parse import parse_qs, urlsplit

from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.service.endpoints import Changed
from ringback.service.verify import Us

URL = "https://receiver.example/hook"
US = Us("us.example", "https://us.example")


def token_of(request):
    """The token of a challenge by its query."""
    query = parse_qs(urlsplit(request.url).query)
    return (query.get("validationToken") or query.get("hub.challenge") or [""])[0]


def is_challenge(request):
    """Whether a request is no delivery."""
    return "webhook-id" not in dict(request.headers)


class Case:
    """A world, its receiver, and what came."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.clock, self.chance = FakeClock(), FakeChance(1)
        self.network = FakeNetwork(self.receive)
        self.challenges, self.delivered = [], []
        self.reply = self.echo

    def echo(self, request):
        return answer(200, body=token_of(request).encode(), headers=(("content-type", "text/plain"),))

    def receive(self, request):
        if is_challenge(request):
            self.challenges.append(request)
            return self.reply(request)
        self.delivered.append(json.loads(request.body)["data"]["n"])
        return answer(200)

    async def start(self, **more):
        self.world = await World(self.tmp_path, self.clock, self.chance, self.network, us=US, **more).start()
        return self.world

    async def restart(self):
        await self.world.crash()
        await self.start()

    async def make(self, handshake="azure-speech", **members):
        done = await self.world.endpoints.create({"url": URL, "handshake": handshake, **members})
        assert isinstance(done, Changed), done
        self.id = done.endpoint.id
        return done.endpoint

    async def settle(self, seconds=0.0):
        self.clock.advance(seconds)
        await self.world.settle(janitor=False)
        for _ in range(3):
            await self.world.turns()
        return self.endpoint

    @property
    def endpoint(self):
        return self.world.endpoints.get(self.id)

    def emit(self, *numbers):
        for n in numbers:
            self.world.emit(json.dumps({"type": "a.b", "data": {"n": n}}).encode())
