"""Erasing: what was planted is nowhere in the files afterwards, what stays is a tombstone, and steps survive a kill."""

import msgspec
import pytest
from tests.store.kit import MASTERS, NOW_MS, accept, attempt, check_invariants, event, opened, rows

from ringback.core.lifecycle import reopened, retry_at, succeeded
from ringback.core.model import Callback, DeliveryState, Endpoint, Peer, Secret
from ringback.core.tally import Tally
from ringback.core.tokens import Token
from ringback.store import endpoints, erase, erasure_reads, stats, tokens
from ringback.store.alone import run_alone
from ringback.store.backup import Aside
from ringback.store.check import check_directory
from ringback.store.errors import KeyringLost
from ringback.store.keyring import KEYRING_NAME
from ringback.store.ops import AcceptEvent, Conflict, Finish
from ringback.store.retention import prune_events

WORD = "xyzzy-plugh"
LATER_MS = NOW_MS + 60_000


def files(directory):
    """Every byte of the database and its log."""
    return b"".join(path.read_bytes() for path in directory.glob("ringback.db*"))


def words(data=b"", tenant="acme"):
    """Data with the planted word in it."""
    return b'{"said":"%s %s"}' % (WORD.encode(), data)


async def planted(store, name="e1", lanes=(101, 102, 103), tenant="acme", origin="https://xyzzy-plugh.example:443"):
    """An event whose every part says the word: data, callback, peer, and the answers of its receivers."""
    callback = Callback(f"{origin}/{WORD}", secret=WORD, extra=b'{"x":"%s"}' % WORD.encode())
    made = msgspec.structs.replace(event(name, words(name.encode() * 50), tenant), callback=callback)
    op = AcceptEvent(made, lanes, NOW_MS, Peer("socket", 4711, 1, 815), origin)
    answer = await store.run(op)
    full = (WORD * 900).encode()
    record = attempt(info=b"\x93" + WORD.encode() * 20, error=f"no route to {WORD}", full_body=full)
    await store.run(Finish(lanes[0], answer.seq, retry_at(NOW_MS + 5), record))
    await store.run(Finish(lanes[0], answer.seq, succeeded(), record))
    await store.run(Finish(lanes[1], answer.seq, retry_at(NOW_MS + 5), record))
    return answer


def endpoint(name, tenant="acme"):
    """An endpoint whose every part says the word."""
    return Endpoint(
        0, f"id-{name}", tenant, f"https://{WORD}.example/{name}", "standard", 1, 1, name=f"{WORD}-{name}",
        secrets=(Secret(f"whsec_{WORD}", 1),), headers={"x-key": WORD}, metadata={"k": WORD}, description=WORD,
    )  # fmt: skip


async def test_nothing_of_an_erased_event_is_left_in_the_files(store):
    """Data, callback, peer, answers and errors are gone from database and log; the row and its times stay."""
    made = await planted(store)
    await store.run(accept("e2", 1, data=b'{"kept":true}'))
    done = await store.run(erase.erase_event("acme", "e1", LATER_MS))
    assert done == erase.ErasedEvent(made.seq, LATER_MS, cancelled=3)
    assert erase.wipe_log(store.database)
    assert WORD.encode() not in files(store.database.directory)
    (stored,) = await store.queue.load([made.seq])
    assert (stored.erased_at_ms, stored.event.data, stored.event.digest) == (LATER_MS, b"", b"")
    assert (stored.event.id, stored.event.type, stored.event.created_at_ms) == ("e1", "stt.jobs.completed", NOW_MS)
    assert stored.opts.peer is None
    view = await store.history.get_delivery(made.seq, 101)
    assert [(a.n, a.outcome, a.status, a.info, a.full_body) for a in view.attempts] == [
        (1, "bad_status", 500, None, None),
        (2, "bad_status", 500, None, None),
    ]
    assert view.row.state is DeliveryState.SUCCEEDED
    assert (await store.history.get_delivery(made.seq, 102)).row.state is DeliveryState.CANCELLED
    check_invariants(store.database.path)


