"""The programs in README.md and docs/protocol.md do what the text beside them says."""

import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.harness.ports import answers, free_port
from tests.harness.waiting import wait_until

from ringback.core.model import Event
from ringback.dialects import Shot, standard

ROOT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def program(path, language):
    """The one program of that language in a document."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    return found


def post(port, body, headers):
    """The status that the receiver answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/hooks", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("language", "name", "command"),
    [
        ("python", "receiver.py", [sys.executable]),
        pytest.param(
            "js",
            "receiver.mjs",
            ["node"],
            marks=pytest.mark.skipif(shutil.which("node") is None, reason="node isn't installed"),
        ),
    ],
)
def test_the_receivers_of_the_readme_verify(tmp_path, language, name, command):
    """They accept what the daemon signs, in any script, and refuse an altered body, an old time, a missing header."""
    port = free_port()
    (tmp_path / name).write_text(program("README.md", language).replace("9000", str(port)))
    now_ms = int(time.time() * 1000)
    data = '{"text":"本日は ü"}'.encode()
    event = Event(id="e1", tenant="default", type="a.b", data=data, created_at_ms=now_ms, digest=b"")
    shot = Shot(event, event.type)
    body = standard.encode(shot, (SECRET,))
    headers = dict(standard.headers(shot, body, (SECRET,), now_ms))
    old = dict(standard.headers(shot, body, (SECRET,), now_ms - 3_600_000))
    unsigned = {key: value for key, value in headers.items() if key != "webhook-signature"}
    receiver = subprocess.Popen(
        [*command, str(tmp_path / name)], env=os.environ | {"SECRET": SECRET}, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(port), 60, lambda: "nobody listens")
        assert post(port, body, headers) == 204
        assert post(port, body + b" ", headers) == 401
        assert post(port, body, old) == 401
        assert post(port, body, unsigned) == 401
        assert post(port, body, headers) == 204
    finally:
        receiver.kill()
        receiver.wait()


@pytest.mark.whole
def test_the_producer_of_the_protocol_emits(daemon):
    """The Python producer gets one answer for each event, in order, and the same ids again are duplicates."""
    daemon.start()
    names = {}
    exec(program("docs/protocol.md", "python"), names)
    events = [{"id": f"e{n}", "type": "a.b", "data": {"n": n}} for n in range(50)]
    told = names["emit"](events, str(daemon.events_path))
    assert [answer["id"] for answer in told] == [event["id"] for event in events]
    assert all(answer["duplicate"] for answer in names["emit"](events, str(daemon.events_path)))
