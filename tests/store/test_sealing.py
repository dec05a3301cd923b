"""Sealed rows: nothing readable in the files, nothing that was changed or moved is taken for what was written."""

import hashlib
import zlib

import msgspec
import pytest
from tests.store.kit import MASTERS, NOW_MS, accept, attempt, check_invariants, event, opened, rows

from ringback.core.lifecycle import retry_at, succeeded
from ringback.core.model import Callback, Endpoint, Event, Secret
from ringback.store import endpoints, erase
from ringback.store.backup import Aside, Cancelled
from ringback.store.check import check_directory
from ringback.store.check_values import unreadable
from ringback.store.errors import StateCorrupt
from ringback.store.keys import keys_of
from ringback.store.known import KnownIds
from ringback.store.ops import Accepted, AcceptEvent, Conflict, Finish, Task
from ringback.store.sealing import rotate_key

WORD = b"xyzzy-plugh"
TEXT = WORD.decode()
ORIGIN = "https://host.example:443"


@pytest.fixture
async def sealed(tmp_path):
    """A running store with a master key."""
    async with opened(tmp_path / "state", masters=MASTERS) as store:
        yield store
        assert store.fatal == []


def said(n: int = 0) -> bytes:
    """Data with the planted word."""
    return b'{"n":%d,"said":"%s"}' % (n, WORD)


def endpoint(name: str, tenant: str = "acme") -> Endpoint:
    """An endpoint whose every sealed part says the word."""
    return Endpoint(
        0, f"id-{tenant}-{name}", tenant, f"https://{TEXT}.example/{name}?token={TEXT}", "standard", 1, 1, name=name,
        secrets=(Secret(f"whsec_{TEXT}", 1),), headers={"x-key": TEXT}, metadata={"k": TEXT}, description=TEXT,
    )  # fmt: skip


def called(name: str, n: int, *lanes: int, tenant: str = "acme") -> AcceptEvent:
    """An event with a callback; both say the word."""
    callback = Callback(f"{ORIGIN}/{TEXT}", secret=TEXT, extra=b'{"x":"%s"}' % WORD)
    made = msgspec.structs.replace(event(name, said(n), tenant), callback=callback)
    return AcceptEvent(made, lanes, NOW_MS, callback_origin=ORIGIN)


def answered(status: int = 500):
    """An attempt whose receiver said the word, in short and in full."""
    return attempt(status=status, info=b"\x93" + WORD * 3, full_body=WORD * 9)


async def change(store, sql: str, *values) -> None:
    """Somebody changes a row behind the store's back."""
    await store.run(Task("tamper", lambda db: db.execute(sql, values).rowcount))


async def test_nothing_that_was_said_lies_in_the_files(sealed):
    """Payload, callback, endpoints with their past, answers: in none of the bytes; all of it comes back."""
    made = await sealed.run(endpoints.insert(endpoint("a")))
    await sealed.run(endpoints.update(msgspec.structs.replace(made, revision=2, description=f"{TEXT} 2")))
    got = await sealed.run(called("e1", 1, made.lane))
    await sealed.run(Finish(made.lane, got.seq, retry_at(NOW_MS + 5), answered()))
    await sealed.run(Finish(made.lane, got.seq, succeeded(), answered(200)))
    assert erase.wipe_log(sealed.database)
    files = {path: path.read_bytes() for path in sealed.database.directory.iterdir()}
    assert [path for path, content in files.items() if WORD in content] == []
    assert hashlib.sha256(said(1)).digest() not in b"".join(files.values()), "a bare digest lets short data be guessed"
    (stored,) = await sealed.queue.load([got.seq])
    assert (stored.event.data, stored.corrupt) == (said(1), False)
    assert stored.event.callback.secret == TEXT
    shown = (await sealed.history.get_delivery(got.seq, made.lane)).attempts
    assert [(one.n, one.info, one.full_body) for one in shown] == [(n, b"\x93" + WORD * 3, WORD * 9) for n in (1, 2)]
    assert (await sealed.endpoints.revision(made.lane, 1)).description == TEXT
    assert [one.description for one in await sealed.endpoints.load_all()] == [f"{TEXT} 2"]
    check_invariants(sealed.database.path)


CHANGES = {
    "a byte of it": "data = CAST(substr(data, 1, 40) || x'00' || substr(data, 42) AS BLOB)",
    "its end": "data = CAST(substr(data, 1, length(data) - 1) AS BLOB)",
    "all of it": "data = x'01'",
    "its key, unknown now": "data = CAST(x'01000000ff' || substr(data, 6) AS BLOB)",
    "its key, another's now": "data = CAST(x'0100000002' || substr(data, 6) AS BLOB)",
    "that it is sealed": "key_no = 0",
    "whose it is": "(key_no, data) = (SELECT key_no, data FROM payload WHERE event = 3)",
    "which event it is of": "(key_no, data) = (SELECT key_no, data FROM payload WHERE event = 2)",
}


