"""Handshakes over the real store and services: what a receiver's answers make of an endpoint."""

import asyncio
import hashlib
import hmac
import json

import pytest
from tests.harness.world import answer
from tests.service.verify_case import URL, Case, token_of

from ringback.core.handshake import GAPS_S, RENEWAL_GAPS_S
from ringback.core.handshake_kinds import LEASE_RENEWAL_S
from ringback.core.model import Outcome, OutcomeKind
from ringback.core.places import MAX_PER_HOST, MAX_PER_TENANT
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed


@pytest.fixture
async def case(tmp_path):
    """A world of its own."""
    made = Case(tmp_path)
    await made.start()
    yield made
    await made.world.stop()


@pytest.mark.parametrize("kind", ["azure-speech", "azure-speech-strict", "graph", "websub"])
async def test_an_echo_activates(case, kind):
    """Creation answers pending at once; the handshake runs beside it and activates."""
    assert (await case.make(kind)).status == "pending"
    assert (await case.settle()).status == "active"
    assert len(case.challenges) == 1


async def test_what_is_held_goes_out_on_activation_in_order(case):
    """No event reaches an unproved endpoint; afterwards all go, in order, beginning with one."""
    case.reply = lambda _: Outcome(OutcomeKind.CONNECT_FAILED, error="refused", maybe_sent=False)
    await case.make(concurrency=1)
    for n in range(0, 40, 4):
        case.emit(*range(n, n + 4))
        await case.settle()
    assert case.delivered == []
    case.reply = case.echo
    assert (await case.settle(GAPS_S[0])).status == "active"
    assert case.delivered == list(range(40))


async def test_the_drain_begins_with_one_request(case):
    """An endpoint with a wide window before its new proof starts again with a single request."""
    endpoint = await case.make(concurrency=8)
    for n in range(30):
        case.emit(n)
        await case.settle()
    lane = case.world.dispatch.board.lanes[endpoint.lane]
    lane.window = type(lane.window)(8.0, 0, proved=True)
    case.reply = lambda _: asyncio.get_running_loop().create_future()
    await case.world.endpoints.patch(case.id, {"url": URL + "2"})
    assert case.endpoint.status == "pending"
    assert lane.window.size == 1.0


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda _: answer(200, body=b"hello"), "wrong_echo"),
        (lambda r: answer(302, body=token_of(r).encode()), "redirected"),
        (lambda r: answer(200, body=token_of(r).encode() * 100), "oversized"),
        (lambda _: answer(404), "bad_status"),
        (lambda _: Outcome(OutcomeKind.EGRESS_DENIED, error="10.0.0.1 is private", maybe_sent=False), "egress_denied"),
    ],
)
async def test_a_wrong_answer_fails_at_once_by_name(case, reply, reason):
    """The reason stands on the endpoint; nothing is sent to it; no second try."""
    case.reply = reply
    await case.make()
    case.emit(1)
    failed = await case.settle()
    assert (failed.status, failed.status_reason.split(":")[0]) == ("failed", reason)
    await case.settle(86_400)
    assert len(case.challenges) == 1
    assert case.delivered == []


@pytest.mark.parametrize(
    ("kind", "reason"), [(OutcomeKind.CONNECT_FAILED, "unreachable"), (OutcomeKind.TIMEOUT, "late")]
)
async def test_a_network_fault_is_tried_again_with_a_fresh_token(case, kind, reason):
    """A few tries with rests between them, then failed by its name; each try has a token of its own."""
    case.reply = lambda _: Outcome(kind, error="words")
    await case.make()
    assert (await case.settle()).status == "pending"
    for gap in GAPS_S:
        await case.settle(gap)
    assert case.endpoint.status == "failed"
    assert case.endpoint.status_reason == f"{reason}: words"
    assert len({token_of(request) for request in case.challenges}) == len(GAPS_S) + 1


async def test_a_challenge_by_hand_leaves_failed(case):
    """Failed, challenged, active: and what was held all the time goes out."""
    case.reply = lambda _: answer(404)
    await case.make()
    case.emit(1, 2)
    await case.settle()
    case.reply = case.echo
    done = await case.world.verify.challenge(case.id)
    assert isinstance(done, Changed)
    assert done.endpoint.status == "pending"
    assert (await case.settle()).status == "active"
    assert case.delivered == [1, 2]
    assert len(case.challenges) == 2, "one call is one challenge"


@pytest.mark.parametrize("kind", ["none", "assumed"])
async def test_what_asks_nothing_has_nothing_to_challenge(case, kind):
    """Such endpoints are active at once; challenging them is a conflict, an unknown id is not found."""
    assert (await case.make(kind)).status == "active"
    refused = await case.world.verify.challenge(case.id)
    assert isinstance(refused, Refusal)
    assert refused.code == "conflict"
    assert (await case.world.verify.challenge("x")).code == "not_found"
    await case.settle()
    assert case.challenges == []


