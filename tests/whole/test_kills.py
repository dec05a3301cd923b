"""kill -9 at any moment under load: nothing acknowledged is lost, and only what was in flight is doubled."""

import os
import random

import pytest
from tests.harness.daemon import Daemon
from tests.harness.kills import Doubles, clients, kill_at_random
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

KILLS, KILLS_LONG = 20, 200
CLIENTS = 4
CONCURRENCY = 16
#: Results that may wait for their commit beside the requests in flight: what gathers behind one commit.
UNCOMMITTED = 512
TYPES = ("stt.jobs.completed", "stt.jobs.failed", "tts.jobs.completed")

#: Endpoints that get there in the end: path, name, what they subscribe to, what that matches.
HEALTHY = {
    "/ok/all": ("all", [], TYPES),
    "/ok/stt": ("stt", ["stt.**"], TYPES[:2]),
    "/slow/15/tts": ("tts", ["tts.jobs.*"], TYPES[2:]),
    "/flaky/30/failed": ("failed", ["*.jobs.failed"], TYPES[1:2]),
}


def test_no_kill_loses_an_acknowledged_event(daemon: Daemon, receiver: Receiver, long: bool) -> None:
    """Every acked event is at each matching endpoint, in one state only; each double was in flight at a kill."""
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    daemon.start()
    retry = {"delays_s": [0.05] * 60, "jitter": 0.2}
    for path, (name, events, _) in HEALTHY.items():
        daemon.endpoint(receiver.url(path), name=name, events=events, concurrency=CONCURRENCY, retry=retry)
    daemon.endpoint("http://127.0.0.1:1/dead", name="dead", events=["stt.jobs.completed"])
    daemon.term()
    by_name = dict(daemon.sql("SELECT name, lane FROM endpoint"))
    lanes = {path: by_name[name] for path, (name, _, _) in HEALTHY.items()}
    doubles = Doubles(daemon, receiver, {path: lane for path, lane in lanes.items() if path.startswith("/ok")})

    with clients(daemon, CLIENTS, TYPES) as running:
        for _ in range(KILLS_LONG if long else KILLS):
            kill_at_random(daemon, chance)
            doubles.note_kill()
        daemon.start()
    assert not any(client.is_alive() for client in running), "a client got no answer to the end"
    assert [problem for client in running for problem in client.problems] == []
    healthy = ",".join(str(lane) for lane in lanes.values())

    def owed() -> list[tuple[object, ...]]:
        return daemon.sql(f"SELECT lane, count(*) FROM owed WHERE lane IN ({healthy}) GROUP BY lane")

    wait_until(lambda: not owed(), 600 if long else 240, lambda: f"owed: {owed()}\n{daemon.tail()}", poll_s=0.2)

    acked = {key: kind for client in running for key, kind in client.acked.items()}
    for path, (_, _, types) in HEALTHY.items():
        seen = receiver.seen(path)
        missing = [key for key, kind in acked.items() if kind in types and key not in seen]
        assert not missing, f"{len(missing)} acked events never came to {path}: {missing[:5]}"
        assert all(seen[key].good == seen[key].count for key in seen)
        assert not [key for key in seen if key not in acked], "what arrived had been acknowledged in the end"
    found = doubles.check()
    assert doubles.most <= CONCURRENCY + UNCOMMITTED
    _check_books(daemon, len(acked))
    print(f"{len(acked)} events acked, {found} doubled, at most {doubles.most} unrecorded at a kill")


def _check_books(daemon: Daemon, events: int) -> None:
    """A row is owed if and only if its delivery is pending; no event is half there."""
    assert daemon.sql("SELECT count(*) FROM event") == [(events,)]
    assert daemon.sql("SELECT count(*) FROM event e LEFT JOIN payload p ON p.event = e.seq WHERE p.crc IS NULL") == [
        (0,)
    ]
    pending = "SELECT event, lane FROM delivery WHERE state = 0"
    owed = "SELECT event, lane FROM owed"
    assert daemon.sql(f"{pending} EXCEPT {owed}") == []
    assert daemon.sql(f"{owed} EXCEPT {pending}") == []
