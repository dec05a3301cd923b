"""Both producers where it gets rough: forks, cancelled calls, a close in the middle, connections lost at once."""

import asyncio
import contextlib
import os
import threading

import pytest
from tests.client.script import arrived, ok
from tests.harness.waiting import wait_until

from ringback import AsyncProducer, Producer, Unavailable


def test_what_json_cannot_say_is_told_before_anything_is_sent(scripted):
    """NaN, an unknown kind of object and a payload without end are errors of the caller's, by Python's own names."""
    script = scripted(ok)
    deep = {}
    for _ in range(100_000):
        deep = {"d": deep}
    with Producer(script.path) as producer:
        for data, error in (({"n": float("nan")}, ValueError), ({"n": object()}, TypeError), (deep, ValueError)):
            with pytest.raises(error):
                producer.send("a", data)
    assert script.events == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # later Pythons warn of what is tested here
def test_a_fork_during_another_thread_s_call_leaves_the_child_free(scripted):
    """The child sends and closes though the lock was held when it was made; the parent's call is not disturbed."""
    gate = threading.Event()
    script = scripted(lambda event: (event["id"] == "parent" and gate.wait(120), ok(event))[1])
    producer = Producer(script.path, timeout_s=120)
    acks = []
    thread = threading.Thread(target=lambda: acks.append(producer.send("a", {}, id="parent")))
    thread.start()
    wait_until(lambda: script.events, 60, lambda: "nothing came")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with contextlib.suppress(Exception):
                producer._timeout_s = 60  # what a held lock would cost
                status = 0 if producer.send("a", {}, id="child").id == "child" else 2
                producer.close()
        finally:
            os._exit(status)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        gate.set()
        thread.join(60)
        producer.close()
    assert [ack.id for ack in acks] == ["parent"]


def test_a_producer_kept_busy_by_another_thread_is_unavailable(scripted):
    """Every event of the call is handed back, its outcome unknown."""
    gate = threading.Event()
    script = scripted(lambda event: (gate.wait(120), ok(event))[1])
    with Producer(script.path, timeout_s=120) as producer:
        thread = threading.Thread(target=lambda: producer.send("a", {}))
        thread.start()
        wait_until(lambda: script.events, 60, lambda: "nothing came")
        producer._timeout_s = 0.05
        with pytest.raises(Unavailable, match="busy") as caught:
            producer.send_many([{"type": "a", "data": {}}] * 2)
        assert (len(caught.value.unanswered), caught.value.outcomes) == (2, (None, None))
        gate.set()
        thread.join(60)


async def test_a_connection_lost_as_it_is_made_is_made_again(scripted, monkeypatch):
    """Nobody is told of it twice, and yet the event isn't left lying."""
    script = scripted(ok)
    connected, lost = AsyncProducer.connected, []

    def losing(self, transport):
        connected(self, transport)
        if not lost:
            lost.append(transport)
            transport.abort()

    monkeypatch.setattr(AsyncProducer, "connected", losing)
    async with AsyncProducer(script.path, timeout_s=60) as producer:
        assert (await producer.send("a", {}, id="e1")).id == "e1"


async def test_a_close_tells_those_in_the_queue_too(scripted):
    """Whoever waits, written or not, gets Unavailable with its event."""
    script = scripted(lambda event: b"")
    producer = AsyncProducer(script.path, window=2)
    calls = [asyncio.ensure_future(producer.send("a", {}, id=f"e{n}")) for n in range(4)]
    await arrived(script, "e1")
    await producer.close()
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in told] == [Unavailable] * 4
    assert [one.unanswered[0]["id"] for one in told] == [f"e{n}" for n in range(4)]


async def test_cancelled_calls_do_not_gather_without_end(scripted):
    """A daemon that answers nobody is left after a bounded number of them, and the next call finds a new connection."""
    script = scripted(lambda event: ok(event) if event["id"] in {"e5", "last"} else b"")
    async with AsyncProducer(script.path, window=2) as producer:
        for n in range(6):
            call = asyncio.ensure_future(producer.send("a", {}, id=f"e{n}"))
            await arrived(script, f"e{n}")
            call.cancel()
            await asyncio.wait([call])
        assert script.connections == 2
        assert (await producer.send("a", {}, id="last")).id == "last"
