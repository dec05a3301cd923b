"""Both producers against a scripted daemon on a real socket: restarts, refusals, silence."""

import asyncio
import contextlib
import threading

import pytest
from tests.client.script import Script, no, ok
from tests.harness.waiting import LADDER_S, wait_until

from ringback import AsyncProducer, Producer, Rejected, Unavailable


class Blocking:
    """The blocking producer, asked from a coroutine."""

    def __init__(self, *args, **kwargs):
        self._producer = Producer(*args, **kwargs)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._producer.close()

    async def send(self, *args, **kwargs):
        return await asyncio.to_thread(self._producer.send, *args, **kwargs)

    async def send_many(self, events):
        return await asyncio.to_thread(self._producer.send_many, events)

    async def stream(self, events):
        for outcome in await asyncio.to_thread(lambda: list(self._producer.stream(events))):
            yield outcome


@pytest.fixture(params=[Blocking, AsyncProducer], ids=["blocking", "asyncio"])
def kind(request):
    """Both producers must behave alike."""
    return request.param


async def test_an_event_is_acknowledged(scripted, kind):
    """A send returns the daemon's word, and gives the daemon what it was given."""
    script = scripted(lambda event: ok(event, duplicate=True))
    async with kind(script.path) as producer:
        ack = await producer.send("a.b", {"x": 1}, tenant="acme", id="e1", created_at="2026-11-21T10:00:00Z")
    assert (ack.id, ack.deliveries, ack.duplicate) == ("e1", 2, True)
    (event,) = script.events
    assert event == {
        "type": "a.b",
        "data": {"x": 1},
        "tenant": "acme",
        "id": "e1",
        "created_at": "2026-11-21T10:00:00Z",
    }


async def test_a_refusal_is_raised_by_name(scripted, kind):
    """Rejected has code, message, field and id, and the connection goes on."""
    script = scripted(lambda event: no("conflict", "id") if event["id"] == "bad" else ok(event))
    async with kind(script.path) as producer:
        with pytest.raises(Rejected) as caught:
            await producer.send("a", {}, id="bad")
        assert (caught.value.code, caught.value.message, caught.value.field) == ("conflict", "why", "id")
        assert caught.value.id == "bad"
        assert (await producer.send("a", {}, id="good")).id == "good"
    assert script.connections == 1


async def test_many_are_answered_in_order(scripted, kind):
    """One outcome an event, in order, refusals in their places, whatever the window."""
    script = scripted(lambda event: no("invalid_event") if event["data"]["n"] % 10 == 0 else ok(event))
    events = [{"id": f"e{n}", "type": "a", "data": {"n": n}} for n in range(500)]
    async with kind(script.path, window=7) as producer:
        outcomes = await producer.send_many(events)
    assert [outcome.id for outcome in outcomes] == [event["id"] for event in events]
    assert [isinstance(outcome, Rejected) for outcome in outcomes] == [n % 10 == 0 for n in range(500)]


async def test_a_stream_is_answered_in_order(scripted, kind):
    """Any iterable, a window at a time."""
    script = scripted(ok)
    async with kind(script.path, window=16) as producer:
        outcomes = [o async for o in producer.stream({"id": f"e{n}", "type": "a", "data": {}} for n in range(100))]
    assert [outcome.id for outcome in outcomes] == [f"e{n}" for n in range(100)]


async def test_large_events_do_not_block_each_other(scripted, kind):
    """A window of lines far larger than any socket buffer goes through, answers being read meanwhile."""
    script = scripted(ok)
    events = [{"type": "a", "data": {"t": "x" * 200_000}} for _ in range(60)]
    async with kind(script.path) as producer:
        assert len(await producer.send_many(events)) == 60


async def test_a_broken_connection_is_no_error(scripted, kind):
    """What wasn't answered is sent again under the same id over a new connection, and nothing is raised."""
    lives = iter(range(1000))
    script = scripted(lambda event: None if next(lives) % 25 == 24 else ok(event))
    events = [{"type": "a", "data": {"n": n}} for n in range(200)]
    async with kind(script.path, window=50) as producer:
        outcomes = await producer.send_many(events)
    assert len({outcome.id for outcome in outcomes}) == 200
    assert script.connections > 1
    told = {}
    for event in script.events:
        assert told.setdefault(event["id"], event) == event
    assert len(told) == 200


@pytest.mark.parametrize("code", ["overloaded", "storage_full", "shutting_down", "unknown_outcome"])
async def test_not_now_is_tried_again(scripted, kind, code):
    """A refusal that passes is waited out with the same id."""
    tries = []
    script = scripted(lambda event: tries.append(event["id"]) or (no(code) if len(tries) < 4 else ok(event)))
    async with kind(script.path) as producer:
        ack = await producer.send("a", {})
    assert tries == [ack.id] * 4


