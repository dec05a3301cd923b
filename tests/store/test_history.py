"""Looking back: pages, filters, cursors, and the history index built behind."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.kit import NOW_MS, Store, accept, attempt, rows

from ringback.core.lifecycle import cancelled, dead, retry_at, succeeded
from ringback.core.model import DeliveryState
from ringback.store import history
from ringback.store.database import open_state
from ringback.store.engine import Engine
from ringback.store.erase import erase_event
from ringback.store.history import HistoryReads
from ringback.store.lane_history import Indexed, index_history
from ringback.store.ops import Finish
from ringback.store.reader import Parameters
from ringback.store.retention import prune_events
from ringback.store.views import DeliveryFilter


class _Meanwhile:
    """A reader between whose statements something is committed."""

    def __init__(self, store: Store, happens: Iterable[Any]) -> None:
        self.keys = store.reader.keys
        self._store = store
        self._happens = iter(happens)

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """The answer, then what happens next."""
        found = await self._store.reader.fetch(sql, parameters)
        if (op := next(self._happens, None)) is not None:
            await self._store.run(op)
        return found


async def _all(store: Store, wanted: DeliveryFilter, limit: int = 7):
    """Every page, one after the other."""
    found, before, pages = [], None, 0
    while True:
        page = await store.history.list_deliveries(wanted, limit=limit, before=before)
        assert len(page.items) <= limit
        found += page.items
        pages += 1
        assert pages < 500, "the cursor must come to an end"
        if page.next is None:
            return found
        assert before is None or page.next < before, "the cursor must move"
        before = page.next


async def _populate(store: Store, events: int = 60) -> dict[tuple[int, int], tuple]:
    """Events over lanes 1–4 in two tenants, ended in every way; what each delivery should show."""
    chance = random.Random(7)
    model = {}
    for number in range(events):
        lanes = tuple(sorted(chance.sample([1, 2, 3, 4], chance.randint(0, 4))))
        tenant, kind = chance.choice(["acme", "other"]), chance.choice(["a.b", "c.d"])
        answer = await store.run(accept(f"e{number}", *lanes, tenant=tenant, type=kind, created_at_ms=1000 + number))
        for lane in lanes:
            end = chance.choice([succeeded(), dead(), cancelled(), None])
            if end is not None:
                await store.run(Finish(lane, answer.seq, end, attempt()))
            state = end.to if end is not None else DeliveryState.PENDING
            model[answer.seq, lane] = (tenant, kind, 1000 + number, state)
    return model


FILTERS = [
    DeliveryFilter(),
    DeliveryFilter(tenant="acme"),
    DeliveryFilter(tenant="nobody"),
    DeliveryFilter(lane=2),
    DeliveryFilter(lane=99),
    DeliveryFilter(event_seq=5),
    DeliveryFilter(states=(DeliveryState.DEAD,)),
    DeliveryFilter(lane=3, states=(DeliveryState.DEAD,)),
    DeliveryFilter(states=(DeliveryState.PENDING, DeliveryState.CANCELLED), tenant="other"),
    DeliveryFilter(lanes_in=(1, 4)),
    DeliveryFilter(lanes_not_in=(1, 4), type="a.b"),
    DeliveryFilter(lanes_in=()),
    DeliveryFilter(since_ms=1010, until_ms=1030),
    DeliveryFilter(lane=1, type="c.d", since_ms=1005),
]


def _expected(model, wanted: DeliveryFilter):
    def passes(key, value) -> bool:
        (event, lane), (tenant, kind, created, state) = key, value
        return all(
            (
                wanted.tenant in (None, tenant),
                wanted.lane in (None, lane),
                wanted.event_seq in (None, event),
                wanted.states is None or state in wanted.states,
                wanted.lanes_in is None or lane in wanted.lanes_in,
                wanted.lanes_not_in is None or lane not in wanted.lanes_not_in,
                wanted.type in (None, kind),
                wanted.since_ms is None or created >= wanted.since_ms,
                wanted.until_ms is None or created < wanted.until_ms,
            )
        )

    return sorted((key for key, value in model.items() if passes(key, value)), reverse=True)


@pytest.mark.parametrize("indexed", ["not", "half", "all"])
async def test_each_filter_lists_exactly_what_it_says(store: Store, monkeypatch, indexed):
    """Newest first, each delivery once, over all pages, wherever the history index happens to stand."""
    monkeypatch.setattr("ringback.store.worker.IDLE_S", 60)
    model = await _populate(store)
    while indexed != "not" and (await store.run(index_history(40))).more and indexed == "all":
        pass
    for wanted in FILTERS:
        found = [(row.event, row.lane) for row in await _all(store, wanted)]
        assert found == _expected(model, wanted), wanted


async def test_a_filter_that_few_pass_gives_short_pages(store: Store, monkeypatch):
    """A page looks at a bounded number of rows; what it didn't reach, the next page does."""
    model = await _populate(store)
    monkeypatch.setattr(history, "SCAN_ROWS", 10)
    for wanted in FILTERS:
        found = [(row.event, row.lane) for row in await _all(store, wanted, limit=2)]
        assert found == _expected(model, wanted), wanted


