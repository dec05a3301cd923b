"""Pings and tests: an event of the daemon's own for one endpoint, in its dialect's form.

Role: makes ``ringback.test``, hands it to the intake for that endpoint alone, whatever its filter.
Rules: it is an ordinary delivery from there on: signed, retried, recorded, held while the endpoint isn't active.
Must not know: HTTP, what a dialect says.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from ringback.core.events import own_event
from ringback.core.ids import delivery_id
from ringback.core.model import Endpoint, Event, Peer, Rejection
from ringback.core.names import TEST_TYPE
from ringback.dialects._base import Probe
from ringback.kit.clock import Chance, Clock
from ringback.service.rendering import dialect_of
from ringback.store.ops import Accepted

PING, TEST = "ping", "test"


class Gives(Protocol):
    """The intake."""

    def give(
        self,
        event: Event,
        lanes: tuple[int, ...],
        now_ms: int,
        peer: Peer,
        done: Callable[[Accepted | Rejection], None],
    ) -> None:
        """Take an event for these lanes; ``done`` is called once, after the commit."""
        ...


class Sent(msgspec.Struct, frozen=True):
    """What was made."""

    event_id: str
    delivery_id: str


async def send(
    intake: Gives, endpoint: Endpoint, kind: str, peer: Peer, *, clock: Clock, chance: Chance
) -> Sent | Rejection:
    """Owe the endpoint a test event; answers once it is on disk. KeyError if its dialect is gone."""
    now_ms = clock.now_ms()
    probe = Probe(
        kind=kind,
        endpoint_id=endpoint.id,
        url=endpoint.url,
        events=endpoint.events,
        name=endpoint.name,
        description=endpoint.description,
        created_at_ms=endpoint.created_at_ms,
        updated_at_ms=endpoint.updated_at_ms,
    )
    data = dialect_of(endpoint).probe(probe)
    event = own_event(chance.new_id(), endpoint.tenant, TEST_TYPE, data, now_ms)
    answered: asyncio.Future[Accepted | Rejection] = asyncio.get_running_loop().create_future()

    def answer_once(result: Accepted | Rejection) -> None:
        if not answered.done():  # the caller may have gone away meanwhile
            answered.set_result(result)

    intake.give(event, (endpoint.lane,), now_ms, peer, answer_once)
    result = await answered
    if isinstance(result, Rejection):
        return result
    return Sent(event.id, delivery_id(now_ms, result.seq, endpoint.lane))
