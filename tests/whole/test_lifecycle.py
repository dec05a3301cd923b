"""Starting, stopping, and being refused a start."""

import signal
import socket
import stat
import time

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver

from ringback.runtime import ANSWER_GRACE_S

pytestmark = pytest.mark.whole


def test_sigterm_lets_what_is_in_flight_end_and_starts_nothing_more(daemon: Daemon, receiver: Receiver) -> None:
    """Answers that come within the grace are recorded; the rest of the backlog stays owed; exit 0."""
    daemon.configure({"daemon": {"shutdown_grace_s": 20}})
    daemon.start()
    daemon.endpoint(receiver.url("/hang/a"), concurrency=4)
    with daemon.events() as producer:
        list(producer.pipeline({"id": f"e{n}", "type": "t", "data": {}} for n in range(20)))
    receiver.wait_for("/hang/a", open_=1)
    opened = receiver.path("/hang/a")["open"]
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("daemon.stopping")
    assert receiver.release() == opened
    assert daemon.wait() == 0
    assert receiver.path("/hang/a")["requests"] == opened, "a stopping daemon starts nothing"
    states = dict(daemon.sql("SELECT state, count(*) FROM delivery GROUP BY state"))
    assert states == {1: opened, 0: 20 - opened}
    assert daemon.log_lines("daemon.stopped")
    assert not daemon.events_path.exists()
    assert not daemon.control_path.exists()


def test_what_a_stop_cuts_off_is_recorded_as_interrupted_and_not_counted(daemon: Daemon, receiver: Receiver) -> None:
    """Hanging requests are cut off after the grace: on record as interrupted, still owed in full, sent again."""
    daemon.configure({"daemon": {"shutdown_grace_s": 0.3}})
    daemon.start()
    daemon.endpoint(receiver.url("/hang/a"))
    daemon.emit(id="e")
    receiver.wait_for("/hang/a", open_=1)
    assert daemon.term() == 0
    assert daemon.sql("SELECT phase, attempts FROM owed") == [(0, 0)]
    assert daemon.log_lines("delivery.interrupted")
    daemon.start()
    receiver.wait_for("/hang/a", requests=2, open_=1)
    receiver.release()
    delivery = daemon.wait_status("e", "succeeded")
    assert [a["outcome"] for a in delivery["attempts"]] == ["interrupted", "delivered"]


def test_a_second_sigterm_stops_at_once(daemon: Daemon, receiver: Receiver) -> None:
    """Who is asked twice doesn't wait for the grace, and still loses nothing."""
    daemon.configure({"daemon": {"shutdown_grace_s": 600}})
    daemon.start()
    daemon.endpoint(receiver.url("/hang/a"))
    daemon.emit(id="e")
    receiver.wait_for("/hang/a", open_=1)
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("daemon.stopping")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert daemon.sql("SELECT count(*) FROM owed") == [(1,)]


def test_sigterm_answers_what_was_read(daemon: Daemon, receiver: Receiver) -> None:
    """Every line that was read is answered, and those answered ok are all that is in the table.

    Unless the disk stalls until the time for answers is over: then some are there that nobody was told of.
    """
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    answered = []
    with daemon.events() as producer:
        producer.write(b"".join(b'{"id":"e%d","type":"t","data":{}}\n' % n for n in range(2000)))
        answered.append(producer.answer())
        asked = time.monotonic()
        daemon.signal(signal.SIGTERM)
        try:
            while True:
                answered.append(producer.answer())
        except ConnectionError:
            pass
        took_s = time.monotonic() - asked
    assert daemon.wait() == 0
    accepted = {answer["id"] for answer in answered if answer["ok"]}
    stored = {row[0] for row in daemon.sql("SELECT id FROM event")}
    assert accepted <= stored
    assert accepted == stored or took_s >= ANSWER_GRACE_S
    assert daemon.sql("SELECT count(*) FROM delivery") == [(len(stored),)], "none is half there"
    codes = {answer["error"]["code"] for answer in answered if not answer["ok"]}
    assert codes <= {"shutting_down"}