async def test_a_daemon_that_starts_later_is_waited_for(tmp_path, kind):
    """No socket yet is a pause, not an error."""
    async with kind(str(tmp_path / "e.sock")) as producer:
        sending = asyncio.ensure_future(producer.send("a", {}, id="e1"))
        await asyncio.sleep(0.05)
        script = Script(tmp_path, ok)
        assert (await sending).id == "e1"
    script.close()


async def test_nobody_there_is_unavailable(tmp_path, kind):
    """After the time allowed the error names the path and the reason, and hands back the event with its id."""
    async with kind(str(tmp_path / "e.sock"), timeout_s=1.0) as producer:
        with pytest.raises(Unavailable, match="No such file") as caught:
            await producer.send("a", {"n": 1})
    (event,) = caught.value.unanswered
    assert event["id"]
    assert event["data"] == {"n": 1}


async def test_silence_is_unavailable_and_the_next_call_is_clean(scripted, kind):
    """A late answer is never taken for that of a later event."""
    silent = threading.Event()

    def answer(event):
        if event["id"] == "slow":
            silent.wait(60)
        return ok(event)

    script = scripted(answer)
    async with kind(script.path, timeout_s=0.3) as producer:
        with pytest.raises(Unavailable):
            await producer.send("a", {}, id="slow")
        silent.set()
        for n in range(100):
            with contextlib.suppress(Unavailable):  # the machine stalled, which is no answer either
                assert (await producer.send("a", {}, id=f"next-{n}")).id == f"next-{n}"
                break
        else:
            pytest.fail("no answer in any of a hundred calls")


async def test_a_full_disk_that_stays_is_unavailable_by_name(scripted, kind):
    """The daemon's last word is in the error; send_many tells which were answered and which were not."""
    script = scripted(lambda event: no("storage_full") if event["id"] == "e1" else ok(event))
    for limit_s in LADDER_S:
        async with kind(script.path, timeout_s=limit_s) as producer:
            with pytest.raises(Unavailable) as caught:
                await producer.send_many([{"id": f"e{n}", "type": "a", "data": {}} for n in range(3)])
        if len(caught.value.unanswered) == 1 and caught.value.code:
            break
    assert caught.value.code == "storage_full"
    assert [event["id"] for event in caught.value.unanswered] == ["e1"]
    assert [outcome and outcome.id for outcome in caught.value.outcomes] == ["e0", None, "e2"]


async def test_another_service_on_the_path_is_unavailable(scripted, kind):
    """Something that speaks otherwise is not believed."""
    script = scripted(lambda event: b"220 mail ESMTP\n")
    async with kind(script.path, timeout_s=0.2) as producer:
        with pytest.raises(Unavailable):
            await producer.send("a", {})


async def test_a_closed_producer_refuses(scripted, kind):
    """Use after close is a bug and told as one."""
    script = scripted(ok)
    async with kind(script.path) as producer:
        await producer.send("a", {})
    with pytest.raises(RuntimeError, match="closed"):
        await producer.send("a", {})


def test_threads_share_a_producer(scripted):
    """Calls from many threads each get their own answer."""
    script = scripted(ok)
    wrong = []

    def work(name):
        for n in range(50):
            ack = producer.send("a", {}, id=f"{name}-{n}")
            if ack.id != f"{name}-{n}":
                wrong.append(ack)

    with Producer(script.path) as producer:
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert len(script.events) == 400
    assert script.connections == 1


async def test_callers_of_one_async_producer_share_its_connection(scripted):
    """Hundreds of calls at once travel together and each gets its own answer."""
    script = scripted(ok)
    async with AsyncProducer(script.path, window=32) as producer:
        acks = await asyncio.gather(*(producer.send("a", {}, id=f"e{n}") for n in range(300)))
    assert [ack.id for ack in acks] == [f"e{n}" for n in range(300)]
    assert script.connections == 1


async def test_a_cancelled_call_does_not_disturb_the_others(scripted):
    """Its answer is taken for itself, not for the next one's."""
    gate = threading.Event()
    script = scripted(lambda event: (gate.wait(60), ok(event))[1])
    async with AsyncProducer(script.path) as producer:
        first = asyncio.ensure_future(producer.send("a", {}, id="first"))
        second = asyncio.ensure_future(producer.send("a", {}, id="second"))
        await asyncio.to_thread(wait_until, lambda: script.events, 60, lambda: "nothing came")
        first.cancel()
        gate.set()
        assert (await second).id == "second"
        assert (await producer.send("a", {}, id="third")).id == "third"