async def test_twice_is_once_and_an_unknown_one_is_none(store):
    """The second answer tells the first time; nothing changes."""
    await store.run(accept("e1", 1))
    first = await store.run(erase.erase_event("acme", "e1", LATER_MS))
    again = await store.run(erase.erase_event("acme", "e1", LATER_MS + 1))
    assert again == erase.ErasedEvent(first.seq, LATER_MS, already=True)
    assert await store.run(erase.erase_event("acme", "e2", LATER_MS)) is None
    assert await store.run(erase.erase_event("beta", "e1", LATER_MS)) is None


@pytest.mark.parametrize("data", [b'{"a":1}', b'{"other":1}'])
async def test_an_erased_id_is_a_duplicate_whatever_comes_under_it(store, data):
    """Nothing new is stored, nothing conflicts."""
    first = await store.run(accept("e1", 1, 2))
    await store.run(erase.erase_event("acme", "e1", LATER_MS))
    again = await store.run(accept("e1", 1, data=data))
    assert not isinstance(again, Conflict)
    assert (again.seq, again.deliveries, again.duplicate) == (first.seq, 2, True)
    assert rows(store.database.path, "SELECT count(*) FROM owed") == [(0,)]


async def test_what_comes_late_changes_nothing(store):
    """The result of an attempt that was in flight, and a retry by hand that was asked for before."""
    made = await store.run(accept("e1", 1, 2))
    await store.run(Finish(2, made.seq, succeeded(), attempt()))
    await store.run(erase.erase_event("acme", "e1", LATER_MS))
    late = attempt(info=WORD.encode(), full_body=WORD.encode() * 99)
    assert await store.run(Finish(1, made.seq, succeeded(), late)) is False
    assert await store.run(Finish(1, made.seq, retry_at(LATER_MS), late)) is False
    assert await store.run(Finish(2, made.seq, reopened(LATER_MS))) is False
    assert rows(store.database.path, "SELECT count(*) FROM response_body") == [(0,)]
    check_invariants(store.database.path)


