"""Declared endpoints, reconciled over the real store: created, changed, given up, and never the API's to change."""

import pytest
from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.config import Declaration
from ringback.core.egress import parse_policy
from ringback.core.model import RetryPolicy
from ringback.service.declared import Declared, Reconciled, judge
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed

POLICY = parse_policy(allow_http=False, allow_networks=[], deny_networks=[])
URL = "https://crm.example/hook"
SECRET = "whsec_c2VjcmV0IG9mIHRoZSBkZWNsYXJlZCBvbmVz"


@pytest.fixture
async def world(tmp_path):
    """A daemon's inside."""
    made = await World(tmp_path, FakeClock(), FakeChance(1), FakeNetwork(lambda _: answer(200))).start()
    yield made
    await made.stop()


def wanted(*tables):
    """Good declarations of these tables."""
    found, problems = judge([Declaration(f"endpoint.{n}", t) for n, t in enumerate(tables)], "standard", POLICY)
    assert problems == []
    return found


def problems(*tables):
    """What is wrong with these tables: {key: message}."""
    return dict(judge([Declaration(f"endpoint.{n}", t) for n, t in enumerate(tables)], "standard", POLICY)[1])


async def reconcile(world, *tables):
    """Reconcile with these tables."""
    declared, found = Declared(world.endpoints, world.clock), wanted(*tables)
    assert await declared.conflicts(found, POLICY) == []
    return await declared.reconcile(found)


def only(world):
    """The one endpoint there is."""
    (endpoint,) = world.endpoints
    return endpoint


async def test_what_is_new_is_created_once(world):
    """The same declaration twice makes one endpoint and the second changes nothing, not even a generated secret."""
    table = {"name": "crm", "url": "https://CRM.example:443/hook", "events": ["stt.**"], "headers": {"X-Team": "a"}}
    assert await reconcile(world, table) == Reconciled(created=1)
    made = only(world)
    assert (made.name, made.url, made.declared, bool(made.secrets)) == ("crm", URL, True, True)
    assert await reconcile(world, table) == Reconciled()
    assert only(world) == made


async def test_it_outlives_a_restart(world, tmp_path):
    """The next life finds the endpoint, its generated secret and its owner."""
    await reconcile(world, {"name": "crm", "url": URL})
    before = only(world)
    await world.stop()
    again = await World(tmp_path, world.clock, world.chance, world.network).start()
    assert await reconcile(again, {"name": "crm", "url": URL}) == Reconciled()
    assert only(again) == before
    world.reader, world.writer, world.database = again.reader, again.writer, again.database


async def test_a_file_is_the_whole_truth_but_for_the_secret(world):
    """A field that is left out goes back to its default, a header that is gone is gone; the secret stays."""
    full = {
        "name": "crm",
        "url": URL,
        "secret": SECRET,
        "concurrency": 3,
        "retry": {"delays_s": [1]},
        "headers": {"X-A": "1", "X-B": "2"},
        "metadata": {"k": "v"},
        "description": "d",
        "tls_verify": False,
    }
    await reconcile(world, full)
    assert await reconcile(world, {"name": "crm", "url": URL, "headers": {"X-B": "3"}}) == Reconciled(changed=1)
    left = only(world)
    assert (left.concurrency, left.retry, left.headers, left.metadata) == (None, None, {"X-B": "3"}, {})
    assert (left.description, left.tls_verify, left.secrets[0].value) == (None, True, SECRET)


@pytest.mark.parametrize(
    ("before", "after", "policy"),
    [
        ({"delays_s": [1, 2], "jitter": 0.0}, {"delays_s": [3]}, RetryPolicy(delays_s=(3,))),
        ({"delays_s": [1, 2], "jitter": 0.0}, {"jitter": 0.5}, RetryPolicy(jitter=0.5)),
        ({"initial_s": 1.0, "factor": 3.0}, {"attempts": 3}, RetryPolicy(None, attempts=3)),
    ],
)
async def test_what_a_retry_policy_no_longer_says_is_the_default(world, before, after, policy):
    """A file is no patch: members of a policy that are gone from it don't stay from what it said before."""
    await reconcile(world, {"name": "crm", "url": URL, "retry": before, "rate_limit": {"requests": 5, "per_s": 2}})
    assert (await reconcile(world, {"name": "crm", "url": URL, "retry": after})).changed == 1
    assert (only(world).retry, only(world).rate_limit) == (policy, None)


async def test_a_new_secret_in_the_file_replaces_the_old_one(world):
    """What the file says is signed with from the next attempt on."""
    await reconcile(world, {"name": "crm", "url": URL})
    assert await reconcile(world, {"name": "crm", "url": URL, "secret": SECRET}) == Reconciled(changed=1)
    assert [secret.value for secret in only(world).secrets] == [SECRET]
    assert await reconcile(world, {"name": "crm", "url": URL, "secret": ""}) == Reconciled(changed=1)
    assert only(world).secrets == ()


