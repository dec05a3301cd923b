"""The endpoints' verbs against a real store: what is accepted, what is refused by name, what the snapshot says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringback.core.egress import parse_policy
from ringback.core.model import EndpointStatus
from ringback.kit.clock import SystemChance, SystemClock
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed, EndpointDefaults, Endpoints
from ringback.store.database import open_state
from ringback.store.endpoints import EndpointReads
from ringback.store.reader import Reader
from ringback.store.writer import Writer

URL = "https://hooks.example.com/in"


class World:
    """Endpoints over a real writer, and names that resolve as the test says."""

    def __init__(self, endpoints: Endpoints, reads: EndpointReads, names: dict[str, list[str]]) -> None:
        self.endpoints = endpoints
        self.reads = reads
        self.names = names
        self.told: list[int] = []

    async def make(self, **members: object) -> Changed:
        done = await self.endpoints.create({"url": URL, **members})
        assert isinstance(done, Changed), done
        return done

    async def refused(self, **members: object) -> Refusal:
        done = await self.endpoints.create({"url": URL, **members})
        assert isinstance(done, Refusal), done
        return done

    async def change(self, made: Changed, patch: object) -> Changed:
        done = await self.endpoints.patch(made.endpoint.id, patch)
        assert isinstance(done, Changed), done
        return done


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh state directory with everything endpoints need."""
    clock = SystemClock()
    database = open_state(tmp_path / "state", clock.now_ms())
    writer = Writer(database, clock, on_fatal=pytest.fail)
    await writer.start()
    reader = await Reader(database).open()
    names = {"hooks.example.com": ["8.8.8.8"], "inner.example.com": ["8.8.8.8", "10.0.0.7"]}

    async def resolve(host: str) -> list[str]:
        if host == "silent.example.com":
            raise TimeoutError
        return names.get(host, [])

    endpoints = Endpoints(
        writer=writer,
        policy=parse_policy(False, ["127.0.0.0/8"], []),
        defaults=EndpointDefaults(concurrency=8, timeout_s=30),
        resolve=resolve,
        clock=clock,
        chance=SystemChance(),
    )
    world = World(endpoints, EndpointReads(reader), names)
    endpoints.on_change(world.told.append)
    yield world
    await reader.close()
    await writer.stop()
    database.close()


async def test_a_created_endpoint_is_in_table_and_snapshot(world: World) -> None:
    """What create answers must be what the table holds, what the snapshot shows, and what matching finds."""
    made = await world.make(name="crm", tenant="acme", events=["stt.*"], metadata={"team": "a"})
    endpoint = made.endpoint
    assert await world.reads.load_all() == [endpoint]
    assert world.endpoints.get(endpoint.id) == world.endpoints.by_lane(endpoint.lane) == endpoint
    assert world.endpoints.match("acme", "stt.done") == (endpoint.lane,)
    assert world.endpoints.match("default", "stt.done") == ()
    assert world.told == [endpoint.lane]
    assert (endpoint.status, endpoint.revision, endpoint.metadata) == (EndpointStatus.ACTIVE, 1, {"team": "a"})


async def test_a_secret_is_made_unless_given_or_refused(world: World) -> None:
    """Absent or null: generated; the empty text: unsigned; given: taken as it is."""
    made = await world.make()
    assert made.new_secret
    assert made.endpoint.secrets[0].value.startswith("whsec_")
    assert (await world.make(secret=None)).endpoint.secrets[0].value != made.endpoint.secrets[0].value
    assert (await world.make(secret="")).endpoint.secrets == ()
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert (await world.make(secret=secret)).endpoint.secrets[0].value == secret


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"rate_limit": {"requests": 5, "per_s": 1}}, "rate_limit"),
        ({"ordering": "key"}, "ordering"),
        ({"ordering": "strict"}, "ordering"),
        ({"handshake": "graph"}, "handshake"),
        ({"dialect": "prosa"}, "dialect"),
        ({"dialect": "azure-speech"}, "dialect"),
        ({"secret": "whsk_abc"}, "secret"),
    ],
)
async def test_what_is_not_built_is_refused_by_name(world: World, members: dict, place: str) -> None:
    """A member whose behaviour isn't there must be refused as not_supported, naming it, never ignored."""
    refused = await world.refused(**members)
    assert refused.code == "not_supported"
    assert place in [problem.loc[0] for problem in refused.problems]