@pytest.mark.parametrize("how", CHANGES)
async def test_a_payload_that_was_changed_is_corrupt(sealed, how):
    """Its checksum set right, so that only the seal can tell: empty and marked, and the others are whole."""
    for n, tenant in enumerate(("acme", "acme", "beta"), start=1):
        await sealed.run(accept(f"e{n}", 1, data=said(n), tenant=tenant))
    await change(sealed, f"UPDATE payload SET {CHANGES[how]} WHERE event = 1")
    ((data,),) = rows(sealed.database.path, "SELECT data FROM payload WHERE event = 1")
    await change(sealed, "UPDATE payload SET crc = ? WHERE event = 1", zlib.crc32(data))
    first, *others = await sealed.queue.load([1, 2, 3])
    assert (first.corrupt, first.event.data) == (True, b"")
    assert [(one.corrupt, one.event.data) for one in others] == [(False, said(2)), (False, said(3))]


async def test_two_payloads_exchanged_are_both_corrupt(sealed):
    """Of one tenant, under one key, of one length: each is bound to its own event."""
    for n in (1, 2):
        await sealed.run(accept(f"e{n}", 1, data=said(n)))
    await change(sealed, "UPDATE payload SET event = event + 10")
    await change(sealed, "UPDATE payload SET event = 13 - event")
    assert [one.corrupt for one in await sealed.queue.load([1, 2])] == [True, True]


async def test_what_else_was_moved_does_not_open(sealed):
    """A callback of another event makes it corrupt; answers of another attempt aren't shown; an endpoint is refused."""
    lanes = [(await sealed.run(endpoints.insert(endpoint(name)))).lane for name in ("a", "b")]
    for n in (1, 2):
        got = await sealed.run(called(f"e{n}", n, *lanes))
        await sealed.run(Finish(lanes[0], got.seq, retry_at(NOW_MS), answered()))
    await change(sealed, "UPDATE callback SET spec = (SELECT spec FROM callback WHERE event = 2) WHERE event = 1")
    await change(sealed, "UPDATE delivery SET info = (SELECT info FROM delivery WHERE event = 2 AND info NOT NULL)")
    await change(sealed, "UPDATE response_body SET body = (SELECT body FROM response_body WHERE event = 2)")
    assert [one.corrupt for one in await sealed.queue.load([1, 2])] == [True, False]
    for seq, whole in ((1, False), (2, True)):
        (shown,) = (await sealed.history.get_delivery(seq, lanes[0])).attempts
        assert (shown.info is not None, shown.full_body is not None) == (whole, whole)
    sql = "UPDATE endpoint SET spec = (SELECT spec FROM endpoint WHERE lane = ?) WHERE lane = ?"
    await change(sealed, sql, lanes[1], lanes[0])
    with pytest.raises(StateCorrupt, match=f"lane {lanes[0]}"):
        await sealed.endpoints.load_all()
    assert (await sealed.endpoints.by_lane(lanes[1])).name == "b"


async def test_an_earlier_revision_is_not_the_present_one(sealed):
    """Putting an endpoint's old state, with its old secret, back into its row is noticed."""
    made = await sealed.run(endpoints.insert(endpoint("a")))
    await sealed.run(endpoints.update(msgspec.structs.replace(made, revision=2)))
    await change(sealed, "UPDATE endpoint SET spec = (SELECT spec FROM endpoint_revision WHERE revision = 1)")
    with pytest.raises(StateCorrupt):
        await sealed.endpoints.by_id(made.id)


async def test_duplicates_and_conflicts_are_told_by_keyed_digests(sealed):
    """In one batch, later, in a file's look-up, and under another key than at first."""
    first = await sealed.all(
        accept("a", 1),
        accept("a", 1),
        accept("a", data=b"{}"),
        accept("b", 1),
        accept("a", 1, tenant="beta"),
    )
    assert [type(one) for one in first] == [Accepted, Accepted, Conflict, Accepted, Accepted]
    assert [one.duplicate for one in first if isinstance(one, Accepted)] == [False, True, False, False]
    digests = rows(sealed.database.path, "SELECT DISTINCT digest FROM event")
    assert len(digests) == 2, "one content: one digest within a tenant, another for another tenant"
    await sealed.run(rotate_key("acme"))
    later = await sealed.all(accept("a", 1), accept("a", data=b"{}"), accept("c", 1), accept("c", data=b"{}"))
    assert [type(one) for one in later] == [Accepted, Conflict, Accepted, Conflict]
    assert [one.duplicate for one in later if isinstance(one, Accepted)] == [True, False]
    asked: list[Event] = [event("a"), event("b", b"{}"), event("c"), event("a", tenant="beta"), event("new")]
    assert await KnownIds(sealed.reader).conflicts(asked) == {("acme", "b")}


