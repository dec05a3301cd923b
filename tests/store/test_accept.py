"""Accepting: what an acknowledged event means, duplicates, conflicts."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.kit import NOW_MS, Store, accept, check_invariants, event, opened, rows

from ringback.core.envelope import is_sealed
from ringback.core.model import Peer
from ringback.store.intake import MAX_TENANTS_CACHED, Numbers
from ringback.store.keys import PLAIN
from ringback.store.ops import Accepted, AcceptEvent, Conflict, Failed
from ringback.store.queue import Ask


async def test_an_accepted_event_owes_one_delivery_to_each_lane(store: Store):
    """An ack means the event and one fresh obligation per lane are in the table."""
    assert await store.run(accept("a", 3, 1, 2)) == Accepted(1, 3)
    heads = await store.queue.heads()
    assert [(h.lane, h.fresh, h.next_timed_ms) for h in heads] == [(1, True, None), (2, True, None), (3, True, None)]
    check_invariants(store.database.path)


async def test_an_event_nobody_wants_is_stored(store: Store):
    """Deliveries 0 is an answer like any other, and the event can be looked up."""
    assert await store.run(accept("a")) == Accepted(1, 0)
    seen = await store.history.get_event("acme", "a")
    assert seen is not None
    assert (seen.stored.event.data, seen.deliveries) == (b'{"a":1}', {})


async def test_everything_about_an_event_comes_back(store: Store):
    """What was accepted is what is loaded: bytes, wishes, peer."""
    given_event = event(
        "a", b'{"x":"\\u0000\xc3\xa9", "y" : 1e400}', deliver_after_ms=NOW_MS + 5, expires_at_ms=NOW_MS + 9
    )
    peer = Peer("socket", 1000, 100, 4242)
    await store.run(AcceptEvent(given_event, (1,), NOW_MS + 1, peer))
    (stored,) = await store.queue.load([1])
    given_event = msgspec.structs.replace(given_event, digest=stored.event.digest)  # keyed in a sealed store
    assert (stored.event, stored.accepted_at_ms, stored.corrupt, stored.opts.peer) == (
        given_event,
        NOW_MS + 1,
        False,
        peer,
    )


async def test_the_same_id_again_is_a_duplicate_with_the_firsts_count(store: Store):
    """A producer that sends again learns what the first sending made, and nothing new is made."""
    await store.run(accept("a", 1, 2))
    assert await store.run(accept("a", 1, 2, 3)) == Accepted(1, 2, duplicate=True)
    assert [h.lane for h in await store.queue.heads()] == [1, 2]


async def test_the_same_id_with_other_content_is_a_conflict(store: Store):
    """The first stands, the second is refused by name."""
    await store.run(accept("a", 1))
    assert await store.run(accept("a", 1, data=b'{"b":2}')) == Conflict()
    (stored,) = await store.queue.load([1])
    assert stored.event.data == b'{"a":1}'


async def test_the_same_id_in_another_tenant_is_another_event(store: Store):
    """Ids are unique in a tenant only."""
    first = await store.run(accept("a", 1))
    second = await store.run(accept("a", 1, tenant="other"))
    assert (first.duplicate, second.duplicate, first.seq != second.seq) == (False, False, True)


async def test_two_in_one_batch_count_too(store: Store):
    """Within one open batch the second of an id is a duplicate, a differing one a conflict, in order of submission."""
    answers = await store.all(accept("a", 1), accept("a", 1, 2), accept("a", data=b'{"b":2}'), accept("b", 9))
    assert answers[:3] == [Accepted(1, 1), Accepted(1, 1, duplicate=True), Conflict()]
    assert answers[3].deliveries == 1
    check_invariants(store.database.path)


def test_new_known_and_doubled_ids_mix_in_one_batch(engine):
    """Each event of a mixed batch gets its own answer, and only the new ones are stored."""
    engine.commit([accept("old", 1, 2)])
    answers = engine.commit(
        [accept("old", 1), accept("new", 1), accept("old", data=b"{}"), accept("new", 1), accept("none")]
    )
    assert answers == [
        Accepted(1, 2, duplicate=True),
        Accepted(3, 1),
        Conflict(),
        Accepted(3, 1, duplicate=True),
        Accepted(4, 0),
    ]


def test_a_wide_fan_out_is_one_event(engine):
    """10,000 lanes are taken in one transaction."""
    lanes = tuple(range(1, 10_001))
    assert engine.commit([AcceptEvent(event("a"), lanes, NOW_MS)]) == [Accepted(1, 10_000)]


def test_a_large_batch_takes_few_statements(engine):
    """A batch of 200 events is a handful of statements: the interpreter's lock changes hands at each."""
    seen: list[str] = []
    engine._db.set_trace_callback(seen.append)
    answers = engine.commit([accept(f"e{i}", 1, 2) for i in range(200)])
    engine._db.set_trace_callback(None)
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert len(seen) <= 20


async def test_deliver_after_waits_as_a_timed_row(store: Store):
    """A wish about time makes a timed row due then; a fresh row has no due time at all."""
    await store.run(accept("a", 1, deliver_after_ms=NOW_MS + 60_000))
    (head,) = await store.queue.heads()
    assert (head.fresh, head.next_timed_ms) == (False, NOW_MS + 60_000)
    (refill,) = await store.queue.refill([Ask(1, 10, 10)], NOW_MS + 59_999)
    assert (refill.items, refill.next_timed_ms) == ([], NOW_MS + 60_000)