@pytest.mark.parametrize("members", [{"ordering": "none"}, {"handshake": "assumed"}, {"rate_limit": None}])
async def test_the_built_values_of_those_are_taken(world: World, members: dict) -> None:
    """Naming the default, or what is built, isn't an error."""
    await world.make(**members)


@pytest.mark.parametrize(
    ("members", "loc"),
    [
        ({"url": None}, ("url",)),
        ({"url": "ftp://x/"}, ("url",)),
        ({"url": 5}, ("url",)),
        ({"colour": "red"}, ("colour",)),
        ({"callback": {}}, ("callback",)),
        ({"tenant": "a b"}, ("tenant",)),
        ({"tenant": "a\n"}, ("tenant",)),
        ({"name": ""}, ("name",)),
        ({"name": "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"}, ("name",)),
        ({"dialect": "morse"}, ("dialect",)),
        ({"events": ["a..b"]}, ("events",)),
        ({"events": "a.b"}, ("events",)),
        ({"events": ["a"] * 65}, ("events",)),
        ({"secret": "hunter2"}, ("secret",)),
        ({"concurrency": 0}, ("concurrency",)),
        ({"concurrency": True}, ("concurrency",)),
        ({"concurrency": 1.5}, ("concurrency",)),
        ({"timeout_s": 0}, ("timeout_s",)),
        ({"timeout_s": float("inf")}, ("timeout_s",)),
        ({"retry": {"delays_s": [-1]}}, ("retry",)),
        ({"retry": {"delays_s": [1], "factor": 2}}, ("retry",)),
        ({"retry": {"attempts": 0}}, ("retry",)),
        ({"retry": {"sometimes": 1}}, ("retry", "sometimes")),
        ({"handshake": "secret"}, ("handshake",)),
        ({"tls_verify": "no"}, ("tls_verify",)),
        ({"headers": {"Host": "x"}}, ("headers",)),
        ({"headers": {"X-A": "a\r\nb"}}, ("headers",)),
        ({"headers": {"X-A": 1}}, ("headers", "X-A")),
        ({"options": {"signature": "hmac"}}, ("options",)),
        ({"metadata": {"k" * 65: "v"}}, ("metadata", "k" * 64)),
        ({"metadata": {"k": ["v"]}}, ("metadata", "k")),
    ],
)
async def test_bad_members_are_refused_with_their_place(world: World, members: dict, loc: tuple) -> None:
    """Each bad member must be named by its place, and nothing may be made."""
    refused = await world.refused(**members)
    assert refused.code in {"invalid_endpoint", "invalid_url"}
    assert loc in [problem.loc for problem in refused.problems]
    assert await world.reads.load_all() == []


async def test_all_problems_are_told_at_once(world: World) -> None:
    """A body with several faults must name each."""
    refused = await world.refused(url="http://10.0.0.1/", events=["a..b"], headers={"Host": "x"}, ordering="key")
    assert {problem.loc[0] for problem in refused.problems} == {"url", "events", "headers", "ordering"}


