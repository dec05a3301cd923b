"""Callbacks in the table: lanes made with the first event that needs them, what is asked kept with the event."""

import pytest
from tests.store.kit import NOW_MS, Store, attempt, check_invariants, event, rows

from ringback.core.lifecycle import succeeded
from ringback.core.model import Callback, Endpoint
from ringback.store import endpoints as table
from ringback.store.callbacks import CallbackLane, CallbackReads
from ringback.store.ops import Accepted, AcceptEvent, Conflict, Finish
from ringback.store.retention import prune_events
from ringback.store.views import DeliveryFilter

ASKED = Callback("https://h.example/cb", "pulse", "GET", "s3cret", b'{"k": 1.50}')
ORIGIN = "https://h.example:443"


def called(name: str, *lanes: int, origin: str = ORIGIN, tenant: str = "acme", **members: object) -> AcceptEvent:
    """An event with a callback."""
    made = event(name, tenant=tenant, callback=ASKED, **members)
    return AcceptEvent(made, lanes, NOW_MS, callback_origin=origin)


async def test_one_batch_makes_each_lane_once(store: Store) -> None:
    """Events of one origin in one batch, and later, share a lane; another origin or tenant has its own."""
    answers = await store.all(
        called("e1", 7), called("e2"), called("e3", origin="https://x:1"), called("e4", tenant="other")
    )
    again = await store.run(called("e5"))
    lanes = [answer.callback_lane for answer in (*answers, again)]
    assert lanes[0] == lanes[1] == lanes[4]
    assert len(set(lanes)) == 3
    assert [answer.deliveries for answer in answers] == [2, 1, 1, 1]
    path = store.database.path
    assert rows(path, "SELECT count(*) FROM delivery WHERE lane = ?", lanes[0]) == [(3,)]
    check_invariants(path)


async def test_its_lanes_and_endpoints_share_one_sequence(store: Store) -> None:
    """No number is ever used for both."""
    numbers = []
    for n in range(3):
        numbers.append((await store.run(called(f"e{n}", origin=f"https://h{n}:1"))).callback_lane)
        made = await store.run(table.insert(Endpoint(0, f"id{n}", "acme", "https://a/", "standard", 0, 0)))
        numbers.append(made.lane)
    assert len(set(numbers)) == 6


async def test_what_is_asked_comes_back_with_the_event(store: Store) -> None:
    """Loaded with its data; an event without a callback has none."""
    first = await store.run(called("e1"))
    second = await store.run(AcceptEvent(event("e2"), (7,), NOW_MS))
    loaded = {one.seq: one.event.callback for one in await store.queue.load([first.seq, second.seq])}
    assert loaded == {first.seq: ASKED, second.seq: None}


async def test_duplicates_count_it_and_write_nothing(store: Store) -> None:
    """In the batch and after it; a conflict leaves no lane behind either."""
    answers = await store.all(called("e1", 7), called("e1", 7), called("e1", data=b"{}", origin="https://new:1"))
    later = await store.run(called("e1", 8, 9))
    assert answers[0].callback_lane is not None
    assert answers[1] == later == Accepted(answers[0].seq, 2, duplicate=True)
    assert answers[2] == Conflict()
    path = store.database.path
    assert rows(path, "SELECT origin FROM callback_lane") == [(ORIGIN,)]
    assert rows(path, "SELECT count(*) FROM callback") == [(1,)]


async def test_owing_lanes_are_found(store: Store) -> None:
    """Those with something owed, and no others."""
    first = await store.run(called("e1"))
    second = await store.run(called("e2", origin="https://done:1"))
    assert await store.run(Finish(second.callback_lane, second.seq, succeeded(), attempt("delivered", 200)))
    assert await CallbackReads(store.reader).owing() == [CallbackLane(first.callback_lane, "acme", ORIGIN)]


async def test_a_delivery_tells_its_origin(store: Store) -> None:
    """Lists and single looks tell a callback's delivery from an endpoint's."""
    done = await store.run(called("e1", 7))
    page = await store.history.list_deliveries(DeliveryFilter(), limit=10)
    origins = {row.lane: row.callback_origin for row in page.items}
    assert origins == {7: None, done.callback_lane: ORIGIN}
    found = await store.history.get_delivery(done.seq, done.callback_lane)
    assert found is not None
    assert found.row.callback_origin == ORIGIN


@pytest.mark.parametrize("kept", [True, False])
async def test_it_goes_with_its_event_and_the_lane_with_the_last(store: Store, kept: bool) -> None:
    """Pruning takes what was asked; the lane's row stays while another event names it, its number is never reused."""
    old = await store.run(called("e1"))
    if kept:
        await store.run(AcceptEvent(event("e2", callback=ASKED), (), NOW_MS + 10, callback_origin=ORIGIN))
    assert await store.run(Finish(old.callback_lane, old.seq, succeeded(), attempt("delivered", 200)))
    assert (await store.run(prune_events(NOW_MS + 5, 100))).pruned == 1
    path = store.database.path
    assert rows(path, "SELECT count(*) FROM callback") == [(int(kept),)]
    assert rows(path, "SELECT count(*) FROM callback_lane") == [(int(kept),)]
    again = await store.run(called("e3"))
    assert (again.callback_lane == old.callback_lane) is kept
    check_invariants(path)


async def test_hundreds_of_new_lanes_in_one_batch(store: Store) -> None:
    """More than fit one statement."""
    answers = await store.all(*[called(f"e{n}", origin=f"https://h{n}:1") for n in range(600)])
    assert len({answer.callback_lane for answer in answers}) == 600
    assert rows(store.database.path, "SELECT count(*), max(lane) FROM callback_lane") == [(600, 600)]