async def test_a_new_url_is_proved_again_and_the_old_answer_counts_for_nothing(case):
    """An echo that was under way while the url changed doesn't activate the new one."""
    waiting = asyncio.get_running_loop().create_future()
    case.reply = lambda _: waiting
    await case.make()
    await case.world.turns()
    assert len(case.challenges) == 1
    other = asyncio.get_running_loop().create_future()
    case.reply = lambda _: other
    await case.world.endpoints.patch(case.id, {"url": "https://other.example/"})
    waiting.set_result(case.echo(case.challenges[0]))
    for _ in range(5):
        await case.world.turns()
    assert case.endpoint.status == "pending"
    assert case.challenges[1].url.startswith("https://other.example/?validationToken=")
    other.set_result(case.echo(case.challenges[1]))
    assert (await case.settle()).status == "active"


@pytest.mark.parametrize(
    ("kind", "patch", "again"),
    [
        ("azure-speech", {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, True),
        ("graph", {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, False),
        ("graph", {"handshake": "azure-speech"}, True),
        ("graph", {"handshake": "none"}, False),
        ("graph", {"concurrency": 3}, False),
        ("graph", {"url": URL}, True),
    ],
)
async def test_what_voids_a_proof(case, kind, patch, again):
    """A url, another handshake, and a secret where the kind signs are proved again; nothing else is."""
    await case.make(kind)
    await case.settle()
    done = await case.world.endpoints.patch(case.id, patch)
    assert isinstance(done, Changed), done
    assert done.endpoint.status == ("pending" if again else "active")
    assert (await case.settle()).status == "active"
    assert len(case.challenges) == 1 + again


async def test_a_restart_in_the_middle_resumes(case):
    """Killed while the challenge is out: the next start asks again, and the old token is worth nothing."""
    case.reply = lambda _: asyncio.get_running_loop().create_future()
    await case.make()
    case.emit(1)
    for _ in range(5):
        await case.world.turns()
    assert len(case.challenges) == 1
    case.reply = case.echo
    await case.restart()
    assert (await case.settle()).status == "active"
    assert token_of(case.challenges[0]) != token_of(case.challenges[1])
    assert case.delivered == [1]


async def test_a_failed_endpoint_stays_failed_over_a_restart(case):
    """Nobody asked it again."""
    case.reply = lambda _: answer(404)
    await case.make()
    await case.settle()
    await case.restart()
    assert (await case.settle(3600)).status == "failed"
    assert len(case.challenges) == 1


async def test_a_paused_endpoint_is_proved_beneath_its_pause(case):
    """The proof goes on; resume finds it, and only then anything is delivered."""
    await case.make()
    await case.world.endpoints.pause(case.id)
    case.emit(1)
    await case.settle()
    assert (case.endpoint.status, case.endpoint.below, case.delivered) == ("paused", "active", [])
    await case.world.endpoints.resume(case.id)
    assert (await case.settle()).status == "active"
    assert case.delivered == [1]


async def test_a_lease_is_renewed_before_it_ends(case):
    """After its time the proof is made again; deliveries go on meanwhile; a restart doesn't forget it."""
    await case.make("websub")
    await case.settle()
    await case.settle(LEASE_RENEWAL_S - 10)
    assert len(case.challenges) == 1
    await case.restart()
    await case.settle(11)
    assert len(case.challenges) == 2
    case.emit(1)
    assert (await case.settle()).status == "active"
    assert case.delivered == [1]


async def test_a_renewal_that_fails_after_all_its_tries_takes_the_proof_away(case):
    """An outage is given hours; then the endpoint is failed and what it is owed is held."""
    await case.make("websub")
    await case.settle()
    case.reply = lambda _: answer(503)
    await case.settle(LEASE_RENEWAL_S)
    for gap in RENEWAL_GAPS_S:
        assert case.endpoint.status == "active"
        await case.settle(gap)
    assert case.endpoint.status == "failed"
    assert case.endpoint.status_reason == "bad_status: the receiver answered 503"
    case.emit(1)
    await case.settle()
    assert case.delivered == []


async def test_many_are_challenged_a_few_at_a_time(case):
    """However many are pending at one host, only so many challenges are out; in the end all were asked."""
    gate = asyncio.get_running_loop().create_future()

    async def wait(request):
        await asyncio.shield(gate)
        return case.echo(request)

    case.reply = wait
    for n in range(10 * MAX_PER_HOST):
        await case.world.endpoints.create({"url": f"{URL}/{n}", "handshake": "graph"})
    for _ in range(10):
        await case.world.turns()
    assert len(case.challenges) == MAX_PER_HOST
    gate.set_result(None)
    for _ in range(1000):
        await case.world.turns()
        if {endpoint.status for endpoint in case.world.endpoints} == {"active"}:
            return
    raise AssertionError("some are never proved")


async def test_who_hangs_keeps_nobody_else_from_being_proved(case):
    """A hundred endpoints at receivers that never answer: another host, and another tenant, are proved meanwhile."""
    never = asyncio.get_running_loop().create_future()
    case.reply = lambda request: never if "//hang" in request.url else case.echo(request)

    async def make(url, tenant="default"):
        return (await case.world.endpoints.create({"url": url, "handshake": "graph", "tenant": tenant})).endpoint.id

    async def prove(endpoint_id):
        for _ in range(10):
            await case.world.turns()
        return case.world.endpoints.get(endpoint_id).status

    for n in range(100):
        await make(f"https://hang.example/{n}")
    assert await prove(await make(URL)) == "active"
    assert len(case.challenges) == MAX_PER_HOST + 1
    for n in range(100):
        await make(f"https://hang{n}.example/")
    assert await prove(await make(URL, "other")) == "active"
    assert len(case.challenges) == MAX_PER_TENANT + 2


async def test_while_all_is_diverted_nothing_is_challenged(case):
    """Another receiver's answer proves nothing; when the diversion ends, the pending ones are asked."""
    case.world.verify.reconfigure(5.0, "https://staging.example/")
    await case.make()
    assert (await case.settle(3600)).status == "pending"
    assert (await case.world.verify.challenge(case.id)).code == "conflict"
    assert case.challenges == []
    case.world.verify.reconfigure(5.0, "")
    assert (await case.settle()).status == "active"


async def test_a_resting_handshake_ends_with_a_disable(case):
    """One that was to be tried again asks no more once its endpoint is disabled; a resume begins it anew."""
    endpoint = await case.make()
    case.reply = lambda _: Outcome(OutcomeKind.CONNECT_FAILED, error="words", maybe_sent=False)
    await case.settle()
    assert len(case.challenges) == 1
    await case.world.endpoints.disable(endpoint.lane, "gone")
    await case.settle(3600)
    assert len(case.challenges) == 1
    case.reply = case.echo
    await case.world.endpoints.resume(case.id)
    assert (await case.settle()).status == "active"


async def test_a_disabled_endpoint_is_challenged_by_hand_all_the_same(case):
    """Whoever asks for it gets it, with its tries again."""
    endpoint = await case.make()
    await case.settle()
    await case.world.endpoints.disable(endpoint.lane, "gone")
    case.reply = lambda _: Outcome(OutcomeKind.CONNECT_FAILED, error="words", maybe_sent=False)
    await case.world.verify.challenge(case.id)
    await case.settle()
    await case.settle(GAPS_S[0])
    assert len(case.challenges) == 3


async def test_a_deleted_endpoint_is_left_alone(case):
    """Its challenge's answer changes nothing and no further one is sent."""
    case.reply = lambda _: Outcome(OutcomeKind.RESET, error="x")
    await case.make()
    await case.settle()
    await case.world.endpoints.delete(case.id)
    case.clock.advance(3600)
    await case.world.turns()
    assert len(case.challenges) == 1
    assert case.world.verify._runs == {}


async def test_no_turn_given_before_a_change_reaches_an_unproved_url(case):
    """The url changes between the board's word and the attempt: nothing is sent to the new one."""
    await case.make()
    await case.settle()
    case.reply = lambda _: asyncio.get_running_loop().create_future()
    case.emit(1)
    await case.world.barrier()
    await case.world.dispatch.turn(case.clock.now_ms())
    endpoint = case.endpoint
    moved = type(endpoint)(**{f: getattr(endpoint, f) for f in endpoint.__struct_fields__} | {"status": "pending"})
    case.world.endpoints.install(moved)
    for _ in range(5):
        await case.world.turns()
    assert case.delivered == []


async def test_a_declaration_that_says_the_same_again_voids_nothing(case):
    """At every start and reload the files say the url anew: what was proved stays proved unless it is another one."""
    await case.make("zoom", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    await case.world.endpoints.patch(case.id, {"handshake": "graph"})
    assert (await case.settle()).status == "active"
    table = {"url": URL, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "handshake": "graph"}
    done = await case.world.endpoints.patch(case.id, table, declared=True)
    assert isinstance(done, Changed)
    assert done.endpoint.status == "active"
    moved = await case.world.endpoints.patch(case.id, table | {"url": URL + "2"}, declared=True)
    assert isinstance(moved, Changed)
    assert moved.endpoint.status == "pending"


async def test_zoom_is_proved_by_the_secret(case):
    """The keyed hash of the token activates, and is asked for again after 72 hours."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    def reply(request):
        plain = json.loads(request.body)["payload"]["plainToken"]
        encrypted = hmac.new(secret.encode(), plain.encode(), hashlib.sha256).hexdigest()
        return answer(200, body=json.dumps({"plainToken": plain, "encryptedToken": encrypted}).encode())

    case.reply = reply
    await case.make("zoom", secret=secret)
    assert (await case.settle()).status == "active"
    assert (await case.settle(72 * 3600 - 1)).status == "active"
    assert len(case.challenges) == 1
    await case.settle(1)
    assert len(case.challenges) == 2
