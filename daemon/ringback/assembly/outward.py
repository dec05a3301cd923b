"""The parts of the composition root that look outward: the guard, the sender, endpoints, callbacks, handshakes.

Role: makes what knows receivers.
Rules: as for the package. Must not know: as there.
"""

import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from ringback import dialects
from ringback.config import Settings
from ringback.core.egress import EgressPolicy, judge_address
from ringback.core.model import Endpoint
from ringback.core.names import Names
from ringback.core.proxy import judge_unresolved, parse_proxy
from ringback.kit.clock import Chance, Clock
from ringback.service.callbacks import Callbacks
from ringback.service.endpoints import Endpoints
from ringback.service.rotation import Rotation
from ringback.service.settings_parts import defaults_of, rules_of
from ringback.service.verify import Us, Verify
from ringback.store.callbacks import CallbackReads
from ringback.store.writer import Writer
from ringback.transports.http import HttpLimits, HttpSender


class Guard:
    """The egress policy in force, asked for every address right before its socket is made."""

    def __init__(self, policy: EgressPolicy) -> None:
        self.policy = policy

    def judge(self, address: str, scheme: str) -> str | None:
        """None lets the connection be made, text refuses it."""
        return judge_address(self.policy, address, scheme)

    def judge_name(self, host: str, scheme: str) -> str | None:
        """The same of a name that only the proxy can resolve."""
        return judge_unresolved(self.policy, host, scheme)


async def sender_part(stack: contextlib.AsyncExitStack, settings: Settings, clock: Clock, guard: Guard) -> HttpSender:
    """The sender, started."""
    sender = HttpSender(
        clock=clock,
        judge_address=guard.judge,
        judge_name=guard.judge_name,
        limits=HttpLimits(max_idle=settings.delivery.max_idle_connections),
        nameservers=settings.delivery.nameservers,
    )
    sender.route(parse_proxy(settings.egress.proxy))
    await sender.start()
    stack.push_async_callback(sender.stop)
    return sender


def endpoints_part(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    policy: EgressPolicy,
    sender: HttpSender,
    stored: Sequence[Endpoint],
) -> Endpoints:
    """The endpoints as they are stored."""
    endpoints = Endpoints(
        writer=writer,
        policy=policy,
        defaults=defaults_of(settings),
        resolve=sender.resolve,
        clock=clock,
        chance=chance,
        names=dialects.vocabulary(settings.aliases),
    )
    endpoints.fill(stored)
    return endpoints


async def callbacks_part(settings: Settings, policy: EgressPolicy, names: Names, reads: CallbackReads) -> Callbacks:
    """With the lanes that still owe something."""
    callbacks = Callbacks(policy, rules_of(settings), names)
    for lane in await reads.owing():
        callbacks.adopt(lane)
    return callbacks


def verify_part(settings: Settings, clock: Clock, chance: Chance, endpoints: Endpoints, sender: HttpSender) -> Verify:
    """The handshakes, those that are due among them."""
    public_url = settings.api.public_url
    verify = Verify(
        endpoints=endpoints,
        sender=sender,
        clock=clock,
        chance=chance,
        us=Us(urlsplit(public_url).hostname or "localhost", public_url),
        connect_timeout_s=settings.delivery.connect_timeout_s,
        divert_to=settings.delivery.divert_to,
    )
    verify.fill()
    endpoints.on_change(verify.changed)
    return verify


def rotation_part(endpoints: Endpoints, clock: Clock, chance: Chance) -> Rotation:
    """The ageing of secrets."""
    rotation = Rotation(endpoints, clock, chance)
    rotation.fill(endpoints)
    endpoints.on_change(rotation.changed)
    return rotation