async def test_what_a_destroyed_key_sealed_is_gone_and_its_ids_are_duplicates(sealed):
    """It loads as corrupt, shows no answers, is never a conflict; the tenant's next event has a key of its own."""
    got = await sealed.run(called("a", 1, 7))
    await sealed.run(accept("b", 7, tenant="beta", data=said(2)))
    await sealed.run(Finish(7, got.seq, retry_at(NOW_MS), answered()))
    await sealed.run(Task("destroy", lambda db: keys_of(db).destroy("acme")))
    gone, kept = await sealed.queue.load([1, 2])
    assert (gone.corrupt, gone.event.data, gone.event.callback) == (True, b"", None)
    assert (kept.corrupt, kept.event.data) == (False, said(2))
    (shown,) = (await sealed.history.get_delivery(1, 7)).attempts
    assert (shown.status, shown.info, shown.full_body) == (500, None, None)
    again = await sealed.all(accept("a", 7, data=b'{"other":1}'), accept("new", 7, data=said(3)))
    assert [(one.seq, one.duplicate) for one in again] == [(1, True), (4, False)]
    assert await KnownIds(sealed.reader).conflicts([event("a", b"{}")]) == set()
    (new,) = await sealed.queue.load([4])
    assert new.event.data == said(3)
    assert sealed.database.erased_tenants() == ["acme"]
    check_invariants(sealed.database.path)


async def test_a_check_without_the_key_finds_a_damaged_payload(sealed):
    """The checksum is that of what lies there, so that it can be checked by who can't read it."""
    for n in (1, 2):
        await sealed.run(accept(f"e{n}", 1, data=said(n)))
    with Aside(sealed.database.path) as aside:
        assert check_directory(aside, sealed.database.directory).problems == []
    await change(sealed, "UPDATE payload SET data = CAST(substr(data, 1, 60) || x'00' AS BLOB) WHERE event = 2")
    with Aside(sealed.database.path) as aside:
        (problem,) = check_directory(aside, sealed.database.directory).problems
    assert "event 2" in problem


async def test_a_check_with_the_key_names_every_value_that_does_not_open(sealed):
    """Moved or changed, its checksum set right or without any; what a destroyed key sealed is an erasure's."""
    lane = (await sealed.run(endpoints.insert(endpoint("a")))).lane
    await sealed.run(endpoints.update(msgspec.structs.replace(await sealed.endpoints.by_lane(lane), revision=2)))
    gone = await sealed.run(called("e0", 0, lane, tenant="beta"))
    await sealed.run(Finish(lane, gone.seq, succeeded(), answered(200)))
    await sealed.run(Task("destroy", lambda db: keys_of(db).destroy("beta")))
    for n in (2, 3):
        got = await sealed.run(called(f"e{n}", n, lane))
        await sealed.run(Finish(lane, got.seq, retry_at(NOW_MS), answered()))
        await sealed.run(Finish(lane, got.seq, succeeded(), answered(200)))

    def problems() -> list[str]:
        with Aside(sealed.database.path) as aside:
            return check_directory(aside, sealed.database.directory, sealed.database.keys).problems

    assert problems() == []
    for table, column, own in (
        ("payload", "data", "event"),
        ("callback", "spec", "event"),
        ("delivery", "info", "event"),
        ("attempt", "info", "event"),
        ("response_body", "body", "event"),
        ("endpoint_revision", "spec", "lane"),
    ):
        other = (
            f"(SELECT x.{column} FROM {table} x WHERE x.event = 3)" if own == "event" else "(SELECT spec FROM endpoint)"
        )
        where = f"{own} = {2 if own == 'event' else lane}"
        await change(sealed, f"UPDATE {table} SET {column} = {other} WHERE {where}")
    ((data,),) = rows(sealed.database.path, "SELECT data FROM payload WHERE event = 2")
    await change(sealed, "UPDATE payload SET crc = ? WHERE event = 2", zlib.crc32(data))
    found = problems()
    for words in (
        f"the endpoint in lane {lane} (revision 1) can't be read",
        "the payload of event 2 can't be read",
        "the callback of event 2 can't be read",
        f"the answer to event 2 on lane {lane}, attempt 1, can't be read",
        f"the answer to event 2 on lane {lane}, attempt 2, can't be read",
    ):
        assert any(problem.startswith(words) for problem in found), (words, found)
    assert not [problem for problem in found if "event 1 " in problem or "event 3 " in problem]
    with Aside(sealed.database.path) as aside:
        assert check_directory(aside, sealed.database.directory).problems == [], "without the key nothing can be said"


async def test_a_check_that_is_called_off_between_two_statements_ends(sealed):
    """Then no statement is interrupted: a stop would wait until every value of a large database was opened."""
    await sealed.run(accept("a", 7, data=said()))
    with Aside(sealed.database.path) as aside:
        aside.cancelled = True
        with pytest.raises(Cancelled):
            list(unreadable(aside, sealed.database.keys))


async def test_a_result_of_a_tenant_whose_key_was_destroyed_is_still_written(sealed):
    """An attempt that was in flight ends: it is recorded under the tenant's next key."""
    got = await sealed.run(accept("a", 7, data=said()))
    await sealed.run(Task("destroy", lambda db: keys_of(db).destroy("acme")))
    assert await sealed.run(Finish(7, got.seq, succeeded(), answered(200))) is True
    (shown,) = (await sealed.history.get_delivery(got.seq, 7)).attempts
    assert shown.info == b"\x93" + WORD * 3
    check_invariants(sealed.database.path)
