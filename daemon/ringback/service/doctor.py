"""The doctor: walks the way of a request to a receiver and tells each step in words.

Role: the URL, the egress rules, the name, every address, TLS, one harmless request, the clocks. What a step needs of
the one before it isn't looked at once that failed.
Rules: everything passes the sender's own resolver, guard and sockets; nothing signed is sent; every wait has the
settings' deadline; at most ``MAX_AT_ONCE`` walks at a time.
Must not know: endpoints, the store, words (``service.diagnosis``).
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ringback.core.egress import EgressPolicy, judge_url
from ringback.core.model import Outcome, Rejection, Request
from ringback.core.proxy import Proxy
from ringback.core.target import Target, parse_url
from ringback.dialects._base import USER_AGENT
from ringback.kit.clock import Clock
from ringback.service import diagnosis as words
from ringback.service.diagnosis import METHOD, Level, Step
from ringback.service.endpoint_fields import Refusal
from ringback.transports.dial import Origin
from ringback.transports.probe import Knock, Prober

MAX_AT_ONCE = 4
#: Of the answer to the harmless request.
MAX_ANSWER_BYTES = 4096

Headers = tuple[tuple[str, str], ...]


class WalksAndSends(Protocol):
    """The sender."""

    @property
    def prober(self) -> Prober:
        """Who looks at the stages."""
        ...

    async def send(self, request: Request, timeout_s: float) -> Outcome:
        """Make one request; whatever becomes of it is a value."""
        ...


class Ways(msgspec.Struct, frozen=True):
    """What of the settings decides a request's way. Durations in seconds; ``divert_to`` "" is nowhere."""

    policy: EgressPolicy
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0
    divert_to: str = ""
    nameservers: tuple[str, ...] = ()
    proxy: Proxy | None = None


class Asked(msgspec.Struct, frozen=True):
    """Whom to walk to, and as whom: ``headers`` are the endpoint's own. ``timeout_s`` None is the settings'."""

    url: str
    headers: Headers = ()
    tls_verify: bool = True
    timeout_s: float | None = None


class Doctor:
    """Walks. ``ways``: the settings; the name servers stay those the sender was made with."""

    def __init__(self, sender: WalksAndSends, clock: Clock, ways: Ways) -> None:
        self._sender = sender
        self._clock = clock
        self._nameservers = ways.nameservers
        self._walking = 0
        self._ways = ways

    def follow(self, ways: Ways) -> None:
        """Go by these settings from the next walk on."""
        self._ways = ways

    async def walk(self, asked: Asked) -> list[Step] | Refusal:
        """Every step as far as one gets. Refuses with ``overloaded`` while too many others walk."""
        if self._walking >= MAX_AT_ONCE:
            return Refusal("overloaded", f"{MAX_AT_ONCE} others are being looked at; try again in a moment")
        self._walking += 1
        try:
            return await self._walk(asked)
        finally:
            self._walking -= 1

    async def _walk(self, asked: Asked) -> list[Step]:
        target = parse_url(asked.url)
        if isinstance(target, Rejection):
            return [words.problem("url", target.message.removeprefix("url: "), "correct the URL")]
        steps = [words.ok("url", f"{target.scheme}, host {target.host}, port {target.port}")]
        judged = judge_url(self._ways.policy, asked.url)
        if isinstance(judged, Rejection):
            return [*steps, words.forbidden(judged.message)]
        if self._ways.proxy is not None:  # the name, the connection and the certificate are looked at from there
            steps.append(words.by_proxy(self._ways.proxy.place))
            await self._ask(target, asked, steps)
            return steps
        near = await self._reach(target, asked, steps)
        if near and (target.scheme == "http" or await self._encrypt(target, asked, near, steps)):
            await self._ask(target, asked, steps)
        return steps

    async def _reach(self, target: Target, asked: Asked, steps: list[Step]) -> str | None:
        """From the name to an address that accepts connections; None if there is none."""
        timeout_s, prober = self._ways.connect_timeout_s, self._sender.prober
        lookup = await prober.look_up(target.host, timeout_s)
        if target.literal is None:
            steps.append(words.found(lookup, target.host, self._nameservers))
        if not lookup.addresses:
            return None
        knocks = await prober.knock(_origin(target, asked), lookup.addresses, timeout_s)
        steps.append(words.allowed(knocks))
        return self._connected(target, knocks, steps)

    def _connected(self, target: Target, knocks: Sequence[Knock], steps: list[Step]) -> str | None:
        first = next((knock.address for knock in knocks if knock.open), None)
        steps += [
            words.connected(knock, target.port, others=first is not None) for knock in knocks if knock.refused is None
        ]
        return first

    async def _encrypt(self, target: Target, asked: Asked, address: str, steps: list[Step]) -> bool:
        shake = await self._sender.prober.shake(_origin(target, asked), address, self._ways.connect_timeout_s)
        steps.append(words.encrypted(shake, target.host, self._clock.now_ms(), verify=asked.tls_verify))
        return steps[-1].level is not Level.PROBLEM

    async def _ask(self, target: Target, asked: Asked, steps: list[Step]) -> None:
        own = {name.lower() for name, _ in asked.headers}
        agent: Headers = () if "user-agent" in own else (("user-agent", USER_AGENT),)
        request = Request(
            method=METHOD,
            url=target.url,
            headers=(*agent, *asked.headers),
            body=b"",
            tls_verify=asked.tls_verify,
            connect_timeout_s=self._ways.connect_timeout_s,
            max_response_bytes=MAX_ANSWER_BYTES,
        )
        outcome = await self._sender.send(request, asked.timeout_s or self._ways.timeout_s)
        steps.append(words.answered(outcome, proxied=self._ways.proxy is not None))
        clocks = words.clocks(outcome, self._clock.now_ms())
        steps += [] if clocks is None else [clocks]


def _origin(target: Target, asked: Asked) -> Origin:
    return Origin(target.scheme, target.host, target.port, asked.tls_verify)
