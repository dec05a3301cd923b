"""The composition root: makes every part and says who knows whom.

Role: the only place that names all the parts; a function for each group of them.
Rules: no policy and no work of its own; nothing listens or turns yet when it is done; what must be closed is pushed
onto the caller's stack.
Must not know: formats, SQL, HTTP, signals.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ringback.api.deps import Deps
from ringback.config import Settings
from ringback.core.egress import EgressPolicy, judge_address, parse_policy
from ringback.core.events import EventLimits
from ringback.core.model import Endpoint
from ringback.core.schedule import Limits
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.service.attempt import Attempts
from ringback.service.dispatch import Dispatch
from ringback.service.endpoints import EndpointDefaults, Endpoints
from ringback.service.intake import Intake
from ringback.service.janitor import DAY_MS, Janitor, Keep
from ringback.store.database import Database
from ringback.store.endpoints import EndpointReads
from ringback.store.history import HistoryReads
from ringback.store.queue import QueueReads
from ringback.store.reader import DISPATCH_TIMEOUT_S, Reader, ReadPool
from ringback.store.writer import Writer
from ringback.transports.http import HttpLimits, HttpSender
from ringback.transports.line_connection import SocketLimits
from ringback.transports.unix_socket import EventsServer

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process starts, turns and stops."""

    endpoints: Endpoints
    dispatch: Dispatch
    janitor: Janitor
    intake: Intake
    events: EventsServer
    deps: Deps


async def assemble(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    clock: Clock,
    chance: Chance,
    database: Database,
    writer: Writer,
    ready: Callable[[], str],
) -> Parts:
    """Make the parts and bring back what the table knows. ``ready`` is the process's state in a word."""
    reader, pool = await Reader(database, DISPATCH_TIMEOUT_S).open(), await ReadPool(database).open()
    stack.push_async_callback(reader.close)
    stack.push_async_callback(pool.close)
    reads, table = QueueReads(reader), EndpointReads(pool)
    egress = settings.egress
    policy = parse_policy(egress.allow_http, egress.allow_networks, egress.deny_networks)
    sender = _sender(settings, clock, policy)
    await sender.start()
    stack.push_async_callback(sender.stop)
    stored = await table.load_all()
    endpoints = _endpoints(settings, clock, chance, writer, policy, sender, stored)
    dispatch = _dispatch(settings, clock, chance, writer, endpoints, reads, sender)
    janitor = _janitor(settings, clock, writer, endpoints, reads, dispatch, stored)
    endpoints.on_change(dispatch.changed)
    endpoints.on_change(janitor.changed)
    await dispatch.recover({lane: health.failing for lane, health in (await table.health()).items()})
    intake = Intake(
        matches=endpoints,
        writer=writer,
        dispatch=dispatch,
        clock=clock,
        chance=chance,
        limits=EventLimits(max_event_bytes=settings.ingest.max_event_bytes),
    )
    events = _events(settings, intake)
    deps = Deps(
        endpoints=endpoints,
        reads=HistoryReads(pool),
        revisions=table,
        writer=writer,
        intake=intake,
        dispatch=dispatch,
        clock=clock,
        ready=ready,
        max_event_bytes=settings.ingest.max_event_bytes,
        max_response_bytes=settings.delivery.max_response_bytes,
        divert_to=settings.delivery.divert_to,
    )
    return Parts(endpoints, dispatch, janitor, intake, events, deps)


def _sender(settings: Settings, clock: Clock, policy: EgressPolicy) -> HttpSender:
    return HttpSender(
        clock=clock,
        judge_address=lambda address, scheme: judge_address(policy, address, scheme),
        limits=HttpLimits(max_idle=settings.delivery.max_idle_connections),
        nameservers=settings.delivery.nameservers,
    )


def _endpoints(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    policy: EgressPolicy,
    sender: HttpSender,
    stored: Sequence[Endpoint],
) -> Endpoints:
    defaults = settings.endpoint_defaults
    endpoints = Endpoints(
        writer=writer,
        policy=policy,
        defaults=EndpointDefaults(defaults.dialect, defaults.concurrency, settings.delivery.timeout_s),
        resolve=sender.resolve,
        clock=clock,
        chance=chance,
    )
    endpoints.fill(stored)
    return endpoints


def _dispatch(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    endpoints: Endpoints,
    reads: QueueReads,
    sender: HttpSender,
) -> Dispatch:
    delivery = settings.delivery
    attempts = Attempts(
        sender=sender,
        clock=clock,
        chance=chance,
        connect_timeout_s=delivery.connect_timeout_s,
        max_response_bytes=delivery.max_response_bytes,
        divert_to=delivery.divert_to,
    )
    limits = Limits(delivery.concurrency, delivery.max_body_bytes_in_flight)
    return Dispatch(limits=limits, endpoints=endpoints, reads=reads, writer=writer, attempts=attempts, clock=clock)


def _janitor(
    settings: Settings,
    clock: Clock,
    writer: Writer,
    endpoints: Endpoints,
    reads: QueueReads,
    dispatch: Dispatch,
    stored: Sequence[Endpoint],
) -> Janitor:
    return Janitor(
        board=dispatch.board,
        endpoints=endpoints,
        reads=reads,
        writer=writer,
        clock=clock,
        keep=Keep(settings.retention.events_days * DAY_MS, settings.retention.attempts_days * DAY_MS),
        in_flight=dispatch.in_flight,
        kick=dispatch.kick,
        deleted=[e.lane for e in stored if e.deleted_at_ms is not None],
    )


def _events(settings: Settings, intake: Intake) -> EventsServer:
    ingest = settings.ingest
    limits = SocketLimits(
        max_event_bytes=ingest.max_event_bytes,
        max_unanswered=ingest.max_unanswered,
        max_connections=ingest.max_connections,
    )
    events = EventsServer(intake, limits, lambda name, keys: _log.info(name, **keys))
    intake.on_pressure(lambda pressed: events.pause() if pressed else events.resume())
    return events
