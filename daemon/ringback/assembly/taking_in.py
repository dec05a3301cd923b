"""The parts of the composition root that take events in: the intake, the socket, the spool.

Role: makes what events come through.
Rules: as for the package. Must not know: as there.
"""

from ringback.assembly.starting import named
from ringback.config import Settings
from ringback.core.events import EventLimits
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.service.callbacks import Callbacks
from ringback.service.dispatch import Dispatch
from ringback.service.endpoints import Endpoints
from ringback.service.intake import Intake
from ringback.service.metrics import Metrics
from ringback.service.spool import Spool
from ringback.store.known import KnownIds
from ringback.store.writer import Writer
from ringback.transports.line_connection import SocketLimits
from ringback.transports.spool import SpoolFolder
from ringback.transports.unix_socket import EventsServer

_log = get_logger()


def intake_part(
    settings: Settings,
    clock: Clock,
    chance: Chance,
    writer: Writer,
    endpoints: Endpoints,
    callbacks: Callbacks,
    dispatch: Dispatch,
    metrics: Metrics,
) -> Intake:
    """The intake."""
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


def spool_part(settings: Settings, clock: Clock, intake: Intake, known: KnownIds) -> Spool | None:
    """The spool, its directory locked; None if it is off."""
    ingest = settings.ingest
    if not ingest.spool.path:
        return None
    folder = SpoolFolder(ingest.spool.path)
    with named("ingest.spool.path", ingest.spool.path):
        folder.open()
    limits = EventLimits(max_event_bytes=ingest.max_event_bytes)
    return Spool(folder=folder, intake=intake, known=known, limits=limits, clock=clock)


def events_server(settings: Settings, intake: Intake) -> EventsServer:
    """The events socket, which waits while the intake can't keep up; not listening yet."""
    ingest = settings.ingest
    limits = SocketLimits(
        max_event_bytes=ingest.max_event_bytes,
        max_unanswered=ingest.max_unanswered,
        max_connections=ingest.max_connections,
    )
    events = EventsServer(intake, limits, lambda name, keys: _log.info(name, **keys))
    intake.on_pressure(lambda pressed: events.pause() if pressed else events.resume())
    return events
