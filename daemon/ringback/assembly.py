"""The composition root: makes every part and says who knows whom.

Role: the only place that names all the parts; a function for each group of them.
Rules: no policy and no work of its own; nothing listens or turns yet when it is done; what must be closed is pushed
onto the caller's stack.
Must not know: formats, SQL, HTTP, signals.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ringback import dialects
from ringback.api.deps import Deps
from ringback.assembly_erasing import erasing
from ringback.config import Settings
from ringback.core.egress import EgressPolicy, judge_address
from ringback.core.events import EventLimits
from ringback.core.model import Endpoint
from ringback.core.names import Names
from ringback.core.proxy import judge_unresolved, parse_proxy
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger, set_level
from ringback.service.attempt import Attempts
from ringback.service.backlog import BacklogLook
from ringback.service.budget import Budget
from ringback.service.callbacks import Callbacks
from ringback.service.dispatch import Dispatch
from ringback.service.doctor import Doctor
from ringback.service.endpoints import Endpoints
from ringback.service.intake import Intake
from ringback.service.janitor import Janitor
from ringback.service.lane_facts import busiest, lane_facts
from ringback.service.maintenance import Maintenance
from ringback.service.metrics import Metrics
from ringback.service.reload import Live, policy_of
from ringback.service.restored import restored
from ringback.service.rotation import Rotation
from ringback.service.sealing import Sealing
from ringback.service.settings_parts import defaults_of, keep_of, limits_of, rules_of, ways_of
from ringback.service.spool import Spool
from ringback.service.stats import Stats
from ringback.service.tokens import Tokens
from ringback.service.verify import Us, Verify
from ringback.store import tokens
from ringback.store.callbacks import CallbackReads
from ringback.store.database import Database
from ringback.store.disk import Disk, usage
from ringback.store.endpoints import EndpointReads
from ringback.store.history import HistoryReads
from ringback.store.known import KnownIds
from ringback.store.queue import QueueReads
from ringback.store.reader import DISPATCH_TIMEOUT_S, Reader, ReadPool
from ringback.store.room import RoomReads
from ringback.store.stats import StatsReads
from ringback.store.writer import Writer
from ringback.transports.http import HttpLimits, HttpSender
from ringback.transports.line_connection import SocketLimits
from ringback.transports.spool import SpoolFolder
from ringback.transports.unix_socket import EventsServer

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process starts, turns and stops."""

    endpoints: Endpoints
    dispatch: Dispatch
    verify: Verify
    janitor: Janitor
    intake: Intake
    events: EventsServer
    spool: Spool | None
    deps: Deps
    live: tuple[Live, ...]


class _Guard:
    """The egress policy in force, asked for every address right before its socket is made."""

    def __init__(self, policy: EgressPolicy) -> None:
        self.policy = policy

    def judge(self, address: str, scheme: str) -> str | None:
        """None lets the connection be made, text refuses it."""
        return judge_address(self.policy, address, scheme)

    def judge_name(self, host: str, scheme: str) -> str | None:
        """The same of a name that only the proxy can resolve."""
        return judge_unresolved(self.policy, host, scheme)


