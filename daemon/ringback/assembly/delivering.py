"""The parts of the composition root that deliver: the dispatcher, the janitor behind it, the statistics.

Role: makes what works off the queue.
Rules: as for the package. Must not know: as there.
"""

import contextlib
from collections.abc import Sequence

from ringback.config import Settings
from ringback.core.model import Endpoint
from ringback.kit.clock import Chance, Clock
from ringback.service.attempt import Attempts
from ringback.service.budget import Budget
from ringback.service.callbacks import Callbacks
from ringback.service.dispatch import Dispatch
from ringback.service.endpoints import Endpoints
from ringback.service.janitor import Janitor
from ringback.service.metrics import Metrics
from ringback.service.settings_parts import keep_of, limits_of
from ringback.service.stats import Stats
from ringback.store.queue import QueueReads
from ringback.store.writer import Writer
from ringback.transports.http import HttpSender


def dispatch_part(  # noqa: PLR0917 - a root names everybody
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
    """The dispatcher, and what makes its attempts."""
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


def stats_part(stack: contextlib.AsyncExitStack, writer: Writer) -> Stats:
    """The statistics; closed with the stack, so that what was counted is written."""
    stats = Stats(writer)
    stack.push_async_callback(stats.close)
    return stats


async def janitor_part(
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
    """The janitor, told what there was at the start."""
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