async def test_a_tombstone_is_sound_and_retention_prunes_it(store):
    """The check finds nothing wrong; in time it goes as any event, and its callback's lane with it."""
    await planted(store)
    await store.run(erase.erase_event("acme", "e1", LATER_MS))
    with Aside(store.database.path) as aside:
        assert check_directory(aside, store.database.directory).problems == []
    await store.run(prune_events(LATER_MS, 10))
    for table in ("event", "payload", "delivery", "callback", "callback_lane"):
        assert rows(store.database.path, f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_an_origin_stays_while_another_event_names_it(store):
    """Two events of one origin: it goes with the second."""
    await planted(store, "e1")
    await planted(store, "e2")
    origin = "SELECT origin FROM callback_lane"
    await store.run(erase.erase_event("acme", "e1", LATER_MS))
    assert rows(store.database.path, origin) == [("https://xyzzy-plugh.example:443",)]
    await store.run(erase.erase_event("acme", "e2", LATER_MS))
    assert rows(store.database.path, origin)[0][0].startswith(erase.ERASED_ORIGIN)


async def erased(store, tenant="acme", limit=7):
    """Erase a whole tenant; how many events, how many deliveries were cancelled."""
    events = stopped = 0
    step = erase.Step(0, 0, more=True)
    while step.more:
        step = await store.run(erase.erase_next(tenant, limit, LATER_MS, step.hour))
        events, stopped = events + step.events, stopped + step.cancelled
    return events, stopped


async def test_nothing_of_an_erased_tenant_is_left_in_the_files(store):
    """Endpoints with their past, tokens, callbacks, events, statistics; another tenant's things stay."""
    made = await store.run(endpoints.insert(endpoint("a")))
    older = msgspec.structs.replace(made, revision=2, url=f"https://{WORD}.example/2")
    await store.run(endpoints.update(older))
    gone = await store.run(endpoints.insert(endpoint("b")))
    await store.run(endpoints.update(msgspec.structs.replace(gone, deleted_at_ms=NOW_MS)))
    await store.run(endpoints.set_health(made.lane, True, NOW_MS))
    await store.run(stats.add([stats.Row(hour, made.lane, Tally()) for hour in range(100)]))
    await store.run(tokens.insert(Token("t1", "acme", b"x" * 32, 1), 9))
    for n in range(30):
        await planted(store, f"e{n}", (made.lane, 198, 199))
    other = await store.run(accept("e1", 300, tenant="beta", data=b'{"kept":1}'))
    begun = await store.run(erase.begin_erasure("acme", LATER_MS))
    assert (begun.events, begun.endpoints) == (30, 1)
    await store.run(erase.destroy_keys("acme"))
    assert await erased(store) == (30, 90)
    assert await store.run(erase.erase_next("acme", 7, LATER_MS)) == erase.Step(0, 0, more=False)
    assert erase.wipe_log(store.database)
    assert WORD.encode() not in files(store.database.directory)
    assert (await store.queue.load([other.seq]))[0].event.data == b'{"kept":1}'
    for table in ("endpoint_revision", "lane_health", "lane_hour", "token", "erasure", "response_body"):
        assert rows(store.database.path, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert rows(store.database.path, "SELECT lane, event FROM owed") == [(300, other.seq)]
    assert (await store.endpoints.by_id("id-a")).deleted_at_ms == LATER_MS
    assert (await store.endpoints.by_id("id-b")).deleted_at_ms == NOW_MS
    check_invariants(store.database.path)


async def test_what_comes_after_the_asking_stays(store):
    """An event, an endpoint of the old name and a callback's lane that are new are new."""
    await store.run(endpoints.insert(endpoint("a")))
    old = await planted(store, "e1")
    await store.run(erase.begin_erasure("acme", LATER_MS))
    await store.run(erase.destroy_keys("acme"))
    new = await planted(store, "e2")
    again = await store.run(endpoints.insert(msgspec.structs.replace(endpoint("a"), id="another")))
    assert not isinstance(again, endpoints.NameTaken)
    assert new.callback_lane not in (None, old.callback_lane)
    assert await erased(store) == (1, 3)
    (stored,) = await store.queue.load([new.seq])
    assert stored.erased_at_ms is None
    reads = erasure_reads.ErasureReads(store.reader)
    assert await reads.standing("acme") == erasure_reads.Standing(1, 0, 2, 1, erasing=False, left=0)


async def test_the_tenant_that_nobody_knows_and_the_one_with_a_token_alone(store):
    """The first is none; of the second the token goes."""
    assert await store.run(erase.begin_erasure("acme", 1)) is None
    reads = erasure_reads.ErasureReads(store.reader)
    assert await reads.standing("acme") is None
    await store.run(tokens.insert(Token("t1", "acme", b"x" * 32, 1), 9))
    assert await reads.standing("acme") == erasure_reads.Standing(0, 1, 0, 0, erasing=False, left=0)
    assert await store.run(erase.begin_erasure("acme", 1)) == erase.Begun(0, 0, 0)
    assert await store.run(tokens.every()) == []


async def test_a_step_is_bounded_by_the_deliveries_it_touches(store):
    """A large fan-out makes the step shorter in events, never endless."""
    for n in range(6):
        await store.run(accept(f"e{n}", *range(1, 101)))
    await store.run(erase.begin_erasure("acme", LATER_MS))
    await store.run(erase.destroy_keys("acme"))
    step = await store.run(erase.erase_next("acme", 20, LATER_MS))
    assert (step.events, step.cancelled, step.more) == (2, 200, True)
    reads = erasure_reads.ErasureReads(store.reader)
    assert await reads.standing("acme") == erasure_reads.Standing(0, 0, 6, 0, erasing=True, left=4)


async def test_an_erasure_that_broke_off_goes_on(tmp_path):
    """What was begun is found at the next start, with how far it came; without a daemon it goes on too."""
    async with opened(tmp_path / "s") as store:
        for n in range(10):
            await planted(store, f"e{n}")
        await store.run(erase.begin_erasure("acme", LATER_MS))
        assert await erasure_reads.ErasureReads(store.reader).under_way() == [
            erasure_reads.UnderWay("acme", 10, locked=False)
        ]
        await store.run(erase.destroy_keys("acme"))
        await store.run(erase.erase_next("acme", 4, LATER_MS))
    assert run_alone(tmp_path / "s", erase.erase_next("acme", 3, LATER_MS), NOW_MS).events == 3
    async with opened(tmp_path / "s") as store:
        assert await erasure_reads.ErasureReads(store.reader).under_way() == [
            erasure_reads.UnderWay("acme", 10, locked=True)
        ]
        assert await store.run(erase.destroy_keys("acme")) == 10
        assert await erased(store) == (3, 9)
        assert await erasure_reads.ErasureReads(store.reader).under_way() == []
    assert WORD.encode() not in files(tmp_path / "s")


async def test_asked_again_it_takes_what_came_since(store):
    """A second asking while the first goes on moves its end; what comes behind that stays."""
    await store.run(accept("e1", 1))
    await store.run(erase.begin_erasure("acme", LATER_MS))
    await store.run(accept("e2", 1))
    assert (await store.run(erase.begin_erasure("acme", LATER_MS))).events == 2
    await store.run(accept("e3", 1))
    assert await store.run(erase.destroy_keys("acme")) == 2
    assert await erased(store) == (2, 2)
    (kept,) = await store.queue.load([3])
    assert (kept.event.id, kept.event.data, kept.corrupt) == ("e3", event("e3").data, False)


async def test_an_endpoint_made_while_its_tenant_is_erased_stays_whole(store):
    """Also one made before the keys are destroyed: it can be read, with its revisions and its statistics."""
    await store.run(endpoints.insert(endpoint("old")))
    await store.run(erase.begin_erasure("acme", LATER_MS))
    made = await store.run(endpoints.insert(endpoint("new")))
    await store.run(erase.destroy_keys("acme"))
    await store.run(stats.add([stats.Row(1, made.lane, Tally())]))
    await erased(store)
    assert await store.endpoints.load_all() == [made]
    assert await store.endpoints.revision(made.lane, made.revision) == made
    assert rows(store.database.path, "SELECT lane FROM lane_hour") == [(made.lane,)]


async def test_what_is_deleted_in_a_future_is_erased_too(store):
    """A clock that was put back keeps no revision of an endpoint."""
    made = await store.run(endpoints.insert(endpoint("old")))
    await store.run(endpoints.update(msgspec.structs.replace(made, deleted_at_ms=LATER_MS + 1000)))
    await store.run(erase.begin_erasure("acme", LATER_MS))
    assert rows(store.database.path, "SELECT count(*) FROM endpoint_revision") == [(0,)]


async def test_a_tenant_whose_keys_are_lost_can_be_given_up(tmp_path):
    """As the refusal says: erased without a daemon, it doesn't keep the database from being opened any more."""
    async with opened(tmp_path / "s", masters=MASTERS) as store:
        await store.run(accept("e1", tenant="acme"))
        older = (tmp_path / "s" / KEYRING_NAME).read_bytes()
        await store.run(accept("e1", tenant="beta"))
    (tmp_path / "s" / KEYRING_NAME).write_bytes(older)
    with pytest.raises(KeyringLost, match="tenant erase"):
        async with opened(tmp_path / "s", masters=MASTERS):
            pass
    for task in (erase.begin_erasure("beta", 1), erase.destroy_keys("beta")):
        run_alone(tmp_path / "s", task, 1)
    hour = -1
    while (step := run_alone(tmp_path / "s", erase.erase_next("beta", 9, 1, hour), 1)).more:
        hour = step.hour
    async with opened(tmp_path / "s", masters=MASTERS) as store:
        await store.run(accept("e2", tenant="gamma"))
        loaded = [(one.event.tenant, one.event.data, one.corrupt) for one in await store.queue.load([1, 2, 3])]
        assert loaded == [("acme", b'{"a":1}', False), ("beta", b"", False), ("gamma", b'{"a":1}', False)]


async def test_what_is_freed_is_zeroed_whatever_freed_it(store):
    """Also what moved or was pruned long before anybody asked to erase: the writer's connection does so always."""
    assert store.database.writer.execute("PRAGMA secure_delete").fetchone() == (1,)
    made = await planted(store)
    await store.run(erase.erase_event("acme", "e1", LATER_MS))
    await store.run(prune_events(LATER_MS, 10))
    assert await store.queue.load([made.seq]) == []
    assert erase.wipe_log(store.database)
    assert WORD.encode() not in files(store.database.directory)
