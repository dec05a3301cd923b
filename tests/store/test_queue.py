"""The queue's reads: what a refill returns and never returns, and that every one goes along an index."""

import asyncio
import re
import sqlite3
import time

import pytest
from tests.store.kit import NOW_MS, Store, accept, attempt

from ringback.core.lifecycle import retry_at, succeeded
from ringback.core.model import Phase
from ringback.store import history, intake, lane_history, queue, results
from ringback.store.errors import QueryTimeout
from ringback.store.ops import Finish
from ringback.store.queue import MAX_ASKS_A_STATEMENT, Ask, Head
from ringback.store.reader import Reader, ReadPool


async def test_phases_are_asked_for_apart(store: Store):
    """Many overdue retries don't hide fresh rows, nor the other way round; each comes in its own order."""
    await store.all(*[accept(f"e{i}", 1) for i in range(20)])
    await store.all(*[Finish(1, i + 1, retry_at(NOW_MS - i), attempt()) for i in range(10)])
    (refill,) = await store.queue.refill([Ask(1, 3, 4)], NOW_MS)
    assert [(o.phase, o.event) for o in refill.items] == [(0, 11), (0, 12), (0, 13), (1, 10), (1, 9), (1, 8), (1, 7)]
    assert (refill.more_fresh, refill.next_timed_ms) == (True, NOW_MS - 5)


async def test_a_refill_never_returns_the_future(store: Store):
    """Rows due later are only announced."""
    await store.all(*[accept(f"e{i}", 1) for i in range(4)])
    for i in range(4):
        await store.run(Finish(1, i + 1, retry_at(NOW_MS + 1000 * i), attempt()))
    for now_ms, due in ((NOW_MS - 1, 0), (NOW_MS, 1), (NOW_MS + 999, 1), (NOW_MS + 2500, 3), (NOW_MS + 9000, 4)):
        (refill,) = await store.queue.refill([Ask(1, 10, 10)], now_ms)
        assert [o.due_at_ms for o in refill.items] == [NOW_MS + 1000 * i for i in range(due)]
        assert refill.next_timed_ms == (NOW_MS + 1000 * due if due < 4 else None)
        assert refill.more_fresh is False


async def test_asking_for_nothing_still_tells_what_there_is(store: Store):
    """With a full window a lane learns that more waits, without getting any."""
    await store.all(accept("a", 1), accept("b", 1))
    await store.run(Finish(1, 1, retry_at(NOW_MS), attempt()))
    (refill,) = await store.queue.refill([Ask(1, 0, 0)], NOW_MS)
    assert (refill.items, refill.more_fresh, refill.next_timed_ms) == ([], True, NOW_MS)


@pytest.mark.parametrize("lanes", [1, 3, MAX_ASKS_A_STATEMENT, MAX_ASKS_A_STATEMENT + 7])
async def test_many_lanes_are_asked_in_one_call(store: Store, lanes):
    """Each ask gets its own answer, in order, however many there are; lanes that owe nothing answer so."""
    await store.run(accept("a", *range(1, lanes + 1, 2), data=b"12345"))
    refills = await store.queue.refill([Ask(lane, 5, 5) for lane in range(1, lanes + 1)], NOW_MS)
    assert [r.lane for r in refills] == list(range(1, lanes + 1))
    assert [[(o.lane, o.size) for o in r.items] for r in refills] == [
        [(lane, 5)] if lane % 2 else [] for lane in range(1, lanes + 1)
    ]


async def test_heads_name_each_lane_once(store: Store):
    """What a start needs to know of each lane that owes something, and of no other."""
    assert await store.queue.heads() == []
    await store.all(*[accept(f"e{i}", 5, 9) for i in range(3)], accept("later", 7, deliver_after_ms=NOW_MS + 8))
    await store.all(*[Finish(9, i + 1, retry_at(NOW_MS + i), attempt()) for i in range(3)])
    await store.run(Finish(5, 1, succeeded()))
    assert await store.queue.heads() == [Head(5, True, None), Head(7, False, NOW_MS + 8), Head(9, False, NOW_MS)]


async def test_expiring_rows_come_earliest_first(store: Store):
    """Only rows whose time is over, also those that were retried, and no more than asked for."""
    await store.all(
        accept("never", 1),
        accept("later", 1, expires_at_ms=NOW_MS + 1),
        accept("b", 1, expires_at_ms=NOW_MS),
        accept("a", 1, 2, expires_at_ms=NOW_MS - 5),
    )
    await store.run(Finish(1, 4, retry_at(NOW_MS + 99), attempt()))
    found = await store.queue.expiring(NOW_MS, 10)
    assert sorted((o.event, o.lane, o.phase) for o in found) == [(3, 1, 0), (4, 1, Phase.TIMED), (4, 2, 0)]
    assert [o.expires_at_ms for o in found] == [NOW_MS - 5, NOW_MS - 5, NOW_MS]
    assert len(await store.queue.expiring(NOW_MS, 2)) == 2


async def test_a_count_stops_at_its_cap(store: Store):
    """Counting a deep lane is bounded."""
    await store.all(*[accept(f"e{i}", 1) for i in range(12)])
    assert (await store.queue.owed_count(1, 10), await store.queue.owed_count(1, 100)) == (10, 12)


def _deep_lane(store: Store, count: int) -> None:
    db = store.database.connect()
    db.execute("BEGIN")
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO owed"
        " SELECT 1, i % 2, CASE i % 2 WHEN 1 THEN ? + i ELSE 0 END, i, 0, 9, NULL FROM n",
        (count, NOW_MS),
    )
    db.execute("COMMIT")
    db.close()


