"""An endpoint's statistics and the daemon's status, by the API."""

import asyncio

import msgspec
import pytest
import structlog
from tests.api.parts import Parts

from ringback import __version__
from ringback.core.lifecycle import dead, retry_at, succeeded
from ringback.core.model import AttemptRecord, Verdict
from ringback.core.tally import HOUR_MS, total
from ringback.core.window import Signal
from ringback.service.attempt import Ended
from ringback.service.stats import KEPT_HOURS
from ringback.store.errors import StoreError


def note(parts: Parts, lane: int, outcome: str, elapsed_ms: int, *, hours_ago: int = 0) -> None:
    """An attempt was committed."""
    started = parts.deps.clock.now_ms() - hours_ago * HOUR_MS
    transition = {"delivered": succeeded(), "egress_denied": dead()}.get(outcome, retry_at(started))
    verdict = Verdict.UNCOUNTED if outcome == "interrupted" else Verdict.RETRY
    ended = Ended(transition, AttemptRecord(started, elapsed_ms, outcome), Signal.NEUTRAL, verdict)
    parts.run(soon(parts, lane, ended))


async def soon(parts: Parts, lane: int, ended: Ended) -> None:
    """In the loop, where counting happens."""
    parts.deps.stats.note(lane, ended)


def test_an_endpoint_nobody_called_has_empty_statistics(parts: Parts) -> None:
    """Nothing divides by zero; no percentile is invented."""
    made = parts.endpoint()
    status, told = parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")
    assert status == 200
    assert (told["attempts"], told["success_rate"], told["by_hour"]) == (0, None, [])
    assert told["latency_ms"] == {"p50": None, "p99": None}
    assert told["queue"] == {"owed": 0, "capped": False, "oldest_accepted_at": None}
    assert (told["window"], told["concurrency"], told["in_flight"]) == (4.0, 8, 0)


