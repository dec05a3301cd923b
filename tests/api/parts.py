"""Everything behind the API but the network: real store, real intake, real sockets, in a thread with a loop of its own.

Deliveries are "made" by writing results through the writer, and what is in flight is what the test says.
"""

import asyncio
import http.client
import json
import threading
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
from tests.harness.unix_http import UnixConnection, request_json

from ringback.api.access import Door
from ringback.api.app import serve
from ringback.api.deps import Deps
from ringback.api.guard import Guard
from ringback.assembly.erasing import erasing
from ringback.core.egress import judge_address, parse_policy
from ringback.core.events import EventLimits
from ringback.core.lifecycle import succeeded
from ringback.core.model import AttemptInfo, AttemptRecord, Outcome, OutcomeKind, Request, Transition
from ringback.kit.clock import SystemChance, SystemClock
from ringback.kit.wake import run_turns
from ringback.service.backlog import BacklogLook
from ringback.service.bodies import Bodies
from ringback.service.callbacks import Callbacks
from ringback.service.doctor import Doctor, Ways
from ringback.service.effective import EndpointDefaults
from ringback.service.endpoints import Endpoints
from ringback.service.flights import Flights as DispatchersFlights
from ringback.service.intake import Intake
from ringback.service.janitor import DAY_MS, Keep
from ringback.service.maintenance import Maintenance
from ringback.service.metrics import Metrics
from ringback.service.rendering import digest_of
from ringback.service.restored import Restored
from ringback.service.rotation import Rotation
from ringback.service.sealing import Sealing, make_good
from ringback.service.stats import Stats
from ringback.service.tokens import Tokens
from ringback.service.verify import Us, Verify
from ringback.store.database import Database, open_state
from ringback.store.disk import usage
from ringback.store.endpoints import EndpointReads
from ringback.store.erase import wipe_log
from ringback.store.history import HistoryReads
from ringback.store.keyring import Masters
from ringback.store.lane_history import index_history
from ringback.store.ops import Finish
from ringback.store.queue import QueueReads
from ringback.store.reader import Reader
from ringback.store.stats import StatsReads
from ringback.store.views import DeliveryRow
from ringback.store.writer import Writer
from ringback.transports.bind import bind_tcp, bind_unix
from ringback.transports.http import HttpSender
from ringback.transports.line_connection import SocketLimits
from ringback.transports.unix_socket import EventsServer

TIMEOUT_S = 60
MAX_EVENT_BYTES = 65_536
_encode_info = msgspec.msgpack.Encoder().encode


UNSEALED = Masters()


class Flights:
    """What the API knows of the dispatcher."""

    def __init__(self) -> None:
        self._flights = DispatchersFlights()
        self.kicked: list[int] = []
        self.withheld: set[tuple[int, int]] = set()
        self.owed: list[tuple[int, int]] = []
        self.bodies = Bodies(None)  # type: ignore[arg-type] - nothing is read

    @property
    def flying(self) -> frozenset[tuple[int, int]]:
        return self._flights.keys()

    @flying.setter
    def flying(self, keys: Iterable[tuple[int, int]]) -> None:
        self._flights = DispatchersFlights()
        for key in keys:
            self._flights.begin(key)

    def ended(self, key: tuple[int, int], transition: Transition) -> None:
        """The attempt is over, and the answer to its commit not heard yet."""
        self._flights.ended(key, transition)

    def in_flight(self) -> frozenset[tuple[int, int]]:
        return self.flying

    def is_in_flight(self, row: DeliveryRow) -> bool:
        return self._flights.cover(row)

    def lane_now(self, lane: int) -> tuple[float, int]:
        return 4.0, sum(number == lane for _, number in self.flying)

    def withhold(self, event: int, lane: int) -> None:
        self.withheld.add((event, lane))

    def give_back(self, event: int, lane: int) -> None:
        self.withheld.remove((event, lane))
        self.kicked.append(lane)

    def kick(self, lane: int) -> None:
        self.kicked.append(lane)

    def changed(self, lane: int) -> None:
        self.kicked.append(lane)

    def accepted(self, seq: int, event: Any, lanes: tuple[int, ...], accepted_at_ms: int) -> None:
        self.owed += [(seq, lane) for lane in lanes]