async def test_events_are_listed_newest_first(store: Store, monkeypatch):
    """By tenant, type and time; since inclusive, until exclusive; page by page."""
    monkeypatch.setattr(history, "SCAN_ROWS", 5)
    await _populate(store, 30)

    async def names(**filters):
        found, before = [], None
        while True:
            page = await store.history.list_events(limit=2, before_seq=before, **filters)
            found += [row.id for row in page.items]
            if page.next is None:
                return found
            before = page.next[0]

    assert await names() == [f"e{i}" for i in reversed(range(30))]
    assert await names(since_ms=1010, until_ms=1013) == ["e12", "e11", "e10"]
    acme, other = await names(tenant="acme"), await names(tenant="other")
    assert sorted(acme + other) == sorted(await names())
    typed = await names(tenant="acme", type="a.b")
    assert set(typed) < set(acme)
    page = await store.history.list_events(limit=1)
    assert (page.items[0].size, page.items[0].created_at_ms) == (7, 1029)


async def test_one_event_tells_what_became_of_it(store: Store):
    """The event in full, and its deliveries counted by state."""
    await store.run(accept("a", 1, 2, 3))
    await store.run(Finish(1, 1, succeeded()))
    view = await store.history.get_event("acme", "a")
    assert view is not None
    assert view.deliveries == {DeliveryState.PENDING: 2, DeliveryState.SUCCEEDED: 1}
    assert await store.history.get_event("other", "a") is None
    assert await store.history.get_event("acme", "b") is None


async def test_one_delivery_shows_all_attempts_and_the_full_body(store: Store):
    """The folded attempt and the earlier ones are one list; a kept body is merged in."""
    await store.run(accept("a", 1))
    await store.run(Finish(1, 1, retry_at(5), attempt(full_body=b"whole", error="500")))
    await store.run(Finish(1, 1, dead(), attempt("timeout", None)))
    view = await store.history.get_delivery(1, 1)
    assert view is not None
    assert [(a.n, a.outcome, a.status, a.full_body) for a in view.attempts] == [
        (1, "bad_status", 500, b"whole"),
        (2, "timeout", None, None),
    ]
    assert (view.row.event_id, view.row.tenant, view.row.state) == ("a", "acme", DeliveryState.DEAD)
    assert await store.history.get_delivery(1, 2) is None


async def test_a_backlog_hides_no_attempt(store: Store):
    """What a lane tried last is found in front of thousands that wait: retries, and what ended before them."""
    for number in range(1, 41):
        await store.run(accept(f"e{number}", 1, 2))
    for seq in range(1, 21):
        step = succeeded() if seq % 2 else retry_at(NOW_MS + seq * 1000)
        await store.run(Finish(1, seq, step, attempt(started_at_ms=NOW_MS + seq)))
    latest = await store.history.latest_tried(1, 5)
    assert [row.event for row in latest] == [20, 19, 18, 17, 16]
    await store.run(Finish(1, 40, succeeded(), attempt(started_at_ms=NOW_MS + 99)))
    assert [row.event for row in await store.history.latest_tried(1, 3)] == [40, 20, 19]
    assert await store.history.latest_tried(2, 5) == []


