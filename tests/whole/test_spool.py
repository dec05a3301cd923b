"""The spool of the running daemon: files left while it is up, down or being killed."""

import hashlib
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon
from tests.harness.kills import kill_at_random
from tests.harness.receiver_client import Receiver
from tests.harness.spool_load import SpoolLoad, event_line, leave
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

KILLS, KILLS_LONG = 6, 60
FILES_PER_S = 100
EX_TEMPFAIL = 75


def spool_of(daemon: Daemon) -> Path:
    """Where it is by default: the state directory of these daemons isn't the system's."""
    return daemon.state_dir / "spool"


def wait_empty(daemon: Daemon) -> None:
    """Wait until everything left was taken."""
    new = spool_of(daemon) / "new"
    wait_until(lambda: not list(new.iterdir()), 60, lambda: f"{list(new.iterdir())[:5]}\n{daemon.tail()}")


def test_a_file_is_delivered_and_gone(daemon: Daemon, receiver: Receiver) -> None:
    """The event reaches the endpoint with the file's own bytes; who wrote the file is on record."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    leave(spool_of(daemon), "job.json", b'{\n "id": "e1",\n "type": "a.b",\n "data": {"n": 1e400}\n}\n')
    wait_empty(daemon)
    receiver.wait_for("/ok/a", ids=1)
    assert receiver.seen("/ok/a").keys() == {"e1"}
    assert daemon.sql("SELECT data FROM payload") == [(b'{"n": 1e400}',)]
    assert daemon.wait_log("daemon.ready")[0]["spool"] == str(spool_of(daemon))


def test_files_left_while_it_was_down_are_taken_at_the_start(daemon: Daemon) -> None:
    """Before the daemon has ever run, and after it was stopped; bad ones are told and moved away."""
    for folder in ("tmp", "new"):
        (spool_of(daemon) / folder).mkdir(parents=True)
    leave(spool_of(daemon), "early.json", event_line("x", given=True)[0])
    leave(spool_of(daemon), "bad.ndjson", event_line("y", given=True)[0] + b"nope\n")
    leave(spool_of(daemon), "empty.json", b"")
    daemon.start()
    wait_empty(daemon)
    assert daemon.term() == 0
    leave(spool_of(daemon), "late.json", event_line("z", given=True)[0])
    daemon.start()
    wait_empty(daemon)
    assert {key for (key,) in daemon.sql("SELECT id FROM event")} == {"x", "z"}
    failed = daemon.wait_log("spool.failed", lines=2)
    assert {(line["file"], line["code"], line["line"]) for line in failed} == {
        ("bad.ndjson", "invalid_json", 2),
        ("empty.json", "empty", None),
    }
    reason = json.loads((spool_of(daemon) / "failed" / "bad.ndjson.reason.json").read_text())
    assert [line["line"] for line in reason["lines"]] == [2]
    assert "nope" not in daemon.log_text()


def test_a_large_file_goes_in_whole_beside_the_socket(daemon: Daemon) -> None:
    """50,000 events in one file are all stored, and a producer on the socket is answered meanwhile."""
    daemon.start()
    lines = [b'{"type":"a.b","data":{"n":%d}}\n' % n for n in range(50_000)]
    leave(spool_of(daemon), "large.jsonl", b"".join(lines))
    with daemon.events() as producer:
        for n in range(20):
            assert producer.ask({"id": f"beside-{n}", "type": "a.b", "data": {}})["ok"]
    wait_empty(daemon)
    assert daemon.sql("SELECT count(*) FROM event") == [(50_020,)]
    leave(spool_of(daemon), "larger.jsonl", b"".join([*lines, lines[0]]))
    wait_empty(daemon)
    assert daemon.wait_log("spool.failed")[0]["code"] == "too_large"
    assert daemon.sql("SELECT count(*) FROM event") == [(50_020,)]


def test_another_daemon_on_the_same_spool_is_refused(daemon: Daemon) -> None:
    """It exits with 75 and says why, whatever its state directory; "" turns the spool off and lets it run."""
    daemon.start()
    with Daemon({"ingest.spool": {"path": str(spool_of(daemon))}}) as second:
        second.spawn()
        assert second.wait() == EX_TEMPFAIL
        assert "spool" in second.log_text()
        second.configure({"ingest.spool": {"path": ""}})
        second.start()
        assert second.term() == 0


def test_no_kill_loses_or_doubles_what_was_left(daemon: Daemon, long: bool) -> None:
    """Files left all the while, also while it is down: each event is stored exactly once, whenever it was killed."""
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    daemon.start().kill()
    load = SpoolLoad(spool_of(daemon), "k", FILES_PER_S)
    load.start()
    for _ in range(KILLS_LONG if long else KILLS):
        kill_at_random(daemon, chance)
    load.stop()
    daemon.start()
    wait_empty(daemon)
    there = Counter(hashlib.sha256(data).hexdigest() for (data,) in daemon.sql("SELECT data FROM payload"))
    assert load.left
    assert [digest for digest in load.left if digest not in there] == []
    assert [digest for digest, number in there.items() if number > 1] == []
    assert list((spool_of(daemon) / "failed").iterdir()) == []