async def test_a_deep_lane_costs_no_more_than_a_short_one(store: Store):
    """A refill reads what it returns, not what the lane owes: counted in the machine's steps, not in time."""
    steps = []
    for size in (1000, 100_000):
        db = store.database.connect()
        db.execute("DELETE FROM owed")
        db.close()
        _deep_lane(store, size)
        counted = [0]

        def tick(counted=counted) -> int:
            counted[0] += 1
            return 0

        raw = sqlite3.connect(store.database.path)
        raw.set_progress_handler(tick, 100)
        parameters = (NOW_MS + 400, 1, 65, 65)
        raw.execute(queue.refill_sql(1), parameters).fetchall()
        raw.close()
        steps.append(counted[0])
        (refill,) = await store.queue.refill([Ask(1, 64, 64)], NOW_MS + 400)
        assert len(refill.items) == 128
    assert steps[1] <= steps[0] + 5


def _plan(store: Store, sql: str) -> list[str]:
    db = sqlite3.connect(store.database.path)
    names = set(re.findall(r":(\w+)", sql))
    parameters = dict.fromkeys(names, 1) if names else [None] * _places(sql)
    try:
        return [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql, parameters)]
    finally:
        db.close()


def _places(sql: str) -> int:
    numbered = [int(n) for n in re.findall(r"\?(\d+)", sql)]
    return max(numbered) if numbered else sql.count("?")


STATEMENTS = {
    "heads": queue._HEADS,
    "refill": queue.refill_sql(2),
    "load": queue._LOAD,
    "expiring": queue._EXPIRING,
    "owed of a lane": queue._OWED_OF_LANE,
    "retries after": queue._RETRIES_AFTER,
    "existing": intake._EXISTING,
    "states": results._STATES,
    "record": results._RECORD.text(4),
    "move": results._MOVE.text(4),
    "reopen": results._REOPEN.text(4),
    "settle": results._SETTLE.text(4),
    "postpone": results._POSTPONE.text(4),
    "keep earlier": results._KEEP_EARLIER.text(4),
    "owe again": results._OWE_AGAIN.text(4),
    "index": lane_history._INDEX,
    "all": history._ALL,
    "dead": history._DEAD,
    "of tenant": history._OF_TENANT,
    "of event": history._OF_EVENT,
    "dead of lane": history._DEAD_OF_LANE,
    "of lane": history._OF_LANE,
    "event keys": history._EVENT_KEYS,
    "event keys of tenant": history._EVENT_KEYS_OF_TENANT,
}
TABLES = "event|payload|delivery|owed|attempt|lane_history|response_body"


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_hot_statement_scans_a_table(store: Store, name):
    """Every statement seeks along an index; the only full walks are in key order under a limit."""
    plan = _plan(store, STATEMENTS[name])
    in_order = {"all", "event keys", "dead"}
    if name not in in_order:
        scans = [
            step
            for step in plan
            if re.search(rf"SCAN ({TABLES}|[a-z])\b", step) and not re.search(r"SCAN (v|l|k|p)\b", step)
        ]
        assert scans == [], plan
    if name not in {"of lane", "refill", "index"}:
        assert not [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step], plan


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("expiring", "owed_expiring"),
        ("existing", "event_by_id"),
        ("dead of lane", "COVERING INDEX delivery_dead_of_lane"),
        ("dead", "COVERING INDEX delivery_dead"),
        ("event keys of tenant", "event_by_tenant"),
        ("settle", "PRIMARY KEY (lane=? AND phase=? AND due_ms=? AND event=?)"),
        ("record", "PRIMARY KEY (event=? AND lane=?)"),
        ("refill", "PRIMARY KEY (lane=? AND phase=? AND due_ms<?)"),
        ("heads", "PRIMARY KEY (lane>?)"),
    ],
)
def test_the_index_meant_is_the_one_used(store: Store, name, index):
    """The plans that the measured costs rest on."""
    assert any(index in step for step in _plan(store, STATEMENTS[name])), _plan(store, STATEMENTS[name])


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_read_that_takes_too_long_is_interrupted(store: Store):
    """The caller gets a name for it, and the connection serves the next one."""
    reader = await Reader(store.database, limit_s=0.05).open()
    with pytest.raises(QueryTimeout):
        await reader.fetch(ENDLESS)
    reader._limit_s = 60  # a machine that stalls now must not end this one too
    assert await reader.fetch("SELECT 1") == [(1,)]
    await reader.close()


async def test_a_cancelled_read_gives_the_connection_free(store: Store):
    """Who stops waiting doesn't leave an endless query behind."""
    reader = await Reader(store.database, limit_s=60).open()
    waiting = asyncio.ensure_future(reader.fetch(ENDLESS))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    began = time.monotonic()
    assert await reader.fetch("SELECT 1") == [(1,)]
    assert time.monotonic() - began < 30
    await reader.close()


async def test_a_slow_read_does_not_hold_up_the_pool(store: Store):
    """A second caller goes to the connection that is free."""
    pool = await ReadPool(store.database, 2, limit_s=60).open()
    slow = asyncio.ensure_future(pool.fetch(ENDLESS))
    await asyncio.sleep(0)
    assert await pool.fetch("SELECT 1") == [(1,)]
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    await pool.close()
    await pool.close()