async def assemble(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    clock: Clock,
    chance: Chance,
    database: Database,
    writer: Writer,
    ready: Callable[[], str],
    metrics: Metrics,
) -> Parts:
    """Make the parts and bring back what the table knows. ``ready`` is the process's state in a word."""
    reader, pool = await _readers(stack, database)
    reads, table = QueueReads(reader), EndpointReads(pool)
    guard = _Guard(policy_of(settings))
    sender = await _sender(stack, settings, clock, guard)
    stored = await table.load_all()
    endpoints = _endpoints(settings, clock, chance, writer, guard.policy, sender, stored)
    stats = _stats(stack, writer)
    callbacks = await _callbacks(settings, guard.policy, endpoints.names, CallbackReads(pool))
    dispatch, attempts = _dispatch(settings, clock, chance, writer, endpoints, callbacks, reads, sender, stats, metrics)
    budget = Budget(RoomReads(pool), writer, clock, settings.retention.max_database_bytes)
    janitor = await _janitor(settings, clock, writer, endpoints, callbacks, reads, dispatch, stored, budget=budget)
    verify = _verify(settings, clock, chance, endpoints, sender)
    await dispatch.recover({lane: health.failing for lane, health in (await table.health()).items()})
    intake = _intake(settings, clock, chance, writer, endpoints, callbacks, dispatch, metrics)
    spool = _spool(settings, clock, intake, KnownIds(pool))
    deps = Deps(
        endpoints=endpoints,
        reads=HistoryReads(pool),
        revisions=table,
        writer=writer,
        intake=intake,
        dispatch=dispatch,
        callbacks=callbacks,
        stats=stats,
        stats_reads=StatsReads(pool),
        sealing=Sealing(writer, pool),
        disk=_disk(settings, budget),
        started_at_ms=clock.now_ms(),
        tokens=Tokens(writer, clock, chance, await tokens.load(pool)),
        verify=verify,
        doctor=Doctor(sender, clock, ways_of(settings)),
        rotation=_rotation(endpoints, clock, chance),
        maintenance=await stack.enter_async_context(Maintenance(database, writer, clock, lambda: janitor.keep)),
        restored=await restored(endpoints, writer, pool, callbacks.holder(dispatch.changed)),
        clock=clock,
        chance=chance,
        ready=ready,
        metrics=metrics,
        backlog=BacklogLook(QueueReads(pool), clock),
        lane_facts=lambda lane: lane_facts(dispatch.board, lane, clock.monotonic()),
        busiest=lambda limit: busiest(dispatch.board, limit, clock.monotonic()),
        max_event_bytes=settings.ingest.max_event_bytes,
        max_response_bytes=settings.delivery.max_response_bytes,
        divert_to=settings.delivery.divert_to,
    )
    deps.erasure = await erasing(deps, dispatch, pool, database)
    live = _live(guard, sender, endpoints, dispatch, attempts, janitor, verify, deps, budget=budget)
    return Parts(endpoints, dispatch, verify, janitor, intake, _events(settings, intake), spool, deps, live)


async def _readers(stack: contextlib.AsyncExitStack, database: Database) -> tuple[Reader, ReadPool]:
    reader, pool = await Reader(database, DISPATCH_TIMEOUT_S).open(), await ReadPool(database).open()
    stack.push_async_callback(reader.close)
    stack.push_async_callback(pool.close)
    return reader, pool


def _live(
    guard: _Guard,
    sender: HttpSender,
    endpoints: Endpoints,
    dispatch: Dispatch,
    attempts: Attempts,
    janitor: Janitor,
    verify: Verify,
    deps: Deps,
    *,
    budget: Budget,
) -> tuple[Live, ...]:
    """What a reload can change, and how."""

    def egress(settings: Settings) -> None:
        guard.policy = policy_of(settings)
        endpoints.reconfigure(guard.policy, defaults_of(settings))
        sender.route(parse_proxy(settings.egress.proxy))

    def deliveries(settings: Settings) -> None:
        delivery = settings.delivery
        attempts.reconfigure(delivery.connect_timeout_s, delivery.max_response_bytes, delivery.divert_to)
        deps.max_response_bytes, deps.divert_to = delivery.max_response_bytes, delivery.divert_to
        verify.reconfigure(delivery.connect_timeout_s, delivery.divert_to)
        dispatch.limit(limits_of(settings))
        sender.limit_idle(delivery.max_idle_connections)
        endpoints.reconfigure(guard.policy, defaults_of(settings))

    names = ("concurrency", "timeout_s", "connect_timeout_s", "max_response_bytes", "max_body_bytes_in_flight")
    keys = tuple(f"delivery.{name}" for name in (*names, "max_idle_connections", "divert_to"))
    return (
        Live(("egress.",), egress),
        Live((*keys, "endpoint_defaults."), deliveries),
        Live(("retention.events_days", "retention.attempts_days"), lambda s: janitor.reconfigure(keep_of(s))),
        Live(("retention.max_database_bytes",), lambda s: budget.limit(s.retention.max_database_bytes)),
        Live(("egress.", "callbacks.", "tenant."), lambda s: deps.callbacks.reconfigure(policy_of(s), rules_of(s))),
        Live(("egress.", *keys), lambda s: deps.doctor.follow(ways_of(s))),
        Live(("log.level",), lambda settings: set_level(settings.log.level)),
    )