async def test_numbers_grow_over_restarts_and_gaps(tmp_path):
    """A sequence number is never given twice, whatever was refused in between."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
        await store.run(accept("a"))
        high = (await store.run(accept("b"))).seq
    async with opened(tmp_path / "s") as store:
        assert (await store.run(accept("c"))).seq > high


async def test_a_duplicate_uses_up_no_number(tmp_path):
    """The marker never claims a number that no event has: that would be told as a loss at the next start."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
        await store.all(accept("a"), accept("b"), accept("a"))
        await store.run(accept("b"))
    async with opened(tmp_path / "s") as store:
        assert store.database.lost_events == 0
        assert (await store.run(accept("c"))).seq == 4


async def test_a_poisoned_event_fails_alone(store: Store):
    """What SQLite can't bind fails by name; its neighbours in the batch are stored."""
    poisoned = AcceptEvent(event("p", created_at_ms=1 << 70), (1,), NOW_MS)
    answers = await store.all(
        *[accept(f"e{i}", 1) for i in range(5)], poisoned, *[accept(f"f{i}", 1) for i in range(5)]
    )
    assert isinstance(answers[5], Failed)
    assert (answers[5].code, "OverflowError" in answers[5].message) == ("internal_error", True)
    assert all(isinstance(answer, Accepted) for i, answer in enumerate(answers) if i != 5)
    check_invariants(store.database.path)


async def test_a_lane_given_twice_is_that_events_fault_alone(store: Store):
    """A constraint of the schema names the guilty event and harms no other."""
    answers = await store.all(accept("a", 1), accept("b", 2, 2), accept("c", 3))
    assert [type(answer) for answer in answers] == [Accepted, Failed, Accepted]
    assert "IntegrityError" in answers[1].message


@pytest.mark.parametrize("column", ["payload.data", "payload.crc"])
async def test_a_flipped_bit_is_noticed(store: Store, column):
    """Data that isn't what was written is marked corrupt when loaded, and its neighbours aren't."""
    await store.all(accept("a", 1), accept("b", 1))
    table, name = column.split(".")
    value = "CAST('{\"a\":3}' AS BLOB)" if name == "data" else "crc + 1"
    rows_changed = _write(store, f"UPDATE {table} SET {name} = {value} WHERE event = 1")
    assert rows_changed == 1
    assert [(s.seq, s.corrupt) for s in await store.queue.load([2, 1])] == [(1, True), (2, False)]


def _write(store: Store, sql: str) -> int:
    db = store.database.connect()
    try:
        return db.execute(sql).rowcount
    finally:
        db.close()


async def test_what_is_gone_is_left_out_of_a_load(store: Store):
    """Loading names nothing that isn't there, and each event once."""
    await store.run(accept("a", 1))
    assert [s.seq for s in await store.queue.load([7, 1, 1, 99])] == [1]
    assert await store.queue.load([]) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300).filter(lambda blob: not is_sealed(blob)), min_size=1, max_size=12))
def test_data_of_any_bytes_is_cut_apart_rightly(blobs):
    """The one blob in which many events are loaded is cut at the right places, whatever bytes the clear ones hold."""
    from ringback.store.codec import checksum  # noqa: PLC0415 - used here alone
    from ringback.store.queue import _cut, _Meta  # noqa: PLC0415 - the unit under test

    metas = [
        _Meta(i, f"e{i}", "t", "a", 1, 2, "00" * 32, "", 0, checksum(blob), len(blob), None)
        for i, blob in enumerate(blobs)
    ]
    found = _cut(metas, b"".join(blobs), PLAIN)
    assert [(s.event.data, s.corrupt) for s in found] == [(blob, False) for blob in blobs]


async def test_data_with_zero_bytes_survives_the_load(store: Store):
    """Encrypted data will hold any byte: zero bytes and invalid UTF-8 come back as written."""
    blobs = [b"\x00\xff\x00a", b"", bytes(range(256)) * 5]
    await store.all(*[accept(f"e{i}", 1, data=blob) for i, blob in enumerate(blobs)])
    assert [s.event.data for s in await store.queue.load([1, 2, 3])] == blobs


def test_the_cache_of_tenants_is_bounded(engine):
    """A producer that names ever new tenants doesn't grow the process."""
    numbers = Numbers(0)
    for start in range(0, 3 * MAX_TENANTS_CACHED, 5000):
        engine._db.execute("BEGIN")
        numbers.tenants(engine._db, [accept("a", tenant=f"t{i}") for i in range(start, start + 5000)])
        engine._db.execute("COMMIT")
        numbers.committed()
    assert len(numbers._tenants) <= MAX_TENANTS_CACHED


def test_a_tenant_of_a_failed_batch_is_not_remembered(engine, tmp_path):
    """A number that was rolled back must not be used: it may go to another tenant."""
    bad = AcceptEvent(event("p", tenant="ghost", created_at_ms=1 << 70), (), NOW_MS)
    engine.commit([bad])
    engine.commit([accept("a", tenant="real"), accept("b", tenant="ghost")])
    names = rows(
        tmp_path / "state" / "ringback.db",
        "SELECT t.name, e.id FROM event e JOIN tenant t ON t.no = e.tenant ORDER BY 2",
    )
    assert names == [("real", "a"), ("ghost", "b")]
