"""CloudEvents over the real store: the rate a receiver allows is kept, and its consent may come later."""

import pytest
from tests.harness.world import answer
from tests.service.verify_case import Case

from ringback.core.handshake import CONSENT_WINDOW_S
from ringback.service.endpoints import Changed


@pytest.fixture
async def case(tmp_path):
    """A world of its own."""
    made = Case(tmp_path)
    await made.start()
    yield made
    await made.world.stop()


def consents(rate=None, origin="us.example"):
    """An answer to OPTIONS that consents."""
    headers = (("WebHook-Allowed-Origin", origin), *((("WebHook-Allowed-Rate", rate),) if rate else ()))
    return lambda _: answer(200, headers=headers)


async def test_the_allowed_rate_is_kept(case):
    """Six a minute: never more in any minute, counted by the clock, and none is lost; the origin goes along."""
    case.reply = consents("6")
    endpoint = await case.make("cloudevents", concurrency=4)
    case.emit(*range(20))
    await case.settle()
    assert case.endpoint.proof.per_min == 6
    counts = [len(case.delivered)]
    for _ in range(24):
        await case.settle(10)
        counts.append(len(case.delivered))
    assert counts[0] <= 6
    assert all(counts[n + 5] - counts[n] <= 6 for n in range(len(counts) - 5)), counts
    assert sorted(case.delivered) == list(range(20))
    assert case.endpoint.revision == endpoint.revision + 1, "what is sent changed: the origin is repeated"


async def test_a_rate_limit_of_our_own_is_asked_for_and_kept(case):
    """rate_limit holds beside what the receiver allows; its rate a minute is what is asked."""
    case.reply = consents("600")
    await case.make("cloudevents", rate_limit={"requests": 2, "per_s": 10})
    case.emit(*range(5))
    await case.settle()
    assert dict(case.challenges[0].headers)["WebHook-Request-Rate"] == "12"
    assert len(case.delivered) == 2
    await case.settle(10)
    assert len(case.delivered) == 4
    await case.world.endpoints.patch(case.id, {"rate_limit": None})
    await case.settle()
    assert len(case.delivered) == 5


async def test_consent_may_come_by_the_callback_also_after_a_restart(case):
    """The url in the challenge works for that token alone, once, and outlives a restart."""
    case.reply = lambda _: answer(405)
    await case.make("cloudevents")
    case.emit(1)
    assert (await case.settle()).status == "pending"
    callback = dict(case.challenges[0].headers)["WebHook-Request-Callback"]
    base, _, token = callback.rpartition("/")
    assert base == "https://us.example/api/v1/handshakes"
    await case.restart()
    await case.settle()
    assert len(case.challenges) == 1, "a restart doesn't ask again while the first token is good"
    for bad in ("", token[:-1], token.upper() + "x"):
        assert (await case.world.verify.consent(bad, "", "")).code == "not_found"
    assert (await case.world.verify.consent(token, "other.example", "")).code == "invalid_consent"
    done = await case.world.verify.consent(token, "", "30")
    assert isinstance(done, Changed)
    assert done.endpoint.status == "active"
    assert (await case.world.verify.consent(token, "", "")).code == "not_found"
    await case.settle()
    assert (case.delivered, case.endpoint.proof.per_min) == ([1], 30)


async def test_a_consent_that_never_comes_fails(case):
    """After its window the endpoint is failed and the token worth nothing."""
    case.reply = lambda _: answer(405)
    await case.make("cloudevents")
    await case.settle()
    token = dict(case.challenges[0].headers)["WebHook-Request-Callback"].rpartition("/")[2]
    failed = await case.settle(CONSENT_WINDOW_S)
    assert (failed.status, failed.status_reason.split(":")[0]) == ("failed", "no_consent")
    assert (await case.world.verify.consent(token, "", "")).code == "not_found"


async def test_a_consent_to_what_changes_meanwhile_is_none(case, monkeypatch):
    """Who consents while the url is being changed is not told that it counted: the new one has to be proved."""
    case.reply = lambda _: answer(405)
    await case.make("cloudevents")
    await case.settle()
    token = dict(case.challenges[0].headers)["WebHook-Request-Callback"].rpartition("/")[2]
    change = case.world.endpoints.change

    async def change_slowly(*args):
        await case.world.endpoints.patch(case.id, {"url": "https://receiver.example/other"})
        return await change(*args)

    monkeypatch.setattr(case.world.endpoints, "change", change_slowly)
    assert (await case.world.verify.consent(token, "", "")).code == "not_found"
    assert case.endpoint.status == "pending"


async def test_no_token_and_no_consent_lies_in_the_table(case):
    """What is stored of a consent that may come is a hash."""
    case.reply = lambda _: answer(405)
    await case.make("cloudevents")
    await case.settle()
    token = dict(case.challenges[0].headers)["WebHook-Request-Callback"].rpartition("/")[2]
    assert token.encode() not in (case.tmp_path / "ringback.db-wal").read_bytes()
