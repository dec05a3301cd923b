"""The demo's receiver as a process: it reads and verifies every dialect, believes nobody, and proves itself."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from ringback import dialects
from ringback.cli.demo.cast import EVERY_TYPE, make_cast
from ringback.cli.demo.jobs import make_jobs
from ringback.cli.demo.reading import NOTHING, READERS, read
from ringback.cli.receiver.captured import Captured
from ringback.core.model import Event
from ringback.dialects import Shot
from ringback.kit.clock import SystemChance

CAST = make_cast(15, SystemChance())
JOBS = make_jobs(12)
TYPES = {
    "azure-speech": {"stt.jobs.completed": "TranscriptionCompletion", "stt.jobs.failed": "TranscriptionCompletion"},
    "deepva": {"stt.jobs.completed": "deepva.transcript.on_created"},
}


def request(role, job, secret, seq=1):
    """Headers and body of a job, as the daemon makes them for that endpoint."""
    dialect, now_ms = dialects.get(role.dialect), int(time.time() * 1000)
    data = json.dumps(json.loads(job.line)["data"], ensure_ascii=False).encode()
    event = Event(id=job.id, tenant="default", type=job.type, data=data, created_at_ms=now_ms, digest=b"")
    own = TYPES.get(role.dialect, {}).get(job.type, job.type)
    shot = Shot(event, own, now_ms, seq, 1, role.fields.get("options", {}))
    body = dialect.encode(shot, (secret,))
    return dict(dialect.headers(shot, body, (secret,), now_ms)), body


def secret_of(role):
    """The role's own secret, or a fresh one."""
    dialect = dialects.get(role.dialect)
    return role.fields.get("secret") or dialect.new_secret(b"\x05" * dialect.secret_bytes)


class Receiver:
    """The process, and what it told."""

    def __init__(self):
        command = [sys.executable, "-m", "ringback.cli.demo.receiver", "1", "0.05"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = self.told()["port"]

    def told(self):
        """Its next line."""
        return json.loads(self.process.stdout.readline())

    def learn(self, role):
        """Tell it an endpoint."""
        line = {"endpoint": role.name, "dialect": role.dialect, "secret": secret_of(role)}
        line["options"] = role.fields.get("options", {})
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()

    def post(self, path, headers, body):
        """Status and body of its answer."""
        call = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, headers, method="POST")
        try:
            with urllib.request.urlopen(call, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, b""


@pytest.fixture(scope="module")
def receiver():
    """One process for all tests here; it ends with its input."""
    running = Receiver()
    for role in CAST:
        running.learn(role)
    yield running
    running.process.stdin.close()
    assert running.process.wait(60) == 0
    running.process.stdout.close()


def test_the_cast_has_every_dialect():
    """One endpoint for each there is, each readable; all types are somebody's; names are unlike."""
    assert {role.dialect for role in CAST} == set(dialects.names()) == set(READERS)
    assert {kind for role in CAST for kind in role.takes} == EVERY_TYPE
    assert len({role.name for role in CAST}) == len(CAST)


@pytest.mark.parametrize("role", [role for role in CAST if role.answers], ids=lambda role: role.name)
def test_it_reads_what_each_endpoint_is_sent(receiver, role):
    """Every event that an endpoint takes verifies there, and is known by the id and the data it was emitted with."""
    for job in JOBS:
        if job.type not in role.takes:
            continue
        status, _ = receiver.post(role.name, *request(role, job, secret_of(role)))
        told = receiver.told()
        assert told["signature"] == "ok"
        assert (told["endpoint"], told["id"], told["status"]) == (role.name, job.id, status)
        assert told["data"] == (job.pointer if role.dialect == "azure-speech" else job.digest)
        assert told["mark"]


@pytest.mark.parametrize("role", CAST[:6], ids=lambda role: role.name)
def test_it_believes_no_other_secret(receiver, role):
    """Signed with another secret, a request is refused with 401 and told in words."""
    job = next(job for job in JOBS if job.type in role.takes)
    dialect = dialects.get(role.dialect)
    headers, body = request(role, job, dialect.new_secret(b"\x66" * dialect.secret_bytes))
    assert receiver.post(role.name, headers, body)[0] == 401
    told = receiver.told()
    assert (told["status"], "fit" in told["signature"]) == (401, True)


def test_a_challenge_is_answered_if_its_signature_holds(receiver):
    """The token comes back after it was verified; with a forged signature it does not."""
    (role,) = [role for role in CAST if role.proves]
    mac = hmac.new(secret_of(role).encode(), b"a token", hashlib.sha256).digest()
    headers = {"X-MicrosoftSpeechServices-Event": "Challenge"}
    for signature, answer in ((base64.b64encode(mac).decode(), (200, b"a token")), ("AAAA", (401, b""))):
        path = f"{role.name}?validationToken=a%20token"
        given = headers | {"X-MicrosoftSpeechServices-Signature": signature}
        assert receiver.post(path, given, b"") == answer
        assert receiver.told()["challenge"] == "received"
        if answer[0] == 200:
            assert receiver.told() == {"endpoint": role.name, "challenge": "answered", "signature": "ok"}


@pytest.mark.parametrize("dialect", READERS)
@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":3}', b'{"self":1}'])
def test_what_cannot_be_read_is_nothing(dialect, body):
    """A body of another form breaks nothing: it stands for no event."""
    assert read(dialect, Captured({}, body)) == NOTHING