@pytest.mark.parametrize("body", [None, [], "x", 5])
async def test_a_body_must_be_an_object(world: World, body: object) -> None:
    """Anything but an object is refused, not a crash, for create and patch."""
    assert isinstance(await world.endpoints.create(body), Refusal)
    made = await world.make()
    assert isinstance(await world.endpoints.patch(made.endpoint.id, body), Refusal)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://inner.example.com/",
        "http://hooks.example.com/",
        "https://127.1/",
    ],
)
async def test_forbidden_addresses_are_refused_at_creation(world: World, url: str) -> None:
    """A literal, a name with one forbidden address among good ones, and plain http to the outside."""
    refused = await world.refused(url=url)
    assert refused.problems[0].loc == ("url",)
    assert refused.code in {"forbidden", "invalid_url"}


async def test_allowed_networks_are_reachable_by_plain_http(world: World) -> None:
    """What the operator opened is accepted."""
    assert (await world.make(url="http://127.0.0.1:8000/")).warnings == ()


@pytest.mark.parametrize("host", ["nowhere.example.com", "silent.example.com"])
async def test_a_name_that_does_not_resolve_is_accepted_with_a_warning(world: World, host: str) -> None:
    """Creation must not depend on the receiver's DNS being up; connect judges again."""
    assert host in (await world.make(url=f"https://{host}/")).warnings[0]


async def test_names_are_unique_in_their_tenant(world: World) -> None:
    """The second of a name is a conflict; in another tenant, or after the first is deleted, it is fine."""
    first = await world.make(name="crm")
    assert (await world.refused(name="crm")).code == "conflict"
    await world.make(name="crm", tenant="acme")
    other = await world.make(name="erp")
    refused = await world.endpoints.patch(other.endpoint.id, {"name": "crm"})
    assert isinstance(refused, Refusal)
    assert refused.code == "conflict"
    await world.endpoints.delete(first.endpoint.id)
    await world.make(name="crm")


async def test_patch_merges(world: World) -> None:
    """Headers and metadata merge member by member, null takes one out or restores a default, the rest is replaced."""
    made = await world.make(
        events=["a", "b"], headers={"X-A": "1", "X-B": "2"}, metadata={"k": "v"}, concurrency=3, description="old"
    )
    changed = (
        await world.change(
            made,
            {
                "events": ["c"],
                "headers": {"X-B": None, "X-C": "3"},
                "metadata": {"l": "w"},
                "concurrency": None,
                "description": "new",
            },
        )
    ).endpoint
    assert changed.events == ("c",)
    assert changed.headers == {"X-A": "1", "X-C": "3"}
    assert changed.metadata == {"k": "v", "l": "w"}
    assert changed.concurrency is None
    assert changed.description == "new"
    assert world.endpoints.match("default", "c") == (changed.lane,)
    assert world.endpoints.match("default", "a") == ()
    assert await world.reads.load_all() == [changed]


@pytest.mark.parametrize(
    ("patch", "revision"),
    [
        ({"url": "https://hooks.example.com/other"}, 2),
        ({"headers": {"X-A": "1"}}, 2),
        ({"secret": None}, 2),
        ({"secret": ""}, 2),
        ({"tls_verify": False}, 2),
        ({"url": URL}, 1),
        ({"headers": {}}, 1),
        ({"events": ["x"]}, 1),
        ({"concurrency": 2, "retry": {"delays_s": []}, "timeout_s": 3, "metadata": {"a": "b"}}, 1),
        ({}, 1),
    ],
)
async def test_the_revision_counts_what_changes_requests(world: World, patch: dict, revision: int) -> None:
    """Only a change of what is sent makes a new revision, and each revision can be read back."""
    made = await world.make()
    changed = await world.change(made, patch)
    assert changed.endpoint.revision == revision
    assert await world.reads.revision(made.endpoint.lane, 1) == made.endpoint
    stored = await world.reads.revision(made.endpoint.lane, revision)
    assert stored is not None
    assert stored.url == changed.endpoint.url


@pytest.mark.parametrize("name", ["tenant", "dialect", "id", "status"])
async def test_what_a_patch_cannot_change(world: World, name: str) -> None:
    """The members that are an endpoint's identity, and its status, are refused by name."""
    made = await world.make()
    refused = await world.endpoints.patch(made.endpoint.id, {name: "active", "colour": 1})
    assert isinstance(refused, Refusal)
    assert {problem.loc for problem in refused.problems} == {(name,), ("colour",)}


