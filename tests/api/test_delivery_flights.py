"""Attempts that end, or begin, while their delivery is asked for: no answer contradicts itself or the one before."""

import pytest
from tests.api.parts import Parts
from tests.api.test_deliveries import LATER_MS, PATH, ids, only

from ringback.core.lifecycle import dead, retry_at
from ringback.store.ops import Finish


def test_what_is_told_as_ended_can_be_sent_again_at_once(parts: Parts) -> None:
    """Also while the dispatcher hasn't heard yet that the end of the attempt is on disk."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.flights.flying = {(seq, lane)}
    parts.flights.ended((seq, lane), dead())
    assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == "in_flight"
    assert ids(parts, "status=in_flight") == [one]
    assert parts.call("POST", f"{PATH}/{one}/retry")[0] == 409
    parts.attempt(seq, lane, dead())
    assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == "dead"
    assert parts.call("POST", f"{PATH}/{one}/retry") == (202, {"id": one, "status": "pending"})


def test_what_waits_for_its_next_try_is_in_flight_no_longer(parts: Parts) -> None:
    """A row that shows what an attempt came to is not told as in flight by it, in whatever list."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.flights.flying = {(seq, lane)}
    parts.flights.ended((seq, lane), retry_at(LATER_MS))
    parts.attempt(seq, lane, retry_at(LATER_MS), outcome="bad_status", status=503)
    shown = parts.call("GET", f"{PATH}/{one}")[1]
    assert (shown["status"], len(shown["attempts"])) == ("pending", 1)
    assert (ids(parts, "status=in_flight"), ids(parts, "status=pending")) == ([], [one])
    assert parts.call("POST", f"{PATH}/{one}/cancel")[0] == 202


@pytest.mark.parametrize("path", [PATH, "/api/v1/why"])
def test_an_attempt_that_ends_while_its_delivery_is_read_is_seen(parts: Parts, path: str, monkeypatch) -> None:
    """What was in flight when it was asked for is never told as if nobody had tried it yet."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.flights.flying = {(seq, lane)}
    read = parts.deps.reads.get_delivery

    async def read_slowly(event: int, number: int):
        found = await read(event, number)
        if parts.flights.flying:
            await parts.writer.run(Finish(lane, seq, dead()))
            parts.flights.flying = set()
        return found

    monkeypatch.setattr(parts.deps.reads, "get_delivery", read_slowly)
    assert parts.call("GET", f"{path}/{one}")[1]["status"] == "dead"


def test_a_row_is_told_in_the_status_it_was_listed_for(parts: Parts, monkeypatch) -> None:
    """An attempt that begins while a page is made puts no delivery in flight into a list of pending ones."""
    endpoint = parts.endpoint()
    parts.event()
    _, seq, lane = only(parts)
    find = parts.deps.revisions.by_lane

    async def find_slowly(number: int):
        parts.flights.flying = {(seq, lane)}
        return await find(number)

    monkeypatch.setattr(parts.deps.revisions, "by_lane", find_slowly)
    monkeypatch.setattr(parts.endpoints, "by_lane", lambda number: found if not parts.flights.flying else None)
    found = parts.endpoints.get(endpoint["id"])
    rows = parts.call("GET", f"{PATH}?status=pending")[1]["data"]
    assert [row["status"] for row in rows] == ["pending"]


def test_what_is_sent_again_while_its_endpoint_is_deleted_is_refused(parts: Parts, monkeypatch) -> None:
    """Nothing will be sent, so nobody is told that it will; and nobody reads that his retry is a cancellation."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, dead())
    write = parts.writer.run

    async def write_slowly(op: object, *heard: object) -> object:
        result = await write(op, *heard)
        if isinstance(op, Finish):
            await parts.endpoints.delete(endpoint["id"])
        return result

    monkeypatch.setattr(parts.writer, "run", write_slowly)
    status, told = parts.call("POST", f"{PATH}/{one}/retry")
    assert (status, told["code"]) == (409, "conflict")
    assert "deleted meanwhile" in told["detail"]