async def test_the_index_is_built_when_nothing_else_is_to_do(store: Store):
    """At rest every delivery is in the history index, without anybody asking."""
    await store.all(*[accept(f"e{i}", 1, 2) for i in range(50)])
    for _ in range(1000):
        if rows(store.database.path, "SELECT count(*) FROM lane_history") == [(100,)]:
            break
        await asyncio.sleep(0.01)
    assert rows(store.database.path, "SELECT count(*) FROM lane_history") == [(100,)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 9))
def test_chunks_index_everything_once(tmp_path_factory, fans, chunk):
    """However the chunks fall, each delivery is indexed once, an event's never torn apart."""
    directory = tmp_path_factory.mktemp("s")
    database = open_state(directory, NOW_MS)
    engine = Engine(database.writer, 0)
    total = 0
    for number, fan in enumerate(fans):
        engine.commit([accept(f"e{number}", *range(1, fan + 1))])
        if number % 3 == 2:
            total += engine.commit([index_history(chunk)])[0].rows
    while True:
        (step,) = engine.commit([index_history(chunk)])
        assert isinstance(step, Indexed)
        total += step.rows
        if not step.more:
            break
    assert total == sum(fans)
    left = database.writer.execute(
        "SELECT count(*) FROM delivery d WHERE NOT EXISTS"
        " (SELECT 1 FROM lane_history h WHERE h.lane = d.lane AND h.event = d.event)"
    ).fetchone()
    database.close()
    assert left == (0,)


async def test_a_delivery_is_told_as_it_was_at_one_moment(store: Store):
    """An attempt that ends while its delivery is looked at is in the state and in the attempts, or in neither."""
    await store.run(accept("a", 1))
    during = HistoryReads(_Meanwhile(store, [Finish(1, 1, succeeded(), attempt("success", 200))]))
    view = await during.get_delivery(1, 1)
    assert view is not None
    assert (view.row.state, view.row.attempts, view.attempts) == (DeliveryState.PENDING, 0, [])
    view = await during.get_delivery(1, 1)
    assert view is not None
    assert (view.row.state, len(view.attempts)) == (DeliveryState.SUCCEEDED, 1)


async def test_no_page_shows_again_what_one_before_it_showed(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Though events arrive while the pages are read: of two looks at a window the second would end elsewhere."""
    monkeypatch.setattr(history, "SCAN_ROWS", 12)
    for number in range(40):
        await store.run(accept(f"e{number}", 1, type="rare" if number % 5 == 0 else "common"))
    during = HistoryReads(_Meanwhile(store, (accept(f"new{number}", 1) for number in range(100))))
    wanted, found, before = DeliveryFilter(type="rare"), [], None
    while True:
        page = await during.list_deliveries(wanted, limit=4, before=before)
        found += [row.event_id for row in page.items]
        if (before := page.next) is None:
            break
    assert found == [f"e{number}" for number in range(35, -1, -5)]


async def test_a_delivery_s_event_is_told_as_it_was_at_that_moment(store: Store):
    """An event that is erased while its delivery is looked at is not told as erased beside one that is still owed."""
    await store.run(accept("a", 1))
    during = HistoryReads(_Meanwhile(store, [erase_event("acme", "a", NOW_MS)]))
    before, after = await during.get_delivery(1, 1), await during.get_delivery(1, 1)
    assert before is not None
    assert after is not None
    assert (before.row.state, before.opts.erased_at_ms) == (DeliveryState.PENDING, None)
    assert (after.row.state, after.opts.erased_at_ms) == (DeliveryState.CANCELLED, NOW_MS)


async def test_an_event_that_goes_while_it_is_looked_at_is_gone(store: Store):
    """It is not told as one that nobody wanted."""
    await store.run(accept("a", 1))
    await store.run(Finish(1, 1, succeeded(), attempt("success", 200)))
    during = HistoryReads(_Meanwhile(store, [None, prune_events(NOW_MS + 1, 10)]))
    assert await during.get_event("acme", "a") is None