#: Who the handshakes say we are.
US = Us("us.example.com", "https://us.example.com")


class Parts:
    """A context manager; every method may be called from the test's own thread."""

    def __init__(self, folder: Path, *, divert_to: str = "", masters: Masters = UNSEALED) -> None:
        self.folder = folder
        self.masters = masters
        self.control = str(folder / "control.sock")
        self.events_path = str(folder / "events.sock")
        self.flights = Flights()
        self.state = "ready"
        self.metrics = Metrics()
        self.divert_to = divert_to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await something in the parts' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    async def _start(self) -> None:
        clock, chance = SystemClock(), SystemChance()
        database = open_state(self.folder / "state", clock.now_ms())
        self._stack.callback(database.close)
        ring = database.unlock(self.masters, clock.now_ms)
        self.writer = Writer(database, clock, on_fatal=lambda reason: None)
        await self.writer.start()
        self._stack.push_async_callback(self.writer.stop)
        await make_good(database, ring, self.writer, clock.now_ms())
        reader = await Reader(database).open()
        self._stack.push_async_callback(reader.close)
        self.endpoints = self._endpoints(clock, chance)
        self.endpoints.fill(await EndpointReads(reader).load_all())
        limits = EventLimits(max_event_bytes=MAX_EVENT_BYTES)
        self.callbacks = Callbacks(parse_policy(False, ["127.0.0.0/8"], []))
        self.intake = Intake(
            matches=self.endpoints,
            writer=self.writer,
            dispatch=self.flights,
            callbacks=self.callbacks,
            clock=clock,
            chance=chance,
            limits=limits,
            metrics=self.metrics,
        )
        verify = self._verify(clock, chance)
        maintenance, restored = await self._upkeep(database, reader)
        self.deps = Deps(
            endpoints=self.endpoints,
            reads=HistoryReads(reader),
            sealing=Sealing(self.writer, reader, lambda: wipe_log(database)),
            revisions=EndpointReads(reader),
            writer=self.writer,
            intake=self.intake,
            dispatch=self.flights,
            callbacks=self.callbacks,
            tokens=Tokens(self.writer, clock, chance),
            verify=verify,
            doctor=await self._doctor(clock),
            maintenance=maintenance,
            restored=restored,
            stats=Stats(self.writer),
            stats_reads=StatsReads(reader),
            disk=lambda: usage(self.folder / "state"),
            started_at_ms=clock.now_ms(),
            rotation=Rotation(self.endpoints, clock, chance),
            clock=clock,
            chance=chance,
            ready=lambda: self.state,
            metrics=self.metrics,
            backlog=BacklogLook(QueueReads(reader), clock),
            max_event_bytes=MAX_EVENT_BYTES,
            divert_to=self.divert_to,
        )
        self.deps.erasure = await erasing(self.deps, self.flights, reader, database)
        turns = asyncio.create_task(run_turns(self.deps.erasure.turn, clock, self.deps.erasure.wake))
        self._stack.callback(turns.cancel)
        await self._listen()

    def _endpoints(self, clock: SystemClock, chance: SystemChance) -> Endpoints:
        return Endpoints(
            writer=self.writer,
            policy=parse_policy(False, ["127.0.0.0/8"], []),
            defaults=EndpointDefaults(),
            resolve=self._resolve,
            clock=clock,
            chance=chance,
        )

    async def _doctor(self, clock: SystemClock) -> Doctor:
        """On the real network, as far as loopback."""
        policy = parse_policy(False, ["127.0.0.0/8"], [])
        sender = HttpSender(clock=clock, judge_address=partial(judge_address, policy))
        await sender.start()
        self._stack.push_async_callback(sender.stop)
        return Doctor(sender, clock, Ways(policy, divert_to=self.divert_to))

    async def _upkeep(self, database: Database, reader: Reader) -> tuple[Maintenance, Restored]:
        self.held_callbacks: list[bool] = []
        restored = await Restored(self.endpoints, self.writer, reader, self.held_callbacks.append).load()
        self.endpoints.on_change(restored.changed)
        maintenance = Maintenance(database, self.writer, SystemClock(), lambda: Keep(30 * DAY_MS, 14 * DAY_MS))
        self._stack.push_async_callback(maintenance.stop)
        return maintenance, restored

    async def _listen(self) -> None:
        await self._stack.enter_async_context(serve(self.deps, bind_unix(self.control, 0o600)))
        tcp = bind_tcp("127.0.0.1", 0)
        self.port = tcp.getsockname()[1]
        self.guard = Guard()
        await self._stack.enter_async_context(serve(self.deps, tcp, door=Door.TCP, guard=self.guard))
        self.events = EventsServer(self.intake, SocketLimits())
        await self.events.start(self.events_path, 0o600, None)
        self._stack.push_async_callback(self.events.stop, 1.0)

    def _verify(self, clock: SystemClock, chance: SystemChance) -> Verify:
        self.challenges: list[Request] = []
        verify = Verify(endpoints=self.endpoints, sender=self, clock=clock, chance=chance, us=US)
        self.endpoints.on_change(verify.changed)
        turns = asyncio.create_task(run_turns(verify.turn, clock, verify.wake))
        self._stack.push_async_callback(verify.stop)
        self._stack.callback(turns.cancel)
        return verify

    async def send(self, request: Request, _timeout_s: float) -> Outcome:
        """The network of handshakes: every receiver answers 200 and nothing else."""
        self.challenges.append(request)
        return Outcome(OutcomeKind.RESPONSE, status=200)

    async def _resolve(self, host: str) -> list[str]:
        return ["8.8.8.8"] if host.endswith("example.com") else []

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on the control socket: status and JSON."""
        return request_json(UnixConnection(self.control, TIMEOUT_S), method, path, body)

    def tcp(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """One request over TCP, with a token if given."""
        return self._with(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S), method, path, body, token
        )

    def call_as(self, token: str | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on the control socket with a token."""
        return self._with(UnixConnection(self.control, TIMEOUT_S), method, path, body, token)

    def _with(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, token: str | None
    ) -> tuple[int, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None
        finally:
            connection.close()

    def token(self, tenant: str | None = None) -> str:
        """A new token."""
        status, made = self.call("POST", "/api/v1/tokens", {"tenant": tenant})
        assert status == 201, made
        return made["token"]

    def endpoint(self, **members: Any) -> dict[str, Any]:
        """A new endpoint."""
        status, made = self.call("POST", "/api/v1/endpoints", {"url": "https://a.example.com/", **members})
        assert status == 201, made
        return made

    def event(self, type_: str = "a.b", **members: Any) -> dict[str, Any]:
        """An accepted event's answer."""
        status, told = self.call("POST", "/api/v1/events", {"type": type_, "data": {"n": 1}, **members})
        assert status == 200, told
        return told

    def attempt(
        self,
        seq: int,
        lane: int,
        transition: Transition | None = None,
        *,
        body: bytes = b"ok",
        full: bytes | None = None,
        sent: bytes | None = None,
        **record: Any,
    ) -> None:
        """Write the result of an attempt, as the dispatcher would."""
        info = AttemptInfo(
            revision=self.endpoints.by_lane(lane).revision,
            encoder=1,
            signed_at_ms=1_800_000_000_000,
            digest=digest_of(sent if sent is not None else b""),
            headers=(("content-type", "text/plain"), ("set-cookie", "session=1")),
            body=body,
            truncated=full is not None,
        )
        told = {"started_at_ms": 1_800_000_000_000, "elapsed_ms": 12, "outcome": "delivered", "status": 200} | record
        attempt = AttemptRecord(**told, info=_encode_info(info), full_body=full)
        assert self.run(self.writer.run(Finish(lane, seq, transition or succeeded(), attempt))) is True

    def index(self) -> None:
        """Build the lanes' history index up to now."""
        self.run(self.writer.run(index_history()))
