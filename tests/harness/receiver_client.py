"""A handle on a receiver process: starts it, asks what it saw, ends it."""

import http.client
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.harness.unix_http import request_json
from tests.harness.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: What the harness's endpoints are signed with unless a test says otherwise.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANSWER_TIMEOUT_S = 30


@dataclass(frozen=True)
class Seen:
    """What came for one id at one path (nanoseconds of the wall clock)."""

    count: int
    good: int
    sha256: str
    first_ns: int
    last_ns: int


class Receiver:
    """A receiver process; a context manager."""

    def __init__(self, *, secrets: tuple[str, ...] = (SECRET,), port: int = 0, hash_bodies: bool = True) -> None:
        self._options = [f"--port={port}", *(f"--secret={secret}" for secret in secrets)]
        if not hash_bodies:
            self._options.append("--no-hash")

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.harness.receiver", *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def url(self, path: str) -> str:
        """The URL of a path like ``/ok/a``."""
        return f"http://127.0.0.1:{self.port}{path}"

    def stats(self) -> dict[str, Any]:
        """Everything counted so far."""
        return self._ask("/_stats")

    def path(self, path: str) -> dict[str, int]:
        """What was counted at one path."""
        empty = dict.fromkeys(("requests", "ids", "doubles", "bad", "open", "peak"), 0)
        return self.stats()["paths"].get(path, empty)

    def seen(self, path: str) -> dict[str, Seen]:
        """What came at one path, by webhook-id."""
        return {key: Seen(*values) for key, values in self._ask(f"/_seen?{quote(path)}").items()}

    def arrivals(self) -> dict[str, int]:
        """When each id first arrived, at whatever path (nanoseconds of the wall clock)."""
        return self._ask("/_arrivals")

    def reset(self) -> None:
        """Forget everything."""
        self._ask("/_reset")

    def release(self) -> int:
        """Answer 200 to everything that hangs; how many that were."""
        return self._ask("/_release")["released"]

    def gate(self, status: int) -> None:
        """What ``/gate/…`` answers from now on."""
        self._ask(f"/_gate?{status}")

    def wait_for(self, path: str, *, ids: int = 0, requests: int = 0, open_: int = 0, timeout_s: float = 60) -> None:
        """Wait until at least that much has come at a path."""

        def enough() -> bool:
            now = self.path(path)
            return now["ids"] >= ids and now["requests"] >= requests and now["open"] >= open_

        wait_until(enough, timeout_s, lambda: f"at {path} only {self.path(path)}")

    def _ask(self, target: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S)
        status, answer = request_json(connection, "GET", target)
        assert status == 200, (target, status, answer)
        return answer
