"""The process: from the lock to the last commit, everything started and stopped in order.

Role: one run of the daemon. Start: lock, database, the parts (``assembly``), sockets, ready. Stop: intake, dispatch,
attempts, writer, database (SEMANTICS, Process).
Rules: no policy and no work of its own; one TaskGroup owns the loops; the writer runs outside it and is closed after
it, so that the last results are on disk; whatever ends a loop ends the process.
Must not know: formats, SQL, HTTP.
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from ringback import __version__
from ringback.api.app import serve, serve_tcp
from ringback.api.deps import Deps
from ringback.assembly import Parts, assemble
from ringback.assembly.starting import InUse, Unusable, named
from ringback.config import ConfigError, Loaded
from ringback.kit.clock import Chance, Clock
from ringback.kit.limits import allow_open_files, forbid_core_dumps
from ringback.kit.log import configure, get_logger
from ringback.kit.sd_notify import address_of, find_listener, listen_fds, notify
from ringback.kit.signals import StopSignals
from ringback.kit.wake import WakeUp, run_turns
from ringback.service.declared import Declared
from ringback.service.metrics import Metrics
from ringback.service.reload import Live, Reload
from ringback.service.sealing import announce, make_good
from ringback.service.shortage import Doors
from ringback.service.watchdog import StatusLine, Watchdog, watchdog_s
from ringback.store.database import open_state
from ringback.store.errors import KeyProblem, StateError, StateLocked, StoreError
from ringback.store.keyring import Masters
from ringback.store.worker import CommitStats
from ringback.store.writer import Writer
from ringback.transports.bind import bind_unix, identity, unlink_if_ours

#: sysexits(3): another daemon owns it, try later.
EX_TEMPFAIL = 75
#: How long a thread may keep the interpreter lock from another that wants it. The default of 5 ms starves the writer
#: under load: a transaction took 5.5 s, with this 60 ms (ADR 0003).
SWITCH_INTERVAL_S = 0.0001
#: sysexits(3): the configuration, or the master key, doesn't fit what is in the database.
EX_CONFIG = 78
#: Beyond the grace a stop may take this long: answers, the last commits, the database.
STOP_MARGIN_S = 30.0
#: A commit slower than this is worth a line.
SLOW_COMMIT_S = 1.0
#: What ``readyz`` and the service manager hear from the beginning of a stop to its end.
DRAINING = "draining"
#: What the writer says when it takes events again.
RECOVERED = "store.recovered"
#: Connections may take this long of the grace to get the answers to what was read from them.
ANSWER_GRACE_S = 5.0

_log = get_logger()


def main(loaded: Loaded, load: Callable[[], Loaded], clock: Clock, chance: Chance) -> int:
    """Run the daemon until it is told to stop.

    Args:
        loaded: what the files say now.
        load: reads them anew, for a reload; raises ConfigError.
        clock: the machine's.
        chance: the machine's.

    Returns:
        The exit code: 0, 1 (failed), 75 (another one owns it) or 78 (declarations or a master key that
        don't fit what there is).
    """
    settings = loaded.settings
    sink = configure(settings.log.format, settings.log.level, sys.stdout, clock)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()  # what the imports made stays: no full collection, nor the one at the end, walks through it again
    gc.enable()  # the command has left it off for them
    allow_open_files()
    forbid_core_dumps()
    try:
        return uvloop.run(_Daemon(loaded, load, clock, chance).run())
    except ConfigError as wrong:
        for key, message in wrong.problems:
            sys.stderr.write(f"{key}: {message}\n")
        return _last_words(wrong, EX_CONFIG)
    except KeyProblem as problem:
        return _last_words(problem, EX_CONFIG)
    except InUse as problem:
        return _last_words(problem, EX_TEMPFAIL)
    except StateError as problem:
        return _last_words(f"daemon.state_dir: {problem}", EX_TEMPFAIL if isinstance(problem, StateLocked) else 1)
    except (Unusable, StoreError, OSError, ValueError) as problem:
        return _last_words(problem, 1)
    finally:
        sink.stop()


def _last_words(problem: Exception | str, code: int) -> int:
    _log.critical("daemon.failed", error=str(problem), exit_code=code)
    # Whoever started it reads standard error, not the log. In one piece: both may go into the same file.
    sys.stderr.write(f"ringback: {problem}\n")
    return code


class _Daemon:
    """One run of the daemon."""

    def __init__(self, loaded: Loaded, load: Callable[[], Loaded], clock: Clock, chance: Chance) -> None:
        self._loaded = loaded
        self._load = load
        self._settings = loaded.settings
        self._grace_s = loaded.settings.daemon.shutdown_grace_s
        self._clock = clock
        self._chance = chance
        self._metrics = Metrics()
        self._state = "starting"
        self._exit = 0

    async def run(self) -> int:
        """From the first signal that counts to the last."""
        self._signals = StopSignals()
        self._hangup = asyncio.Event()  # one that comes before there is anything to reload is kept
        self._signals.listen(self._hangup.set)
        try:
            return await self._live()
        finally:
            self._signals.ignore()

    async def _live(self) -> int:
        """From the lock to the last commit."""
        settings, clock = self._settings, self._clock
        _log.info("daemon.started", version=__version__, pid=os.getpid(), state_dir=settings.daemon.state_dir)
        database = open_state(Path(settings.daemon.state_dir), clock.now_ms())
        self._ring = database.unlock(Masters(self._loaded.masters.key, self._loaded.masters.old), clock.now_ms)
        announce(self._ring, self._loaded.masters.exposed)
        if database.lost_events:
            _log.error("store.events_lost", at_most=database.lost_events, up_to=database.high_seq)
        self._writer = Writer(
            database,
            clock,
            on_fatal=self._on_fatal,
            on_trouble=_on_trouble,
            on_commit=self._on_commit,
        )
        try:
            await self._writer.start()
            async with contextlib.AsyncExitStack() as stack:
                await make_good(database, self._ring, self._writer, clock.now_ms())
                parts = await assemble(
                    stack, settings, clock, self._chance, database, self._writer, self._ready, self._metrics
                )
                reload = self._reload(parts)
                await reload.start(self._loaded)
                await self._serve(stack, parts, reload)
        finally:
            await self._writer.stop()
            database.close()
        _log.info("daemon.stopped", exit_code=self._exit)
        return self._exit

    def _reload(self, parts: Parts) -> Reload:
        """What SIGHUP asks; the status line beside it."""
        self._status = StatusLine(lambda: self._describe(parts), notify)
        grace = Live(("daemon.shutdown_grace_s",), lambda s: setattr(self, "_grace_s", s.daemon.shutdown_grace_s))
        return Reload(
            load=self._load,
            settings=self._settings,
            live=(*parts.live, grace),
            declared=Declared(parts.endpoints, self._clock),
            asked=self._hangup,
            status=self._status,
            notify=notify,
            clock=self._clock,
        )

    def _describe(self, parts: Parts) -> str:
        if self._state == DRAINING:
            return DRAINING
        if self._writer.full_because is not None:
            return f"events are refused, deliveries go on: {self._writer.full_because}"
        endpoints, in_flight = len(parts.endpoints), parts.dispatch.board.in_flight
        return f"taking events; endpoints: {endpoints}, requests in flight: {in_flight}"

    def _loops(self, parts: Parts, reload: Reload) -> list[Coroutine[Any, Any, None]]:
        """Everything that turns."""
        dispatch, clock = parts.dispatch, self._clock
        loops = [
            run_turns(dispatch.turn, clock, dispatch.wake),
            run_turns(dispatch.refiller.turn, clock, dispatch.refiller.wake),
            run_turns(parts.verify.turn, clock, parts.verify.wake),
            run_turns(parts.deps.stats.turn, clock, WakeUp()),
            run_turns(parts.deps.rotation.turn, clock, parts.deps.rotation.wake),
            run_turns(parts.janitor.turn, clock, parts.janitor.wake),
            run_turns(parts.deps.erasure.turn, clock, parts.deps.erasure.wake),
            run_turns(self._status.turn, clock, WakeUp()),
            run_turns(Doors(clock).turn, clock, WakeUp()),
            run_turns(parts.deps.sealing.turn, clock, WakeUp()),
            reload.run(),
        ]
        if parts.spool is not None:
            loops.append(run_turns(parts.spool.turn, clock, parts.spool.wake))
        allowed_s = watchdog_s(os.environ, os.getpid())
        if allowed_s is not None:
            loops.append(run_turns(Watchdog(allowed_s, self._writer, clock, notify).turn, clock, WakeUp()))
        return loops

    async def _serve(self, stack: contextlib.AsyncExitStack, parts: Parts, reload: Reload) -> None:
        """Listen, say ready, run the loops until a stop is asked for, drain."""
        inherited, api, where = listen_fds(), self._settings.api.socket, self._settings.ingest.socket
        control, events = find_listener(inherited, "control", api), find_listener(inherited, "events", where.path)
        for unused in set(inherited.values()) - {control, events}:
            _log.warning("socket.unused", address=address_of(unused))
        await stack.enter_async_context(self._control(parts.deps, control))
        with named("api.listen", self._settings.api.listen):
            await stack.enter_async_context(serve_tcp(parts.deps, self._settings.api.listen_at))
        stack.push_async_callback(parts.events.stop, 0)
        with named("ingest.socket.path", where.path):
            if events is None:
                _make_folder(where.path)
            await parts.events.start(where.path, where.mode_bits, where.group or None, events)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(loop) for loop in self._loops(parts, reload)]
            self._state = "ready"
            spool = self._settings.ingest.spool.path
            at = [address_of(given) if given else path for given, path in ((events, where.path), (control, api))]
            _log.info("daemon.ready", events=at[0], control=at[1], spool=spool or None)
            notify(f"READY=1\nSTATUS={self._status.line()}")
            await self._signals.stop.wait()
            await self._drain(parts)
            for loop in loops:
                loop.cancel()

    async def _drain(self, parts: Parts) -> None:
        """Answer what was read, let requests in flight end, cut off what takes longer than the grace."""
        self._state = DRAINING
        grace_s = 0.0 if self._exit else self._grace_s
        extend_usec = int((grace_s + STOP_MARGIN_S) * 1_000_000)
        notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={extend_usec}\nSTATUS={DRAINING}")
        _log.info("daemon.stopping", in_flight=parts.dispatch.board.in_flight, grace_s=grace_s)
        drain = asyncio.ensure_future(parts.dispatch.stop(grace_s))
        hurry = asyncio.ensure_future(self._signals.hurry.wait())
        await parts.events.stop(min(grace_s, ANSWER_GRACE_S))
        if parts.spool is not None:
            await parts.spool.stop()
        parts.intake.close()
        await parts.verify.stop()
        await asyncio.wait((hurry, drain), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        cut_off = drain.result() if drain.done() else await parts.dispatch.stop(0)
        await drain
        if cut_off:
            _log.warning("daemon.interrupted", attempts=cut_off)

    @contextlib.asynccontextmanager
    async def _control(self, deps: Deps, listener: socket.socket | None) -> AsyncIterator[None]:
        """The control socket: handed down or bound here, served by the API, unlinked only if it is ours."""
        api, ours = self._settings.api, None
        if listener is None:
            with named("api.socket", api.socket):
                _make_folder(api.socket)
                listener = bind_unix(api.socket, api.mode_bits, api.group or None)
            ours = identity(api.socket)
        try:
            async with serve(deps, listener):
                yield
        finally:
            unlink_if_ours(api.socket, ours)

    def _ready(self) -> str:
        return "unwritable" if self._state == "ready" and (self._writer.full or self._exit) else self._state

    def _on_commit(self, stats: CommitStats) -> None:
        self._metrics.committed(stats.rows, stats.seconds)
        if stats.seconds > SLOW_COMMIT_S:
            _log.warning("store.slow", what="commit", rows=stats.rows, elapsed_ms=round(stats.seconds * 1000))

    def _on_fatal(self, reason: str) -> None:
        """Nobody can say what is on disk: end, let the service manager start anew, read it back."""
        _log.critical("store.unknown_outcome", error=reason)
        self._exit = 1
        self._signals.ask()


def _on_trouble(name: str, message: str) -> None:
    """What the writer has to say; all of it is trouble but the end of it."""
    if name == RECOVERED:
        _log.info(name, message=message)
    else:
        _log.error(name, error=message)


def _make_folder(path: str) -> None:
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
