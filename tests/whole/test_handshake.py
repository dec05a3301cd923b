"""Handshakes with the real daemon and receivers of their own: the documents' programs, and one that misbehaves."""

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.harness.daemon import Daemon
from tests.harness.ports import answers, free_port
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KINDS = ("azure-speech", "azure-speech-strict", "graph", "cloudevents", "websub", "zoom")


def wait_endpoint(daemon: Daemon, endpoint: dict, status: str) -> dict:
    """The endpoint once it has that status."""

    def shown() -> dict:
        return daemon.get(f"/api/v1/endpoints/{endpoint['id']}")

    wait_until(lambda: shown()["status"] == status, 60, lambda: f"{shown()}\n{daemon.tail()}")
    return shown()


@contextlib.contextmanager
def program(folder: Path, language: str) -> Iterator[str]:
    """The receiver of docs/receivers.md in that language, on a port of its own; its URL."""
    text = (ROOT / "docs" / "receivers.md").read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (code,) = [block for block in blocks if "Answers every handshake" in block]
    port = free_port()
    name, command = {"python": ("receiver.py", sys.executable), "js": ("receiver.mjs", "node")}[language]
    (folder / name).write_text(code.replace("9000", str(port)))
    process = subprocess.Popen(
        [command, str(folder / name)], env=os.environ | {"SECRET": SECRET}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: answers(port), 60, lambda: f"{name} doesn't listen")
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        process.kill()
        process.wait()


class Script:
    """A receiver whose challenges are answered by ``answer(handler, token)``; deliveries get 204."""

    def __init__(self) -> None:
        script = self
        self.answer = self.echo
        self.challenges: list[str] = []
        self.delivered: list[int] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                token = parse_qs(urlsplit(self.path).query).get("validationToken")
                if token is None:
                    script.delivered.append(json.loads(body)["data"]["n"])
                    self.reply(204)
                else:
                    script.challenges.append(token[0])
                    script.answer(self, token[0])

            def do_OPTIONS(self) -> None:
                script.challenges.append(self.headers["WebHook-Request-Callback"])
                self.reply(405)

            def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"

    @staticmethod
    def echo(handler, token: str) -> None:
        handler.reply(200, token.encode(), Content_Type="text/plain")

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize(
    "language",
    ["python", pytest.param("js", marks=pytest.mark.skipif(shutil.which("node") is None, reason="no node here"))],
)
def test_the_receivers_of_the_documents_prove_every_kind(daemon: Daemon, tmp_path: Path, language: str) -> None:
    """Each kind is pending at its creation, activated by the program, and gets what was held; no token is logged."""
    daemon.start()
    with program(tmp_path, language) as url:
        made = [
            daemon.endpoint(url, handshake=kind, name=kind, rate_limit={"requests": 50, "per_s": 1}) for kind in KINDS
        ]
        assert {endpoint["status"] for endpoint in made} == {"pending"}
        assert daemon.emit(id="e")["deliveries"] == len(KINDS)
        proofs = {kind: wait_endpoint(daemon, e, "active")["proof"] for kind, e in zip(KINDS, made, strict=True)}
        for endpoint in made:
            daemon.wait_status("e", "succeeded", endpoint=endpoint["id"])
    assert proofs["cloudevents"]["allowed_per_min"] == 120
    assert {kind for kind, proof in proofs.items() if proof["renew_at"]} == {"websub", "zoom"}
    assert len(daemon.wait_log("endpoint.activated", len(KINDS))) == len(KINDS)
    assert {line["kind"] for line in daemon.wait_log("handshake.sent", len(KINDS))} == set(KINDS)
    assert "validationToken" not in daemon.log_text()
    assert "challenge=" not in daemon.log_text()


def test_a_backlog_waits_for_the_proof_and_arrives_in_order(daemon: Daemon) -> None:
    """A wrong echo: failed by name, nothing sent. Challenged by hand and echoed: all of it, in order."""
    daemon.start()
    with Script() as script:
        script.answer = lambda handler, _: handler.reply(200, b"hello")
        made = daemon.endpoint(script.url, handshake="azure-speech", concurrency=1)
        failed = wait_endpoint(daemon, made, "failed")
        assert failed["status_reason"].startswith("wrong_echo: ")
        for n in range(100):
            daemon.emit(id=f"e{n}", data={"n": n})
        assert daemon.delivery_of("e0")["status"] == "held"
        assert script.delivered == []
        script.answer = script.echo
        assert daemon.api("POST", f"/api/v1/endpoints/{made['id']}/challenge")[0] == 202
        wait_endpoint(daemon, made, "active")
        wait_until(lambda: len(script.delivered) == 100, 60, daemon.tail)
        assert script.delivered == list(range(100))
    (line,) = daemon.wait_log("handshake.failed")
    assert (line["reason"], line["kind"], line["status"]) == ("wrong_echo", "azure-speech", 200)
    assert daemon.wait_log("endpoint.failed")[0]["reason"] == "wrong_echo"


def test_a_kill_in_the_middle_of_a_handshake_is_made_up_for(daemon: Daemon) -> None:
    """SIGKILL while the receiver thinks: the next start challenges again, and what was owed arrives."""
    daemon.start()
    thinking, go_on = threading.Event(), threading.Event()

    def think(handler, token: str) -> None:
        thinking.set()
        go_on.wait(60)
        with contextlib.suppress(OSError):
            Script.echo(handler, token)

    with Script() as script:
        script.answer = think
        made = daemon.endpoint(script.url, handshake="graph")
        daemon.emit(id="e", data={"n": 1})
        assert thinking.wait(60)
        daemon.kill()
        go_on.set()
        script.answer = script.echo
        daemon.start()
        wait_endpoint(daemon, made, "active")
        daemon.wait_status("e", "succeeded")
        assert script.delivered == [1]
        assert len(set(script.challenges)) == 2


def test_consent_by_the_callback_outlives_a_kill(daemon: Daemon) -> None:
    """The callback's token proves after a restart, once, and nothing else does."""
    daemon.configure({"api": {"public_url": "https://hooks.example.com/rb"}})
    daemon.start()
    with Script() as script:
        made = daemon.endpoint(script.url, handshake="cloudevents")
        daemon.emit(id="e", data={"n": 1})
        daemon.wait_log("handshake.waiting")
        daemon.restart()
        (callback,) = script.challenges
        assert callback.startswith("https://hooks.example.com/rb/api/v1/handshakes/")
        path = callback.removeprefix("https://hooks.example.com/rb")
        assert daemon.api("GET", path[:-1])[0] == 404
        assert daemon.get(f"/api/v1/endpoints/{made['id']}")["status"] == "pending"
        assert daemon.api("GET", path)[0] == 200
        assert daemon.api("GET", path)[0] == 404
        daemon.wait_status("e", "succeeded")
    assert path.rpartition("/")[2] not in daemon.log_text()