async def test_what_no_file_names_is_disabled_and_its_deliveries_held(world):
    """A typo must not cancel a backlog: what was owed goes out once the declaration is back."""
    await reconcile(world, {"name": "crm", "url": URL})
    assert await reconcile(world) == Reconciled(undeclared=1)
    gone = only(world)
    assert (gone.status, gone.status_reason, gone.declared) == ("disabled", "undeclared", False)
    world.emit(b'{"id":"a","type":"stt.jobs.completed","data":{}}')
    await world.settle()
    assert not world.network.delivered
    assert await reconcile(world, {"name": "crm", "url": URL}) == Reconciled(changed=1)
    assert (only(world).status, only(world).declared) == ("active", True)
    await world.settle()
    assert world.network.delivered == {(URL, "a"): 1}


async def test_the_api_may_not_change_it_until_no_file_names_it(world):
    """PATCH and DELETE are conflicts; pause and resume are allowed and outlive a reload."""
    table = {"name": "crm", "url": URL}
    await reconcile(world, table)
    key = only(world).id
    for refused in (await world.endpoints.patch(key, {"concurrency": 1}), await world.endpoints.delete(key)):
        assert isinstance(refused, Refusal)
        assert refused.code == "conflict"
    assert isinstance(await world.endpoints.pause(key), Changed)
    assert await reconcile(world, table) == Reconciled()
    assert only(world).status == "paused"
    assert isinstance(await world.endpoints.resume(key), Changed)
    await reconcile(world)
    assert isinstance(await world.endpoints.delete(key), Changed)


async def test_an_endpoint_disabled_by_its_receiver_stays_so(world):
    """A 410 is not undone by a reload."""
    await reconcile(world, {"name": "crm", "url": URL})
    await world.endpoints.disable(only(world).lane, "gone")
    assert await reconcile(world, {"name": "crm", "url": URL}) == Reconciled()
    assert (only(world).status, only(world).status_reason) == ("disabled", "gone")
    assert await reconcile(world) == Reconciled(undeclared=1)
    assert (only(world).declared, only(world).status_reason) == (False, "gone")


async def test_one_of_that_name_made_by_the_api_is_taken_over(world):
    """Identity is tenant and name: the endpoint keeps its id, its secret and its history."""
    made = (await world.endpoints.create({"name": "crm", "url": "https://old.example/", "tenant": "acme"})).endpoint
    await world.endpoints.create({"name": "crm", "url": "https://other.example/"})
    assert await reconcile(world, {"name": "crm", "url": URL, "tenant": "acme"}) == Reconciled(changed=1)
    now = world.endpoints.get(made.id)
    assert (now.url, now.declared, now.secrets) == (URL, True, made.secrets)
    assert sum(endpoint.declared for endpoint in world.endpoints) == 1


async def test_a_dialect_cannot_change_under_a_name(world):
    """What can't be made of the endpoint there is is a problem with its place, before anything is touched."""
    await reconcile(world, {"name": "crm", "url": URL})
    found, _ = judge(
        [Declaration("x: endpoint.0", {"name": "crm", "url": URL, "dialect": "standard"})], "standard", POLICY
    )
    assert await Declared(world.endpoints, world.clock).conflicts(found, POLICY) == []
    found[0].body["dialect"] = "prosa"
    ((key, message),) = await Declared(world.endpoints, world.clock).conflicts(found, POLICY)
    assert key == "x: endpoint.0.dialect"
    assert "another name" in message


def test_every_problem_is_told_with_its_place():
    """Declarations are judged as the API judges a create, all of them at once, and a name is required."""
    told = problems(
        {"url": URL},
        {"name": "a", "url": "https://10.0.0.1/", "colour": "red", "concurrency": 0},
        {"name": "b", "url": URL},
        {"name": "b", "url": URL},
        {"name": "b", "url": URL, "tenant": "acme"},
        {"name": "c"},
        {"name": "c", "url": URL},
        {"name": "a", "url": URL, "concurrency": 0},
        {"name": 3, "url": URL},
    )
    assert told.keys() == {
        "endpoint.0.name",
        "endpoint.1.colour",
        "endpoint.1.concurrency",
        "endpoint.3.name",
        "endpoint.5.url",
        "endpoint.6.name",
        "endpoint.7.concurrency",
        "endpoint.7.name",
        "endpoint.8.name",
    }
    assert problems({"name": "a", "url": "https://10.0.0.1/"}).keys() == {"endpoint.0.url"}
