"""Encryption at rest, seen from outside: what was planted is found nowhere, and no promise is broken by it."""

import base64
import contextlib
import hashlib
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon
from tests.harness.kills import clients, kill_at_random
from tests.harness.receiver_client import ROOT, SECRET, Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

CONFIG = 78
FAST = {"delays_s": [0.02], "jitter": 0}
KEY, OTHER = bytes(range(224, 256)), bytes(range(192, 224))
KILLS, KILLS_LONG = 4, 60
TYPES = ("stt.jobs.completed", "stt.jobs.failed")

RAW_SECRET = b"planted-raw-endpoint-key"
RAW_CALLBACK = b"planted-raw-callback-key"
OURS, CALLED = (f"whsec_{base64.b64encode(raw).decode()}" for raw in (RAW_SECRET, RAW_CALLBACK))

#: What was said, by whom; each is looked for as it is.
PLANTED = {
    "an endpoint's secret": OURS.removeprefix("whsec_").encode(),
    "the same as bytes": RAW_SECRET,
    "an endpoint's secret before": SECRET.removeprefix("whsec_").encode(),
    "a header": b"planted-header",
    "a query": b"planted-query",
    "metadata": b"planted-metadata",
    "a callback's secret": CALLED.removeprefix("whsec_").encode(),
    "a callback's query": b"planted-callback-query",
    "a callback's extra": b"planted-extra",
    "data by the socket": b"planted-by-socket",
    "data by the API": b"planted-by-api",
    "data by the spool": b"planted-by-spool",
    "data that is owed": b"planted-owed",
    "a receiver's answer": b"planted-by-socket"[::-1],
}
KEYS = {"the master key": KEY, "in base64": base64.b64encode(KEY), "in hex": KEY.hex().encode()}


def found(content: bytes, words: dict[str, bytes] = PLANTED) -> list[str]:
    """Which of the planted words are there."""
    return [name for name, word in (words | KEYS).items() if word in content]


