"""SIGHUP in the running daemon: settings and declared endpoints change, and no request is dropped for it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

from ringback import Producer

pytestmark = pytest.mark.whole

RELOADS = 20
#: Events a producer sends at least; fewer would prove nothing.
ENOUGH = 200
#: Streams until the file named stop exists, with a breath after each window; prints what was answered, in order.
STREAM = """
import asyncio, json, os, sys, time
from ringback import AsyncProducer, Producer
kind, path, stop = sys.argv[1:]
def events():
    n = 0
    while n % 32 or not os.path.exists(stop):
        yield {"id": f"{kind}-{n}", "type": "a.b", "data": {"n": n}}
        n += 1
        if n % 32 == 0:
            time.sleep(0.02)
async def asynchronous():
    async with AsyncProducer(path, window=32) as producer:
        return [[ack.id, ack.duplicate] async for ack in producer.stream(events())]
def blocking():
    with Producer(path, window=32) as producer:
        return [[ack.id, ack.duplicate] for ack in producer.stream(events())]
print(json.dumps(blocking() if kind == "blocking" else asyncio.run(asynchronous())))
"""


def reload(daemon: Daemon, event: str = "config.reloaded") -> dict[str, Any]:
    """Reload and wait for the line that says what became of it."""
    known = len(daemon.log_lines(event))
    daemon.signal(signal.SIGHUP)
    return daemon.wait_log(event, known + 1)[-1]


def declare(daemon: Daemon, name: str, text: str) -> None:
    """Put a file into endpoints.d."""
    folder = daemon.config_path.parent / "endpoints.d"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(f'[[endpoint]]\nname = "{name}"\n{text}\n')


def test_what_is_in_flight_at_a_reload_finishes(daemon: Daemon, receiver: Receiver) -> None:
    """Requests under way while policy, limits and diversion change are neither cut off nor made twice."""
    daemon.start()
    paths = [f"/hang/{number}" for number in range(5)]
    for path in paths:
        daemon.endpoint(receiver.url(path))
    daemon.emit(id="a")
    for path in paths:
        receiver.wait_for(path, open_=1)
    with daemon.events() as producer:
        assert producer.ask({"type": "a.b", "data": {}, "tenant": "other"})["ok"]
        daemon.configure(
            {
                "delivery": {"concurrency": 100, "timeout_s": 20, "divert_to": receiver.url("/ok/staging")},
                "egress": {"deny_networks": ["192.0.2.0/24"]},
                "log": {"level": "debug"},
            }
        )
        line = reload(daemon)
        assert producer.ask({"type": "a.b", "data": {}, "tenant": "other"})["ok"], "the connection lives on"
    assert line["needs_restart"] == []
    assert line["changed"] == [
        "delivery.concurrency",
        "delivery.divert_to",
        "delivery.timeout_s",
        "egress.deny_networks",
        "log.level",
    ]
    receiver.release()
    wait_until(lambda: len(daemon.deliveries(event="a", status="succeeded")) == 5, 60, lambda: str(daemon.deliveries()))
    daemon.emit(id="later")
    receiver.wait_for("/ok/staging", requests=5)
    assert [receiver.path(path)["requests"] for path in paths] == [1] * 5
    assert daemon.wait_log("event.accepted")


def test_a_change_of_policy_holds_for_connections_that_are_open(daemon: Daemon, receiver: Receiver) -> None:
    """Once an address is forbidden nothing goes there, kept-alive connection or not; allowed again, it does."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    daemon.emit(id="before")
    receiver.wait_for("/ok/a", ids=1)
    daemon.configure({"egress": {"allow_networks": []}})
    assert reload(daemon)["changed"] == ["egress.allow_networks"]
    daemon.emit(id="forbidden")
    assert daemon.wait_status("forbidden", "dead")["attempts"][0]["outcome"] == "egress_denied"
    daemon.configure({"egress": {"allow_networks": ["127.0.0.0/8"]}})
    reload(daemon)
    daemon.emit(id="after")
    receiver.wait_for("/ok/a", ids=2)
    assert set(receiver.seen("/ok/a")) == {"before", "after"}


def test_declared_endpoints_live_and_go_with_their_files(daemon: Daemon, receiver: Receiver) -> None:
    """Delivered to from the first start on, changed by a reload, held while undeclared, delivered once it is back."""
    declare(daemon, "crm", f'url = "{receiver.url("/ok/a")}"')
    daemon.start()
    assert daemon.emit(id="a")["deliveries"] == 1
    receiver.wait_for("/ok/a", ids=1)
    (endpoint,) = daemon.get("/api/v1/endpoints?name=crm")["data"]
    assert endpoint["declared"] is True
    assert daemon.api("PATCH", f"/api/v1/endpoints/{endpoint['id']}", {"concurrency": 1})[0] == 409
    assert daemon.api("DELETE", f"/api/v1/endpoints/{endpoint['id']}")[0] == 409
    (daemon.config_path.parent / "endpoints.d" / "crm.toml").unlink()
    assert reload(daemon)["endpoints_undeclared"] == 1
    daemon.emit(id="b")
    assert daemon.delivery_of("b")["status"] == "held"
    declare(daemon, "crm", f'url = "{receiver.url("/ok/b")}"\nconcurrency = 2')
    assert reload(daemon)["endpoints_changed"] == 1
    receiver.wait_for("/ok/b", ids=1)
    assert set(receiver.seen("/ok/b")) == {"b"}