async def test_a_patch_is_judged_like_a_create(world: World) -> None:
    """Bad, forbidden and unbuilt values are refused in a patch too, and change nothing."""
    made = await world.make()
    for patch, code in [
        ({"url": "https://10.0.0.1/"}, "forbidden"),
        ({"url": "https://inner.example.com/"}, "forbidden"),
        ({"url": None}, "invalid_endpoint"),
        ({"events": ["a..b"]}, "invalid_endpoint"),
        ({"headers": {"Host": "x"}}, "invalid_endpoint"),
        ({"headers": 5}, "invalid_endpoint"),
        ({"ordering": "strict"}, "not_supported"),
        ({"rate_limit": {"requests": 1, "per_s": 1}}, "not_supported"),
    ]:
        refused = await world.endpoints.patch(made.endpoint.id, patch)
        assert isinstance(refused, Refusal), patch
        assert refused.code == code, patch
    assert world.endpoints.get(made.endpoint.id) == made.endpoint


async def test_a_new_secret_is_marked_for_showing_once(world: World) -> None:
    """A patch that sets or restores the secret says so; others don't."""
    made = await world.make()
    assert (await world.change(made, {"secret": None})).new_secret
    assert not (await world.change(made, {"secret": ""})).new_secret
    assert not (await world.change(made, {"description": "x"})).new_secret


async def test_pause_and_resume(world: World) -> None:
    """Paused, it still matches and its deliveries wait; both verbs may be said twice."""
    made = await world.make()
    for verb, status in [("pause", "paused"), ("pause", "paused"), ("resume", "active"), ("resume", "active")]:
        done = await getattr(world.endpoints, verb)(made.endpoint.id)
        assert isinstance(done, Changed)
        assert done.endpoint.status == status
        assert world.endpoints.match("default", "any.thing") == (made.endpoint.lane,)
    assert world.told == [made.endpoint.lane] * 3


async def test_disable_by_policy_and_resume_by_hand(world: World) -> None:
    """A disabled endpoint says why, and resume clears it."""
    made = await world.make()
    done = await world.endpoints.disable(made.endpoint.lane, "the receiver answered 410 Gone")
    assert isinstance(done, Changed)
    assert (done.endpoint.status, done.endpoint.status_reason) == ("disabled", "the receiver answered 410 Gone")
    resumed = await world.endpoints.resume(made.endpoint.id)
    assert isinstance(resumed, Changed)
    assert (resumed.endpoint.status, resumed.endpoint.status_reason) == ("active", None)


async def test_delete_is_soft_and_final(world: World) -> None:
    """A deleted endpoint matches nothing and can't be found, changed or deleted again; its lane isn't used anew."""
    made = await world.make()
    assert isinstance(await world.endpoints.delete(made.endpoint.id), Changed)
    assert world.endpoints.get(made.endpoint.id) is None
    assert world.endpoints.by_lane(made.endpoint.lane) is None
    assert world.endpoints.match("default", "a") == ()
    assert world.told == [made.endpoint.lane] * 2
    for verb in ("delete", "pause", "resume"):
        refused = await getattr(world.endpoints, verb)(made.endpoint.id)
        assert isinstance(refused, Refusal)
        assert refused.code == "not_found"
    refused = await world.endpoints.disable(made.endpoint.lane, "gone")
    assert isinstance(refused, Refusal)
    assert (await world.make()).endpoint.lane > made.endpoint.lane


async def test_a_caller_that_goes_away_leaves_table_and_snapshot_equal(world: World) -> None:
    """Cancelled at any moment, a verb is either not begun or done in both places."""
    for turns in range(12):
        task = asyncio.create_task(world.endpoints.create({"url": URL}))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await world.make()  # after those that still write
    assert {e.id for e in await world.reads.load_all()} == {e.id for e in world.endpoints}


