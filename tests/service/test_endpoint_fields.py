"""What a create may say: each bad, forbidden or unbuilt member is refused by name; all problems at once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.service.endpoint_world import World, open_world

from ringback.service.endpoint_fields import Refusal


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh state directory with everything endpoints need."""
    async with open_world(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"ordering": "key"}, "ordering"),
        ({"ordering": "strict"}, "ordering"),
    ],
)
async def test_what_is_not_built_is_refused_by_name(world: World, members: dict, place: str) -> None:
    """A member whose behaviour isn't there must be refused as not_supported, naming it, never ignored."""
    refused = await world.refused(**members)
    assert refused.code == "not_supported"
    assert place in [problem.loc[0] for problem in refused.problems]


@pytest.mark.parametrize("members", [{"ordering": "none"}, {"rate_limit": {"requests": 5, "per_s": 1.5}}])
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
        ({"handshake": "zoom", "secret": ""}, ("handshake",)),
        ({"handshake": "graph", "url": "https://hooks.example.com/" + "x" * 2000}, ("handshake",)),
        ({"rate_limit": {"requests": 0, "per_s": 1}}, ("rate_limit", "requests")),
        ({"rate_limit": {"requests": 1, "per_s": 0}}, ("rate_limit", "per_s")),
        ({"rate_limit": {"requests": 1}}, ("rate_limit", "per_s")),
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