def test_a_second_start_is_refused_and_harms_nothing(daemon: Daemon, receiver: Receiver) -> None:
    """Exit 75 with a sentence; the first goes on, whether the second wants its state or only one of its sockets."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    with Daemon() as second:
        second.configure({"daemon": {"state_dir": str(daemon.state_dir)}})
        second.spawn()
        assert second.wait() == 75
        assert str(daemon.pid) in second.log_text()
    with Daemon() as third:
        third.configure({"ingest.socket": {"path": str(daemon.events_path)}})
        third.spawn()
        assert third.wait() == 75, third.log_text()
    with Daemon() as fourth:
        fourth.configure({"api": {"socket": str(daemon.control_path)}})
        fourth.spawn()
        assert fourth.wait() == 75, fourth.log_text()
    daemon.emit(id="e")
    daemon.wait_status("e", "succeeded")


def test_a_bad_configuration_lists_every_problem(daemon: Daemon) -> None:
    """Exit 78, each problem with its key, and nothing was made."""
    daemon.configure(
        {
            "delivery": {"concurrency": 0, "timeout_s": "long", "colour": "red"},
            "ingest.socket": {"path": "/tmp/" + "x" * 120},
            "egress": {"allow_networks": ["300.0.0.0/8"]},
            "retention": {"events_days": -1},
        }
    )
    daemon.spawn()
    assert daemon.wait() == 78
    text = daemon.log_text()
    for key in ("concurrency", "timeout_s", "colour"):
        assert f"delivery.{key}" in text
    for key in ("ingest.socket.path", "egress.allow_networks", "retention.events_days"):
        assert key in text
    assert not daemon.state_dir.exists()


def test_stale_sockets_are_replaced_and_foreign_files_are_not(daemon: Daemon) -> None:
    """Socket files left by kill -9 are taken over by the next start; a regular file there is never deleted."""
    daemon.start()
    daemon.kill()
    assert daemon.events_path.exists()
    daemon.start()
    assert daemon.emit()["ok"]
    assert stat.S_IMODE(daemon.events_path.stat().st_mode) == 0o660
    assert stat.S_IMODE(daemon.control_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700
    assert daemon.term() == 0
    daemon.events_path.write_text("mine")
    daemon.spawn()
    assert daemon.wait() not in (0, -9)
    assert daemon.events_path.read_text() == "mine"


@pytest.mark.parametrize(
    ("table", "key"),
    [("daemon", "state_dir"), ("ingest.spool", "path"), ("ingest.socket", "path"), ("api", "socket")],
)
def test_a_start_that_cannot_have_a_path_names_its_key(daemon: Daemon, table: str, key: str) -> None:
    """One line with the key, the path, why, and what to do, and it is in the log too; exit 1."""
    (daemon.root / "file").touch()
    daemon.configure({table: {key: f"{daemon.root}/file/x"}})
    daemon.spawn()
    assert daemon.wait() == 1
    (line,) = daemon.log_lines("daemon.failed")
    assert line["error"].startswith(f"{table}.{key}: ")
    assert f"{daemon.root}/file" in line["error"]
    assert line["error"].endswith("(a file stands where a folder is needed: move it away, or name another)")
    assert f"ringback: {line['error']}" in daemon.tail()
    assert "Traceback" not in daemon.tail()


def test_an_empty_database_where_there_was_one_is_refused(daemon: Daemon) -> None:
    """A database that vanished is not silently made anew: the start fails and says what is missing."""
    daemon.start()
    daemon.emit()
    assert daemon.term() == 0
    for path in daemon.state_dir.glob("ringback.db*"):
        path.unlink()
    daemon.spawn()
    assert daemon.wait() not in (0, -9)
    assert "ringback.db" in daemon.log_text()
    assert not (daemon.state_dir / "ringback.db").exists()


def test_readiness_and_health_are_told(daemon: Daemon, receiver: Receiver) -> None:
    """Healthz is 200 as long as the loop turns, readyz 503 while it drains; systemd is told READY and STOPPING."""
    notify_path = str(daemon.root / "n.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, Daemon(env={"NOTIFY_SOCKET": notify_path}) as told:
        notify.bind(notify_path)
        notify.settimeout(60)
        told.configure({"daemon": {"shutdown_grace_s": 600}})
        told.start()
        assert b"READY=1" in notify.recv(4096)
        assert told.api("GET", "/healthz")[0] == 200
        told.endpoint(receiver.url("/hang/a"))
        told.emit()
        receiver.wait_for("/hang/a", open_=1)
        told.signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while b"STOPPING=1" not in notify.recv(4096):
            assert time.monotonic() < deadline
        told.signal(signal.SIGHUP)
        while not (said := notify.recv(4096)).startswith(b"READY=1"):
            assert time.monotonic() < deadline
        assert said == b"READY=1\nSTATUS=draining", "whatever it is asked meanwhile"
        receiver.release()
        assert told.wait() == 0