async def test_verbs_at_once_all_count(world: World) -> None:
    """Patches that run at the same time must not undo each other."""
    made = await world.make()
    await asyncio.gather(*(world.change(made, {"metadata": {f"k{n}": "v"}}) for n in range(20)))
    endpoint = world.endpoints.get(made.endpoint.id)
    assert endpoint is not None
    assert len(endpoint.metadata) == 20


async def test_matching_follows_every_change(world: World) -> None:
    """However many endpoints come, change and go between two events, each event sees them as they are."""
    made = [await world.make(events=[f"t.n{n % 7}"]) for n in range(150)]
    for n, one in enumerate(made):
        if n % 3 == 0:
            await world.endpoints.delete(one.endpoint.id)
        elif n % 3 == 1:
            await world.change(one, {"events": ["other"]})
        for number in range(7) if n % 10 == 0 else ():
            wanted = tuple(e.lane for e in world.endpoints if f"t.n{number}" in e.events)
            assert world.endpoints.match("default", f"t.n{number}") == wanted
    assert len(world.endpoints.match("default", "other")) == 50


async def test_a_restart_brings_everything_back(world: World) -> None:
    """A snapshot filled from the table must equal the one that was built by verbs."""
    for n in range(5):
        made = await world.make(events=[f"t{n}"])
        if n == 2:
            await world.endpoints.delete(made.endpoint.id)
    again = Endpoints(
        writer=None,  # type: ignore[arg-type]
        policy=parse_policy(False, [], []),
        defaults=EndpointDefaults(),
        resolve=None,  # type: ignore[arg-type]
        clock=SystemClock(),
        chance=SystemChance(),
    )
    again.fill(await world.reads.load_all())
    assert list(again) == list(world.endpoints)
    assert again.match("default", "t3") == world.endpoints.match("default", "t3") != ()


async def test_newest_first(world: World) -> None:
    """The order of lists: ids downwards, from a given one on."""
    ids = [(await world.make()).endpoint.id for _ in range(5)]
    assert [e.id for e in world.endpoints.newest_first()] == sorted(ids, reverse=True)
    assert [e.id for e in world.endpoints.newest_first(sorted(ids)[2])] == sorted(ids)[1::-1]


async def test_effective_values(world: World) -> None:
    """An endpoint's own values count; where it has none, the settings' and the dialect's."""
    plain = world.endpoints.effective((await world.make()).endpoint)
    assert (plain.concurrency, plain.timeout_s, plain.retry.jitter) == (8, 30, 0.2)
    made = await world.make(concurrency=2, timeout_s=1.5, retry={"initial_s": 1, "attempts": 3})
    own = world.endpoints.effective(made.endpoint)
    assert (own.concurrency, own.timeout_s, own.retry.delays_s, own.retry.attempts) == (2, 1.5, None, 3)


@pytest.mark.parametrize(
    ("given", "delays_s", "attempts"),
    [({"delays_s": []}, (), 10), ({"delays_s": [1, 2.5]}, (1, 2.5), 10), ({"attempts": 4}, None, 4)],
)
async def test_both_forms_of_a_retry_policy(world: World, given: dict, delays_s: object, attempts: int) -> None:
    """A list of gaps is taken as it is, no gap at all too; anything else is the exponential form."""
    policy = (await world.make(retry=given)).endpoint.retry
    assert policy is not None
    assert (policy.delays_s, policy.attempts) == (delays_s, attempts)


async def test_a_jitter_alone_keeps_the_default_gaps(world: World) -> None:
    """Naming only the jitter must not switch to the exponential form."""
    policy = (await world.make(retry={"jitter": 0})).endpoint.retry
    assert policy is not None
    assert policy.jitter == 0
    assert policy.delays_s is not None
    assert len(policy.delays_s) == 9
