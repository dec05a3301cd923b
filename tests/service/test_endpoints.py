"""The endpoints' verbs against a real store: what they change in table, snapshot and matching."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.service.endpoint_world import URL, World, open_world

from ringback.core.egress import parse_policy
from ringback.core.model import EndpointStatus, RateLimit, RetryPolicy
from ringback.kit.clock import SystemChance, SystemClock
from ringback.service.effective import EndpointDefaults
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed, Endpoints


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh state directory with everything endpoints need."""
    async with open_world(tmp_path) as made:
        yield made


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
    ("patch", "headers"),
    [
        ({"x-key": None}, {"X-Team": "t"}),
        ({"x-key": "new"}, {"X-Team": "t", "x-key": "new"}),
        ({"X-KEY": None, "x-key": "new"}, {"X-Team": "t", "x-key": "new"}),
        ({"X-Other": "o"}, {"X-Key": "old", "X-Team": "t", "X-Other": "o"}),
    ],
)
async def test_a_patch_knows_a_header_in_any_case(world: World, patch: dict, headers: dict) -> None:
    """A header's name is the same however it is written: null removes it, a value replaces it."""
    made = await world.make(headers={"X-Key": "old", "X-Team": "t"})
    assert (await world.change(made, {"headers": patch})).endpoint.headers == headers


GAPS = {"delays_s": [1, 2], "jitter": 0}
GROWING = {"initial_s": 1, "factor": 3, "max_s": 60, "attempts": 4, "jitter": 0}


@pytest.mark.parametrize(
    ("held", "patch", "policy"),
    [
        (GAPS, {"jitter": 0.5}, RetryPolicy(delays_s=(1, 2), jitter=0.5)),
        (GAPS, {"delays_s": [9]}, RetryPolicy(delays_s=(9,), jitter=0)),
        (GAPS, {"jitter": None}, RetryPolicy(delays_s=(1, 2))),
        (GAPS, {"delays_s": None}, RetryPolicy(jitter=0)),
        (GAPS, {"attempts": 3}, RetryPolicy(None, attempts=3, jitter=0)),
        (GAPS, {}, RetryPolicy(delays_s=(1, 2), jitter=0)),
        (GROWING, {"factor": 2}, RetryPolicy(None, 1, 2, 60, 4, 0)),
        (GROWING, {"max_s": None}, RetryPolicy(None, 1, 3, 86400, 4, 0)),
        (GROWING, {"delays_s": []}, RetryPolicy(delays_s=(), jitter=0)),
        (None, {"jitter": 0}, RetryPolicy(jitter=0)),
        (GROWING, None, None),
    ],
)
async def test_a_retry_policy_merges_member_by_member(world: World, held: Any, patch: Any, policy: Any) -> None:
    """What a patch of the policy doesn't name stays, as merge patch has it; the other form drops the one there was."""
    made = await world.make(retry=held)
    assert (await world.change(made, {"retry": patch})).endpoint.retry == policy


async def test_a_rate_limit_merges_member_by_member(world: World) -> None:
    """The member that a patch doesn't name stays; one that has no default can't be removed alone."""
    made = await world.make(rate_limit={"requests": 5, "per_s": 2})
    changed = await world.change(made, {"rate_limit": {"requests": 7}})
    assert changed.endpoint.rate_limit == RateLimit(7, 2)
    refused = await world.endpoints.patch(made.endpoint.id, {"rate_limit": {"per_s": None}})
    assert isinstance(refused, Refusal)
    assert (await world.change(made, {"rate_limit": None})).endpoint.rate_limit is None


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
        ({"rate_limit": {"requests": 0, "per_s": 1}}, "invalid_endpoint"),
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


async def test_a_tenant_has_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it a create is refused by name, until one is deleted; other tenants aren't touched."""
    monkeypatch.setattr("ringback.service.endpoints.MAX_ENDPOINTS_PER_TENANT", 2)
    first = await world.make()
    await world.make()
    refused = await world.endpoints.create({"url": URL})
    assert isinstance(refused, Refusal)
    assert refused.code == "too_many_endpoints"
    await world.make(tenant="acme")
    await world.endpoints.delete(first.endpoint.id)
    await world.make()


async def test_what_the_log_says(world: World) -> None:
    """Each change is a line with the endpoint's id; no secret and no query of its url is in it."""
    with structlog.testing.capture_logs() as lines:
        made = await world.make(url="https://hooks.example.com/in?token=q-q-q", secret="", name="crm")
        await world.endpoints.pause(made.endpoint.id)
        await world.endpoints.resume(made.endpoint.id)
        await world.endpoints.disable(made.endpoint.lane, "gone")
        await world.change(made, {"secret": None})
        await world.endpoints.delete(made.endpoint.id)
    assert [line["event"] for line in lines] == [
        "endpoint.created", "endpoint.paused", "endpoint.activated", "endpoint.disabled", "endpoint.changed",
        "endpoint.deleted",
    ]  # fmt: skip
    assert {line["endpoint_id"] for line in lines} == {made.endpoint.id}
    assert {line["endpoint_name"] for line in lines} == {"crm"}
    assert lines[0]["signed"] is False
    assert lines[3]["reason"] == "gone"
    assert "q-q-q" not in str(lines)
    assert "whsec" not in str(lines)
