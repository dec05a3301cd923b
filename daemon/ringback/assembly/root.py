"""The composition root: makes every part and says who knows whom.

Role: the only place that names all the parts; a function for each group of them.
Rules: no policy and no work of its own; nothing listens or turns yet when it is done; what must be closed is pushed
onto the caller's stack.
Must not know: formats, SQL, HTTP, signals.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringback.api.deps import Deps
from ringback.assembly.delivering import dispatch_part, janitor_part, stats_part
from ringback.assembly.erasing import erasing
from ringback.assembly.live import live_settings
from ringback.assembly.outward import Guard, callbacks_part, endpoints_part, rotation_part, sender_part, verify_part
from ringback.assembly.taking_in import events_server, intake_part, spool_part
from ringback.config import Settings
from ringback.core.schedule import Board
from ringback.kit.clock import Chance, Clock
from ringback.service.backlog import BacklogLook
from ringback.service.budget import Budget
from ringback.service.dispatch import Dispatch
from ringback.service.doctor import Doctor
from ringback.service.endpoints import Endpoints
from ringback.service.intake import Intake
from ringback.service.janitor import Janitor
from ringback.service.lane_facts import busiest, failing, lane_facts
from ringback.service.maintenance import Maintenance
from ringback.service.metrics import Metrics
from ringback.service.reload import Live, policy_of
from ringback.service.restored import restored
from ringback.service.sealing import Sealing
from ringback.service.settings_parts import ways_of
from ringback.service.spool import Spool
from ringback.service.tokens import Tokens
from ringback.service.verify import Verify
from ringback.store import tokens
from ringback.store.callbacks import CallbackReads
from ringback.store.database import Database
from ringback.store.disk import Disk, usage
from ringback.store.endpoints import EndpointReads
from ringback.store.erase import wipe_log
from ringback.store.history import HistoryReads
from ringback.store.known import KnownIds
from ringback.store.queue import QueueReads
from ringback.store.reader import DISPATCH_TIMEOUT_S, Reader, ReadPool
from ringback.store.room import RoomReads
from ringback.store.stats import StatsReads
from ringback.store.writer import Writer
from ringback.transports.unix_socket import EventsServer


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
    guard = Guard(policy_of(settings))
    sender = await sender_part(stack, settings, clock, guard)
    stored = await table.load_all()
    endpoints = endpoints_part(settings, clock, chance, writer, guard.policy, sender, stored)
    stats = stats_part(stack, writer)
    callbacks = await callbacks_part(settings, guard.policy, endpoints.names, CallbackReads(pool))
    parts = (settings, clock, chance, writer, endpoints, callbacks)
    dispatch, attempts = dispatch_part(*parts, reads, sender, stats, metrics)
    budget = Budget(RoomReads(pool), writer, clock, settings.retention.max_database_bytes)
    janitor = await janitor_part(settings, clock, writer, endpoints, callbacks, reads, dispatch, stored, budget=budget)
    verify = verify_part(settings, clock, chance, endpoints, sender)
    await dispatch.recover({lane: health.failing for lane, health in (await table.health()).items()})
    intake = intake_part(*parts, dispatch, metrics)
    spool = spool_part(settings, clock, intake, KnownIds(pool))
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
        sealing=Sealing(writer, pool, lambda: wipe_log(database)),
        disk=_disk(settings, budget),
        started_at_ms=clock.now_ms(),
        tokens=Tokens(writer, clock, chance, await tokens.load(pool)),
        verify=verify,
        doctor=Doctor(sender, clock, ways_of(settings)),
        rotation=rotation_part(endpoints, clock, chance),
        maintenance=await stack.enter_async_context(Maintenance(database, writer, clock, lambda: janitor.keep)),
        restored=await restored(endpoints, writer, pool, callbacks.holder(dispatch.changed)),
        clock=clock,
        chance=chance,
        ready=ready,
        metrics=metrics,
        backlog=BacklogLook(QueueReads(pool), clock),
        **_looks(dispatch.board, clock),
        max_event_bytes=settings.ingest.max_event_bytes,
        max_response_bytes=settings.delivery.max_response_bytes,
        divert_to=settings.delivery.divert_to,
    )
    deps.erasure = await erasing(deps, dispatch, pool, database)
    live = live_settings(guard, sender, endpoints, dispatch, attempts, janitor, verify, deps, budget=budget)
    return Parts(endpoints, dispatch, verify, janitor, intake, events_server(settings, intake), spool, deps, live)


def _looks(board: Board, clock: Clock) -> dict[str, Any]:
    """What the API may ask of the lanes, by the names it has for it."""
    return {
        "lane_facts": lambda lane: lane_facts(board, lane, clock.monotonic()),
        "failing": lambda: failing(board),
        "busiest": lambda limit: busiest(board, limit, clock.monotonic()),
    }


async def _readers(stack: contextlib.AsyncExitStack, database: Database) -> tuple[Reader, ReadPool]:
    reader, pool = await Reader(database, DISPATCH_TIMEOUT_S).open(), await ReadPool(database).open()
    stack.push_async_callback(reader.close)
    stack.push_async_callback(pool.close)
    return reader, pool


def _disk(settings: Settings, budget: Budget) -> Callable[[], Disk]:
    """How much room there is and is used, whenever it is asked."""
    folder = Path(settings.daemon.state_dir)
    return lambda: usage(folder)._replace(used_bytes=budget.used_bytes, budget_bytes=budget.max_bytes)