def files(daemon: Daemon) -> bytes:
    """Every byte of every file in the state directory, the spool among them."""
    content = []
    for path in sorted(daemon.state_dir.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # SQLite's own files come and go
            content.append(path.read_bytes())
    return b"\n".join(content)


def ringback(daemon: Daemon, *args: str, code: int = 0) -> str:
    """A command against this daemon's configuration; what it printed, errors too."""
    command = [sys.executable, "-m", "ringback", *args, "--config", str(daemon.config_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def keyed(daemon: Daemon, key: bytes = KEY, old: bytes | None = None) -> Daemon:
    """Give the daemon a master key, and one before it, from its next start on."""
    named = {"key_file": "", "old_key_file": ""}
    for setting, value in (("key_file", key), ("old_key_file", old)):
        if value is not None:
            path = daemon.root / setting
            path.write_bytes(base64.b64encode(value) + b"\n")
            path.chmod(0o600)
            named[setting] = str(path)
    daemon.configure({"encryption": named})
    return daemon


@pytest.fixture
def mine() -> Iterator[Receiver]:
    """A receiver that knows the planted secret."""
    with Receiver(secrets=(OURS,)) as running:
        yield running


def plant(daemon: Daemon, receiver: Receiver) -> str:
    """Say every word by every way in; deliver, fail, retry, leave something owed. Answers what refusals said."""
    token = "?token=planted-query"
    extra = {"headers": {"x-key": "planted-header"}, "metadata": {"k": "planted-metadata"}, "retry": FAST}
    made = daemon.endpoint(receiver.url("/mirror/200/a") + token, name="a", **extra)
    daemon.api("PATCH", f"/api/v1/endpoints/{made['id']}", {"secret": OURS})
    daemon.endpoint(receiver.url("/mirror/500/b") + token, name="b", **extra | {"secret": OURS})
    daemon.endpoint("http://127.0.0.1:1/c" + token, name="c", **extra | {"secret": OURS})
    paused = daemon.endpoint(receiver.url("/ok/d") + token, name="d", **extra | {"secret": OURS})
    daemon.api("POST", f"/api/v1/endpoints/{paused['id']}/pause")
    pulse = {"url": receiver.url("/status/503/e?k=planted-callback-query"), "extra": {"x": "planted-extra"}}
    signed = {"url": receiver.url("/ok/f?k=planted-callback-query"), "dialect": "standard", "secret": CALLED}
    daemon.emit(id="s1", data={"said": "planted-by-socket"}, callback=pulse)
    daemon.emit(id="s2", data={"said": "planted-owed"}, callback=signed)
    told = [daemon.api("POST", "/api/v1/events", {"id": "a1", "type": "t", "data": {"said": "planted-by-api"}})]
    spool = daemon.state_dir / "spool"
    line = json.dumps({"id": "f1", "type": "t", "data": {"said": "planted-by-spool"}})
    (spool / "tmp" / "f.json").write_text(line)
    (spool / "tmp" / "f.json").rename(spool / "new" / "f.json")
    wait_until(lambda: not list((spool / "new").iterdir()), 60, daemon.tail)
    for event_id in ("s1", "s2", "a1", "f1"):
        daemon.wait_status(event_id, "succeeded", endpoint=made["id"])
    wait_until(lambda: len(daemon.deliveries(status="dead")) >= 8, 60, daemon.tail)
    told += [
        daemon.api("POST", "/api/v1/events", {"id": "s1", "type": "t", "data": {"said": "planted-by-socket"}, "x": 1}),
        daemon.api("POST", "/api/v1/events", {"id": "a1", "type": "u", "data": {"said": "planted-by-socket"}}),
        daemon.api("POST", "/api/v1/endpoints", {"url": "http://10.0.0.1/?t=planted-query", "secret": OURS}),
        daemon.api("POST", "/api/v1/endpoints", {"url": receiver.url("/ok"), "secret": RAW_SECRET.decode()}),
        daemon.api(
            "PATCH", f"/api/v1/endpoints/{made['id']}", {"dialect": "prosa", "headers": {"x y": "planted-header"}}
        ),
        daemon.api("PATCH", f"/api/v1/endpoints/{made['id']}", {"secret": {"planted-header": "planted-query"}}),
    ]
    assert [status for status, _ in told[1:]] == [422, 409, 422, 422, 422, 422], told
    with daemon.events() as producer:
        for bad in (
            b'{"type":"t","data":{"said":"planted-by-socket"},"y":1}',
            b'"planted-by-socket',
            b'{"id":"planted-query"}',
        ):
            producer.write(bad + b"\n")
            told.append(producer.answer())
            assert not told[-1]["ok"]
    return json.dumps(told)


def shown(daemon: Daemon) -> str:
    """What an operator's looking around prints, and what the process shows of itself."""
    looks = (("status",), ("endpoint", "list"), ("delivery", "list"), ("event", "list"), ("db", "check"))
    printed = [ringback(daemon, *look) for look in looks]
    process = Path(f"/proc/{daemon.pid}")
    return "\n".join([*printed, *((process / name).read_text(errors="replace") for name in ("cmdline", "environ"))])


def test_what_was_planted_is_found_nowhere(daemon: Daemon, mine: Receiver, tmp_path: Path) -> None:
    """In no line, list, refusal, argument, file or backup: while it runs, after a kill, after a stop."""
    daemon.configure({"log": {"level": "debug"}})
    keyed(daemon).start()
    refusals = plant(daemon, mine)
    assert found(refusals.encode()) == []
    assert found(shown(daemon).encode()) == []
    assert re.search(r"encryption +on\b", ringback(daemon, "status"))
    assert found(files(daemon)) == [], "while it runs"
    ringback(daemon, "db", "backup", str(tmp_path / "backup"))
    ringback(daemon, "db", "backup-keys", str(tmp_path / "keys"))
    daemon.kill()
    assert found(files(daemon)) == [], "after a kill"
    daemon.start()
    assert daemon.get("/api/v1/events/s1")["data"] == {"said": "planted-by-socket"}
    answer = daemon.delivery_of("s1", endpoint=_id(daemon, "a"))["attempts"][-1]["response"]["body"]
    assert PLANTED["a receiver's answer"].decode() in answer
    assert daemon.term() == 0
    assert found(files(daemon)) == [], "after a stop"
    assert found((tmp_path / "backup").read_bytes() + (tmp_path / "keys").read_bytes()) == []
    assert found(daemon.log_text().encode()) == []
    assert daemon.log_lines("encryption.on")
    daemon.start()
    daemon.api("POST", f"/api/v1/endpoints/{_id(daemon, 'd')}/resume")
    mine.wait_for("/ok/d?token=planted-query", ids=4)
    assert {one.good for one in mine.seen("/ok/d?token=planted-query").values()} == {1}, "the sealed secret signs"


def _id(daemon: Daemon, name: str) -> str:
    return next(one["id"] for one in daemon.get("/api/v1/endpoints")["data"] if one["name"] == name)


def test_turned_on_later_it_seals_what_was_in_the_clear(daemon: Daemon, mine: Receiver, tmp_path: Path) -> None:
    """Without a key the same search finds everything, so it can; with one, after a restart, nothing."""
    daemon.start()
    plant(daemon, mine)
    ringback(daemon, "db", "backup", str(tmp_path / "plain"))
    assert daemon.wait_log("encryption.off")
    assert "OFF: payloads and secrets lie in the clear" in ringback(daemon, "status")
    daemon.term()
    everything = set(PLANTED) - {"the same as bytes"}  # it is stored as text
    assert set(found(files(daemon))) == everything
    assert set(found((tmp_path / "plain").read_bytes())) >= everything - {"an endpoint's secret before"}
    keyed(daemon).start()
    daemon.wait_log("encryption.sealed")
    assert found(files(daemon)) == [], "while it runs, as soon as it says so"
    assert daemon.get("/api/v1/events/s1")["data"] == {"said": "planted-by-socket"}
    daemon.term()
    assert found(files(daemon)) == []
    daemon.start()
    assert len(daemon.log_lines("encryption.sealing")) == 1, "once is enough"
    daemon.api("POST", f"/api/v1/endpoints/{_id(daemon, 'd')}/resume")
    mine.wait_for("/ok/d?token=planted-query", ids=4)
    assert {one.good for one in mine.seen("/ok/d?token=planted-query").values()} == {1}


def test_no_kill_loses_what_was_acknowledged(daemon: Daemon, receiver: Receiver, long: bool) -> None:
    """SIGKILL at any moment under load: each acknowledged event is sealed and arrives, rightly signed."""
    keyed(daemon).start()
    retry = {"delays_s": [0.05] * 60, "jitter": 0.2}
    daemon.endpoint(receiver.url("/ok/all"), name="all", concurrency=16, retry=retry)
    daemon.endpoint(receiver.url("/flaky/30/failed"), name="failed", events=[TYPES[1]], concurrency=16, retry=retry)
    daemon.term()
    chance = random.Random(7)
    with clients(daemon, 3, TYPES) as running:
        for _ in range(KILLS_LONG if long else KILLS):
            kill_at_random(daemon, chance)
        daemon.start()
        daemon.emit(tenant="new", id="first")
    assert [problem for client in running for problem in client.problems] == []
    wait_until(lambda: not daemon.sql("SELECT 1 FROM owed LIMIT 1"), 240, daemon.tail, 0.1)
    acked = {key: kind for client in running for key, kind in client.acked.items()}
    assert len(acked) > 100
    for path, kinds in (("/ok/all", TYPES), ("/flaky/30/failed", TYPES[1:])):
        seen = receiver.seen(path)
        assert not [key for key, kind in acked.items() if kind in kinds and key not in seen], path
        assert all(one.good == one.count for one in seen.values())
    assert daemon.sql("SELECT count(*) FROM payload WHERE key_no = 0") == [(0,)]
    assert daemon.sql("SELECT count(*) FROM payload WHERE key_no NOT IN (SELECT no FROM sealed_key)") == [(0,)]


def digests(daemon: Daemon) -> dict[str, str]:
    """A digest of the database and of the keyring."""
    names = ("ringback.db", "keyring.db")
    return {name: hashlib.sha256((daemon.state_dir / name).read_bytes()).hexdigest() for name in names}


def test_a_start_without_its_key_is_refused_and_touches_nothing(
    daemon: Daemon, receiver: Receiver, tmp_path: Path
) -> None:
    """Exit 78, each cause by its name; with key and keyring back it goes on where it was."""
    keyed(daemon).start()
    daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.wait_status(daemon.emit(id="e1")["id"], "succeeded")
    daemon.term()
    before, keyring = digests(daemon), daemon.state_dir / "keyring.db"

    def refused(words: str) -> None:
        daemon.spawn()
        assert daemon.wait() == CONFIG, daemon.tail()
        assert words in daemon.log_lines("daemon.failed")[-1]["error"]
        assert words in daemon.log_text().splitlines()[-1], "whoever started it reads standard error"

    daemon.configure({"encryption": {"key_file": ""}})
    refused("there is no master key")
    keyed(daemon, OTHER)
    refused("another master key")
    assert digests(daemon) == before
    keyed(daemon)
    shutil.move(keyring, tmp_path / "keyring.db")
    refused("is not there")
    assert not keyring.exists()
    shutil.move(tmp_path / "keyring.db", keyring)
    assert digests(daemon) == before
    daemon.configure({"encryption": {"key_file": str(tmp_path / "none")}})
    daemon.spawn()
    assert daemon.wait() == CONFIG
    assert "encryption.key_file" in daemon.tail()
    keyed(daemon).start()
    assert daemon.emit(id="e1")["duplicate"]
    daemon.wait_status(daemon.emit(id="e2")["id"], "succeeded")


def test_the_master_key_is_changed_by_a_restart(daemon: Daemon, receiver: Receiver) -> None:
    """New key beside the old one, once; then the new one alone; the old one is of no use any more."""
    keyed(daemon).start()
    daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.emit(id="e1")
    daemon.term()
    keyed(daemon, OTHER, old=KEY).start()
    assert daemon.wait_log("encryption.rewrapped")
    daemon.term()
    keyed(daemon, OTHER).start()
    assert daemon.get("/api/v1/events/e1")["data"] == {}
    daemon.wait_status(daemon.emit(id="e2")["id"], "succeeded")
    daemon.term()
    keyed(daemon, KEY)
    daemon.spawn()
    assert daemon.wait() == CONFIG
    assert "another master key" in daemon.tail()


def test_a_payload_that_was_changed_is_never_sent(daemon: Daemon, receiver: Receiver) -> None:
    """Two events' payloads exchanged behind its back: a check names both, both end dead, a third one goes out."""
    keyed(daemon).start()
    made = daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.api("POST", f"/api/v1/endpoints/{made['id']}/pause")
    for event_id in ("e1", "e2", "e3"):
        daemon.emit(id=event_id, data={"for": event_id})
    daemon.term()
    with contextlib.closing(sqlite3.connect(daemon.state_dir / "ringback.db", isolation_level=None)) as db:
        db.execute("UPDATE payload SET event = -event WHERE event < 3")
        db.execute("UPDATE payload SET event = 3 + event WHERE event < 0")
    daemon.start()
    told = daemon.api("POST", "/api/v1/db/check")[1]["problems"]
    assert [problem.split(" can't be read")[0] for problem in told] == [f"the payload of event {n}" for n in (1, 2)]
    daemon.api("POST", f"/api/v1/endpoints/{made['id']}/resume")
    daemon.wait_status("e3", "succeeded")
    for event_id in ("e1", "e2"):
        (attempt,) = daemon.wait_status(event_id, "dead")["attempts"]
        assert attempt["outcome"] == "data_corrupt"
    assert set(receiver.seen("/ok/a")) == {"e3"}


def test_a_backup_comes_back_with_the_keyring_and_without_what_was_erased(
    daemon: Daemon, receiver: Receiver, tmp_path: Path
) -> None:
    """Alone it is refused; with a copy of the keyring it is read, held, then delivered, but for the erased tenant's."""
    keyed(daemon).start()
    for tenant in ("default", "gone"):
        made = daemon.endpoint(receiver.url(f"/ok/{tenant}"), name=tenant, tenant=tenant)
        daemon.api("POST", f"/api/v1/endpoints/{made['id']}/pause")
        daemon.emit(id=f"e-{tenant}", tenant=tenant, data={"of": f"planted-{tenant}"})
    ringback(daemon, "db", "backup", str(tmp_path / "backup"))
    ringback(daemon, "tenant", "rotate-key", "default")
    ringback(daemon, "tenant", "erase", "gone", "--yes")
    ringback(daemon, "db", "backup-keys", str(tmp_path / "keys"))
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    daemon.kill()
    with Daemon() as other:
        keyed(other)
        assert "--keys" in ringback(other, "db", "restore", str(tmp_path / "backup"), code=1)
        ringback(other, "db", "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "keys"))
        other.start()
        assert other.get("/api/v1/events/e-default")["data"] == {"of": "planted-default"}
        wait_until(lambda: not other.deliveries(tenant="gone", status="held"), 60, other.tail)
        status, shown = other.api("GET", "/api/v1/events/e-gone?tenant=gone")
        assert (status, shown.get("data")) == (200, None)
        assert other.emit(id="e-gone", tenant="gone", data={"x": 1})["duplicate"]
        ringback(other, "endpoint", "resume", "default")
        other.wait_status("e-default", "succeeded")
    assert set(receiver.stats()["paths"]) == {"/ok/default"}