@pytest.mark.parametrize("folded", [False, True])
def test_attempts_are_counted_whether_folded_or_not(
    parts: Parts, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By outcome and by hour; interrupted ones don't count; other endpoints' are not among them."""
    made, other = parts.endpoint(), parts.endpoint()
    lane = parts.endpoints.get(made["id"]).lane
    now_ms = parts.deps.clock.now_ms()
    monkeypatch.setattr(parts.deps.clock, "now_ms", lambda: now_ms)  # so that no hour begins in the middle
    for ms in (10, 20, 30):
        note(parts, lane, "delivered", ms)
    note(parts, lane, "timeout", 30_000, hours_ago=1)
    note(parts, lane, "egress_denied", 0)
    note(parts, lane, "interrupted", 5)
    note(parts, parts.endpoints.get(other["id"]).lane, "reset", 1)
    if folded:
        parts.run(parts.deps.stats.turn(parts.deps.clock.now_ms()))
        assert parts.deps.stats._open == {}
    told = parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")[1]
    assert told["outcomes"] == {"delivered": 3, "timeout": 1, "egress_denied": 1}
    assert (told["attempts"], told["delivered"], told["failed"], told["dead"]) == (5, 3, 2, 1)
    assert told["success_rate"] == 0.6
    assert [hour["attempts"] for hour in told["by_hour"]] == [1, 4]
    assert 20 <= told["latency_ms"]["p50"] <= 22
    assert 30_000 <= told["latency_ms"]["p99"] <= 33_750
    last = parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats?hours=1")[1]
    assert last["attempts"] == 4


def test_what_can_not_be_folded_is_still_counted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs no numbers; the next turn writes them."""
    made = parts.endpoint()
    note(parts, parts.endpoints.get(made["id"]).lane, "delivered", 10)

    async def fail(*_: object) -> None:
        raise StoreError("storage_full", "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(parts.writer, "run", fail)
        parts.run(parts.deps.stats.turn(parts.deps.clock.now_ms()))
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")[1]["attempts"] == 1
    parts.run(parts.deps.stats.turn(parts.deps.clock.now_ms()))
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")[1]["attempts"] == 1
    assert parts.deps.stats._open == {}


def test_a_fold_loses_and_doubles_nothing_for_who_asks_meanwhile(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is folded between the look at the table and the look into memory is counted once."""
    made = parts.endpoint()
    note(parts, parts.endpoints.get(made["id"]).lane, "delivered", 10)
    read = parts.deps.stats_reads.hours

    async def read_slowly(lane: int, hours: range) -> dict:
        found = await read(lane, hours)
        await parts.deps.stats.fold()
        return found

    monkeypatch.setattr(parts.deps.stats_reads, "hours", read_slowly)
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")[1]["attempts"] == 1


def test_a_fold_that_is_on_disk_and_not_answered_is_waited_for(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it would be counted in the table and in memory."""
    monkeypatch.setattr("ringback.service.stats.FOLD_WAIT_S", 60.0)  # a machine may stall for longer than one waits
    made = parts.endpoint()
    lane = parts.endpoints.get(made["id"]).lane
    note(parts, lane, "delivered", 10)
    hours = range(parts.deps.clock.now_ms() // HOUR_MS - 1, parts.deps.clock.now_ms() // HOUR_MS + 2)

    async def ask_during_a_fold() -> tuple[list[bool], dict]:
        committed, answered, write, looks = asyncio.Event(), asyncio.Event(), parts.writer.run, []

        async def write_slowly(op: object) -> object:
            result = await write(op)
            committed.set()
            await answered.wait()
            return result

        async def read(number: int, of: range) -> dict:
            looks.append(answered.is_set())
            return await parts.deps.stats_reads.hours(number, of)

        monkeypatch.setattr(parts.writer, "run", write_slowly)
        fold = asyncio.ensure_future(parts.deps.stats.fold())
        await committed.wait()
        asked = asyncio.ensure_future(parts.deps.stats.of_lane(lane, hours, read))
        for _ in range(10):
            await parts.deps.clock.sleep(0)
        answered.set()
        await fold
        return looks, await asked

    looks, found = parts.run(ask_during_a_fold())
    assert looks == [True]
    assert total(found.values()).attempts == 1


def test_the_last_fold_waits_for_no_room_on_a_full_disk(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop ends: what the writer keeps until there is room is not waited for."""
    monkeypatch.setattr("ringback.service.stats.LAST_FOLD_S", 0.01)
    made = parts.endpoint()
    note(parts, parts.endpoints.get(made["id"]).lane, "delivered", 10)

    async def close() -> list[str]:
        async def wait_for_room(*_: object) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
            patched.setattr(parts.writer, "run", wait_for_room)
            await asyncio.wait_for(parts.deps.stats.close(), 60)
        return [line["event"] for line in lines]

    assert parts.run(close()) == ["stats.lost"]


def test_hours_beyond_what_is_kept_go(parts: Parts) -> None:
    """The turn prunes them, and asking for more hours than are kept is refused."""
    made = parts.endpoint()
    lane = parts.endpoints.get(made["id"]).lane
    note(parts, lane, "delivered", 10, hours_ago=KEPT_HOURS + 2)
    parts.run(parts.deps.stats.fold())
    parts.run(parts.deps.stats.turn(parts.deps.clock.now_ms()))
    this_hour = parts.deps.clock.now_ms() // HOUR_MS
    assert parts.run(parts.deps.stats_reads.hours(lane, range(this_hour - 400, this_hour + 1))) == {}
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats?hours={KEPT_HOURS + 1}")[0] == 422


def test_the_queue_is_counted_with_its_oldest(parts: Parts) -> None:
    """What is owed now, and since when."""
    made = parts.endpoint(tenant="acme")
    accepted = [parts.event(tenant="acme")["id"] for _ in range(3)]
    told = parts.call("GET", f"/api/v1/endpoints/{made['id']}/stats")[1]["queue"]
    first = parts.call("GET", f"/api/v1/events/{accepted[0]}?tenant=acme")[1]["accepted_at"]
    assert told == {"owed": 3, "capped": False, "oldest_accepted_at": first}
    assert parts.call("GET", "/api/v1/status")[1]["queue"]["owed"] == 3


def test_the_status_tells_of_memory_as_of_one_moment(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the table was looked at the disk became full: not taking events and why are told together, or neither."""
    count = parts.deps.stats_reads.owing_in_all

    async def count_slowly(cap: int) -> object:
        parts.state = "unwritable"
        parts.writer.shut("the database is as large as it may be")
        return await count(cap)

    monkeypatch.setattr(parts.deps.stats_reads, "owing_in_all", count_slowly)
    told = parts.call("GET", "/api/v1/status")[1]
    assert (told["state"], told["disk"]["full"]) == ("unwritable", True)


def test_the_status_is_the_daemon_at_a_glance(parts: Parts) -> None:
    """State, version, endpoints by status, what is owed and in flight, room on disk."""
    parts.endpoint()
    paused = parts.endpoint()
    parts.call("POST", f"/api/v1/endpoints/{paused['id']}/pause")
    parts.state = "unwritable"
    parts.flights.flying = {(1, 1)}
    status, told = parts.call("GET", "/api/v1/status")
    assert status == 200
    assert (told["state"], told["version"], told["in_flight"]) == ("unwritable", __version__, 1)
    assert told["endpoints"] == {"pending": 0, "active": 1, "paused": 1, "failed": 0, "disabled": 0}
    assert told["queue"] == {"owed": 0, "capped": False, "oldest_accepted_at": None}
    assert told["disk"]["database_bytes"] > 0
    assert told["disk"]["free_bytes"] > 0
    assert not told["disk"]["full"]
    assert msgspec.json.encode(told)