def _disk(settings: Settings, budget: Budget) -> Callable[[], Disk]:
    """How much room there is and is used, whenever it is asked."""
    folder = Path(settings.daemon.state_dir)
    return lambda: usage(folder)._replace(used_bytes=budget.used_bytes, budget_bytes=budget.max_bytes)


async def _callbacks(settings: Settings, policy: EgressPolicy, names: Names, reads: CallbackReads) -> Callbacks:
    """With the lanes that still owe something."""
    callbacks = Callbacks(policy, rules_of(settings), names)
    for lane in await reads.owing():
        callbacks.adopt(lane)
    return callbacks


async def _sender(stack: contextlib.AsyncExitStack, settings: Settings, clock: Clock, guard: _Guard) -> HttpSender:
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


def _endpoints(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    policy: EgressPolicy,
    sender: HttpSender,
    stored: Sequence[Endpoint],
) -> Endpoints:
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


def _dispatch(  # noqa: PLR0917 - a root names everybody
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    endpoints: Endpoints,
    callbacks: Callbacks,
    reads: QueueReads,
    sender: HttpSender,
    stats: Stats,
    metrics: Metrics,
) -> tuple[Dispatch, Attempts]:
    delivery = settings.delivery
    attempts = Attempts(
        sender=sender,
        clock=clock,
        chance=chance,
        connect_timeout_s=delivery.connect_timeout_s,
        max_response_bytes=delivery.max_response_bytes,
        divert_to=delivery.divert_to,
        names=endpoints.names,
    )
    dispatch = Dispatch(
        limits=limits_of(settings),
        endpoints=endpoints,
        callbacks=callbacks,
        reads=reads,
        writer=writer,
        attempts=attempts,
        clock=clock,
        note=stats.note,
        metrics=metrics,
    )
    endpoints.on_change(dispatch.changed)
    return dispatch, attempts


def _stats(stack: contextlib.AsyncExitStack, writer: Writer) -> Stats:
    stats = Stats(writer)
    stack.push_async_callback(stats.close)
    return stats


def _rotation(endpoints: Endpoints, clock: Clock, chance: Chance) -> Rotation:
    rotation = Rotation(endpoints, clock, chance)
    rotation.fill(endpoints)
    endpoints.on_change(rotation.changed)
    return rotation


def _intake(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    endpoints: Endpoints,
    callbacks: Callbacks,
    dispatch: Dispatch,
    metrics: Metrics,
) -> Intake:
    return Intake(
        matches=endpoints,
        writer=writer,
        dispatch=dispatch,
        callbacks=callbacks,
        clock=clock,
        chance=chance,
        limits=EventLimits(max_event_bytes=settings.ingest.max_event_bytes),
        metrics=metrics,
    )


def _verify(settings: Settings, clock: Clock, chance: Chance, endpoints: Endpoints, sender: HttpSender) -> Verify:
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


async def _janitor(
    settings: Settings,
    clock: Clock,
    writer: Writer,
    endpoints: Endpoints,
    callbacks: Callbacks,
    reads: QueueReads,
    dispatch: Dispatch,
    stored: Sequence[Endpoint],
    *,
    budget: Budget,
) -> Janitor:
    janitor = Janitor(
        board=dispatch.board,
        endpoints=endpoints,
        reads=reads,
        writer=writer,
        clock=clock,
        keep=keep_of(settings),
        in_flight=dispatch.in_flight,
        kick=dispatch.kick,
        deleted=[e.lane for e in stored if e.deleted_at_ms is not None],
        metrics=dispatch.metrics,
        newest_ms=await reads.newest_ms(),
        stand_in=callbacks.stand_in,
        budget=budget,
    )
    endpoints.on_change(janitor.changed)
    return janitor


def _spool(settings: Settings, clock: Clock, intake: Intake, known: KnownIds) -> Spool | None:
    """The spool, its directory locked; None if it is off."""
    ingest = settings.ingest
    if not ingest.spool.path:
        return None
    folder = SpoolFolder(ingest.spool.path)
    folder.open()
    limits = EventLimits(max_event_bytes=ingest.max_event_bytes)
    return Spool(folder=folder, intake=intake, known=known, limits=limits, clock=clock)


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