def test_a_bad_configuration_is_refused_and_the_daemon_goes_on(daemon: Daemon, receiver: Receiver) -> None:
    """Each problem is logged, nothing changes; the same problems end a check and a start with 78."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    daemon.configure({"delivery": {"timeout_s": 0}})
    declare(daemon, "bad", 'url = "https://10.0.0.1/"')
    line = reload(daemon, "config.rejected")
    assert [text.split(":")[0] for text in line["problems"]] == ["delivery.timeout_s", "endpoints.d/bad.toml"]
    daemon.emit(id="a")
    receiver.wait_for("/ok/a", ids=1)
    daemon.configure({"delivery": {"timeout_s": 1}})
    assert "10.0.0.1" in reload(daemon, "config.rejected")["problems"][0]
    check = subprocess.run(
        [sys.executable, "-m", "ringback", "config", "check", "--config", str(daemon.config_path)],
        cwd=ROOT,
        env=os.environ | {"RINGBACK_CONFIG": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode, "endpoints.d/bad.toml: endpoint.0.url" in check.stderr) == (78, True)
    assert daemon.term() == 0
    daemon.spawn()
    assert daemon.wait() == 78


@contextlib.contextmanager
def streams(daemon: Daemon, stop: Path) -> Iterator[dict[str, list[str]]]:
    """Both producers in processes of their own while the block runs; then what each was answered, ids in order."""
    running = {
        kind: subprocess.Popen(
            [sys.executable, "-c", STREAM, kind, str(daemon.events_path), str(stop)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in ("blocking", "asyncio")
    }
    acked: dict[str, list[str]] = {}
    try:
        yield acked
        stop.touch()
        for kind, process in running.items():
            answers = json.loads(process.communicate(timeout=120)[0])
            assert not [key for key, duplicate in answers if duplicate], "sent twice: a connection was lost"
            acked[kind] = [key for key, _ in answers]
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def configurations(daemon: Daemon, receiver: Receiver) -> Iterator[str]:
    """Put one configuration after the other in place, good and bad in turn; yields the name of the line to come."""
    for n in itertools.count():
        declare(daemon, "crm", f'url = "{receiver.url(f"/ok/crm{n % 2}")}"\nconcurrency = {n % 7 + 1}')
        daemon.configure(
            {
                "egress": {"deny_networks": [f"192.0.2.{n}/32"]},
                "delivery": {"concurrency": 50 + n, "timeout_s": 60 + n, "max_idle_connections": 10 + n},
                "retention": {"events_days": 10 + n, "attempts_days": 5 + n, "max_database_bytes": (n + 1) << 30},
                "endpoint_defaults": {"concurrency": n % 5 + 2},
            }
        )
        yield "config.reloaded"
        declare(daemon, "bad", 'url = "https://10.0.0.1/"')
        yield "config.rejected"
        (daemon.config_path.parent / "endpoints.d" / "bad.toml").unlink()
        daemon.configure({"delivery": {"timeout_s": 0}})
        yield "config.rejected"
        daemon.configure({"delivery": {"timeout_s": 60}})
        (daemon.config_path.parent / "endpoints.d" / "crm.toml").unlink()  # what it is owed is held until it is back
        yield "config.reloaded"


def test_no_producer_notices_a_reload(daemon: Daemon, receiver: Receiver, tmp_path: Path) -> None:
    """Twenty, good and bad, under load: nothing raised, each answer in its place, each event delivered once to each."""
    declare(daemon, "crm", f'url = "{receiver.url("/ok/crm0")}"')
    daemon.start()
    daemon.endpoint(receiver.url("/ok/all"), name="all")
    single = []
    with streams(daemon, tmp_path / "stop") as acked, Producer(str(daemon.events_path)) as producer:
        for path in ("blocking-0", "asyncio-0"):
            wait_until(lambda key=path: key in receiver.seen("/ok/all"), 60, daemon.tail)
        for event in itertools.islice(configurations(daemon, receiver), RELOADS):
            mark = f'"event":"{event}"'
            known = daemon.log_text().count(mark)
            daemon.signal(signal.SIGHUP)
            single.append(producer.send("a.b", {}).id)
            wait_until(lambda m=mark, k=known: daemon.log_text().count(m) > k, 60, daemon.tail)
        declare(daemon, "crm", f'url = "{receiver.url("/ok/crm0")}"')
        reload(daemon)
        for key in (f"blocking-{ENOUGH}", f"asyncio-{ENOUGH}"):
            wait_until(lambda k=key: k in receiver.seen("/ok/all"), 60, daemon.tail)
    for kind, keys in acked.items():
        assert keys == [f"{kind}-{n}" for n in range(len(keys))], "answers out of order"
    everything = {*single, *acked["blocking"], *acked["asyncio"]}

    def came(*paths: str) -> Counter[str]:
        return sum((Counter({key: one.count for key, one in receiver.seen(path).items()}) for path in paths), Counter())

    for paths in (("/ok/all",), ("/ok/crm0", "/ok/crm1")):
        wait_until(lambda p=paths: len(came(*p)) >= len(everything), 60, lambda p=paths: f"{len(came(*p))} at {p}")
        assert came(*paths) == Counter(everything), "lost or doubled"
    assert daemon.sql("SELECT count(*) FROM event") == [(len(everything),)]
