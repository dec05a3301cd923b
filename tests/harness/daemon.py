"""The real daemon as a subprocess: its own directories, its own configuration, and every way to end it.

Loopback is allowed, the log is JSON in a file, sockets lie in a short path under /tmp. Nothing here imports ringback.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.harness.producer import Producer
from tests.harness.receiver_client import ROOT, SECRET
from tests.harness.unix_http import UnixConnection, request_json
from tests.harness.waiting import wait_until

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 120
API_TIMEOUT_S = 60
#: Lines of the log shown when something goes wrong.
TAIL_LINES = 25

Settings = dict[str, dict[str, Any]]


def toml(settings: Settings) -> str:
    """Settings as TOML; a key ``ingest.socket`` makes that table. JSON's strings, numbers and lists are TOML's."""
    tables = []
    for table, values in settings.items():
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        tables.append("\n".join([f"[{table}]", *lines]))
    return "\n\n".join(tables) + "\n"


class Daemon:
    """One daemon over all its lives; a context manager that leaves neither process nor file behind.

    ``settings`` are merged over the harness's, table by table. ``state_dir`` may lie elsewhere (a mounted image).
    ``wrapper`` is put before the command, ``env`` added to the environment.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        state_dir: Path | None = None,
        wrapper: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rb-", dir="/tmp"))
        self.state_dir = state_dir or self.root / "state"
        self.events_path = self.root / "e.sock"
        self.control_path = self.root / "c.sock"
        self.config_path = self.root / "ringback.toml"
        self.log_path = self.root / "log"
        self._wrapper = list(wrapper)
        self._env = {key: value for key, value in os.environ.items() if not key.startswith(("RINGBACK_", "NOTIFY_"))}
        self._env.update(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._unread: int | None = None
        self.settings: Settings = {
            "daemon": {"state_dir": str(self.state_dir), "shutdown_grace_s": 5},
            "ingest.socket": {"path": str(self.events_path)},
            "api": {"socket": str(self.control_path)},
            "egress": {"allow_networks": ["127.0.0.0/8"]},
            "log": {"format": "json"},
        }
        self.configure(settings or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._unread is not None:
            os.close(self._unread)
        shutil.rmtree(self.root, ignore_errors=True)

    # -- lives -------------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        """Merge settings and write the file; they hold from the next start."""
        for table, values in settings.items():
            self.settings[table] = self.settings.get(table, {}) | values
        self.config_path.write_text(toml(self.settings))

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the process and return it at once."""
        command = [*self._wrapper, sys.executable, "-m", "ringback", "run", "--config", str(self.config_path)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self._process

    def start(self) -> Self:
        """Start and wait until it is ready."""
        self.spawn()
        self.wait_ready()
        return self

    def start_with_unread_log(self) -> Self:
        """Start with a pipe for its log that nobody ever reads."""
        reading, writing = os.pipe()
        try:
            command = [sys.executable, "-m", "ringback", "run", "--config", str(self.config_path)]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing
            )
        finally:
            os.close(writing)
        self._unread = reading
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait for ``/readyz``; a process that ended instead fails with the end of its log."""

        def ready() -> bool:
            code = self._process.poll()
            assert code is None, f"the daemon exited with {code}:\n{self.tail()}"
            try:
                return self.api("GET", "/readyz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(ready, READY_TIMEOUT_S, self.tail)

    @property
    def pid(self) -> int:
        """The process's id in this life."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end; the exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.tail()}") from error

    def term(self) -> int:
        """SIGTERM and wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> Self:
        """Kill and start again."""
        self.kill()
        return self.start()

    # -- talking -----------------------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call on the control socket: the status and the JSON."""
        return request_json(UnixConnection(str(self.control_path), API_TIMEOUT_S), method, path, body)

    def get(self, path: str) -> Any:
        """GET that must answer 200."""
        status, answer = self.api("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def events(self) -> Producer:
        """A producer's connection to the events socket."""
        return Producer(str(self.events_path))

    def emit(self, **event: Any) -> dict[str, Any]:
        """Emit one event over a connection of its own; the answer, which must be ok."""
        with self.events() as producer:
            answer = producer.ask({"type": "stt.jobs.completed", "data": {}} | event)
        assert answer["ok"], answer
        return answer

    def endpoint(self, url: str, **fields: Any) -> dict[str, Any]:
        """Create an endpoint, signed with the harness's secret unless told otherwise."""
        status, answer = self.api("POST", "/api/v1/endpoints", {"url": url, "secret": SECRET} | fields)
        assert status == 201, (status, answer)
        return answer

    def deliveries(self, **filters: str) -> list[dict[str, Any]]:
        """Every delivery that fits, newest first, over all pages."""
        query = "&".join(f"{key}={value}" for key, value in filters.items())
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"/api/v1/deliveries?limit=250&{query}{cursor}".rstrip("&"))
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def delivery_of(self, event_id: str, **filters: str) -> dict[str, Any]:
        """The one delivery of an event, with its attempts."""
        (found,) = self.deliveries(event=event_id, **filters)
        return self.get(f"/api/v1/deliveries/{found['id']}")

    def wait_status(self, event_id: str, status: str, *, timeout_s: float = 60, **filters: str) -> dict[str, Any]:
        """Wait until the one delivery of an event has that status; the delivery as it was then, with its attempts."""
        shown: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal shown
            shown = self.delivery_of(event_id, **filters)
            return bool(shown["status"] == status)

        wait_until(reached, timeout_s, lambda: f"{status}: {shown}")
        return shown

    # -- looking -----------------------------------------------------------------------------------------------------

    def log_text(self) -> str:
        """Everything it wrote, over all lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log's lines, parsed; those of one event if named. A line cut off by a kill is left out."""
        lines = []
        for text in self.log_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(text))
        return [line for line in lines if isinstance(line, dict) and event in (None, line.get("event"))]

    def wait_log(self, event: str, lines: int = 1) -> list[dict[str, Any]]:
        """Wait until the log has that many lines of one event: it is written behind what it tells."""
        wait_until(lambda: len(self.log_lines(event)) >= lines, 60, lambda: f"no {event} in:\n{self.tail()}")
        return self.log_lines(event)

    def tail(self) -> str:
        """The end of the log, for an assertion's message."""
        return "\n".join(self.log_text().splitlines()[-TAIL_LINES:])

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the database from the side, read-only."""
        path = self.state_dir / "ringback.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(statement, values).fetchall()

    def cpu_s(self) -> float:
        """Processor seconds it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """The process's resident memory now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
