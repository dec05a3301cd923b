"""The demo's processes and its directory: made, killed, and all gone at the end.

Role: a temporary directory with a configuration, the daemon, the receiver, a port at which nobody listens.
Rules: whatever happens, ``close`` leaves no process and (unless told to keep it) no directory; should the demo itself
be killed, the daemon dies with it (leash) and the receiver at the end of its input.
Must not know: the story, the books.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ringback.cli.client import Api, CommandError
from ringback.cli.demo import leash, receiver
from ringback.cli.demo.cast import AZURE, Role
from ringback.cli.demo.peek import readable
from ringback.cli.demo.values import Known, Lane
from ringback.cli.lists import fetch
from ringback.kit.clock import Clock

READY_S = 15.0
READY_POLL_S = 0.03
STOP_S = 8.0
MAX_DELIVERIES = 20_000
LOG_TAIL_LINES = 5
#: What the daemon must not inherit: it is to be configured by the demo's file alone.
FOREIGN_ENV = ("RINGBACK_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "STATE_DIRECTORY", "RUNTIME_DIRECTORY")

CONFIG = """\
# A daemon of ringback's demo. It may call 127.0.0.0/8, which is refused otherwise.
[daemon]
state_dir = "{folder}/state"
shutdown_grace_s = 5
[ingest.socket]
path = "{folder}/events.sock"
[api]
socket = "{folder}/control.sock"
[egress]
allow_networks = ["127.0.0.0/8"]
[encryption]
key_file = "{folder}/master.key"
[log]
format = "json"
"""


class DemoError(Exception):
    """The demo can't go on; the text says why, and may end with lines of a log."""


class Stage:
    """All that the demo sets up. ``close`` must be called, whatever happened."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        base = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108 - a socket's path must be short
        self.folder = Path(tempfile.mkdtemp(prefix="ringback-demo-", dir=base))
        self.config = self.folder / "ringback.toml"
        self.config.write_text(CONFIG.format(folder=self.folder))
        key = self.folder / "master.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
        self.events_socket = str(self.folder / "events.sock")
        self.api = Api(str(self.folder / "control.sock"))
        self._daemon: asyncio.subprocess.Process | None = None
        self._receiver: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._nobody = socket.socket()  # bound and never listening: the kernel refuses every connection
        self._nobody.bind(("127.0.0.1", 0))
        self._port = 0
        self.down_on_purpose = True

    async def start_receiver(self, refusals: int, hesitation_s: float, heard: Callable[[dict[str, Any]], None]) -> None:
        """Start the receiver; ``heard`` gets each line it tells. The numbers are as ``receiver`` has them."""
        with (self.folder / "receiver.log").open("wb") as log:
            self._receiver = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", receiver.__name__, str(refusals), str(hesitation_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._receiver.stdout is not None
        first = await self._receiver.stdout.readline()  # the story's deadline bounds it
        if not first:
            raise DemoError(f"the receiver didn't start{self._tail('receiver.log')}")
        self._port = json.loads(first)["port"]
        self._listening = asyncio.create_task(_listen(self._receiver.stdout, heard))

    async def start_daemon(self) -> None:
        """Start the daemon, or start it again, and wait until it is ready."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_ENV)}
        with (self.folder / "daemon.log").open("ab") as log:
            self._daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", leash.__file__, str(os.getpid())),
                *(sys.executable, "-m", "ringback", "run", "--config", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=clean,
            )
        self.down_on_purpose = False
        try:
            async with asyncio.timeout(READY_S):
                while not await self._ready():
                    self.check_alive()
                    await self._clock.sleep(READY_POLL_S)
        except TimeoutError:
            raise DemoError(f"the daemon wasn't ready within {READY_S:.0f} s{self._tail('daemon.log')}") from None

    async def _ready(self) -> bool:
        with contextlib.suppress(CommandError):
            await asyncio.to_thread(self.api.get, "/readyz")
            return True
        return False

    def check_alive(self) -> None:
        """Raise DemoError if a process ended that should be running."""
        if self._receiver is not None and self._receiver.returncode is not None:
            raise DemoError(f"the receiver ended by itself{self._tail('receiver.log')}")
        if self._daemon is not None and self._daemon.returncode is not None and not self.down_on_purpose:
            raise DemoError(f"the daemon ended by itself, exit {self._daemon.returncode}{self._tail('daemon.log')}")

    async def kill_daemon(self) -> int:
        """SIGKILL: no warning, no clean-up. Returns the process id that was killed."""
        assert self._daemon is not None
        self.down_on_purpose = True
        self._daemon.send_signal(signal.SIGKILL)
        await self._daemon.wait()
        return self._daemon.pid

    async def stop_daemon(self) -> int:
        """SIGTERM, as a service manager does. Returns the exit code."""
        assert self._daemon is not None
        self.down_on_purpose = True
        self._daemon.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                return await self._daemon.wait()
        except TimeoutError:
            raise DemoError(f"the daemon didn't stop within {STOP_S:.0f} s{self._tail('daemon.log')}") from None

    async def add_endpoint(self, role: Role) -> tuple[Lane, str]:
        """Register an endpoint through the API. Returns it and its secret."""
        port = self._port if role.answers else self._nobody.getsockname()[1]
        url = f"http://127.0.0.1:{port}/{role.name}"
        body = {"url": url, "name": role.name, "dialect": role.dialect, "retry": {"delays_s": role.delays_s}}
        made = await asyncio.to_thread(self.api.post, "/api/v1/endpoints", body | role.fields)
        lane = Lane(
            name=role.name,
            about=role.about,
            endpoint_id=made["id"],
            answers=role.answers,
            dialect=role.dialect,
            takes=role.takes,
            proves=role.proves,
            pointer=role.dialect == AZURE,
        )
        return lane, made["secret"]

    async def tell_receiver(self, role: Role, secret: str) -> None:
        """Hand the receiver what an endpoint's owner knows; until then it answers nothing there."""
        told = {"endpoint": role.name, "dialect": role.dialect, "secret": secret}
        assert self._receiver is not None
        assert self._receiver.stdin is not None
        self._receiver.stdin.write(json.dumps(told | {"options": role.fields.get("options", {})}).encode() + b"\n")
        await self._receiver.stdin.drain()

    async def ask(self) -> tuple[list[Known], dict[str, str]]:
        """All deliveries and the endpoints' statuses, as the API tells them. Raises CommandError."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> tuple[list[Known], dict[str, str]]:
        endpoints = self.api.get("/api/v1/endpoints")["data"]
        rows = fetch(self.api, "/api/v1/deliveries", {}, MAX_DELIVERIES)["data"]
        known = [Known(row["endpoint_id"], row["event_id"], row["status"], row["attempt_count"]) for row in rows]
        return known, {endpoint["id"]: endpoint["status"] for endpoint in endpoints}

    async def close(self, *, keep: bool) -> None:
        """End every process that is left, and remove the directory unless it is to be kept."""
        self.down_on_purpose = True
        self._nobody.close()
        for process in (self._daemon, self._receiver):
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._listening is not None:
            await asyncio.wait([self._listening])
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def readable(self, words: Collection[str]) -> set[str]:
        """Those of the words that somebody who has the state directory and the log could read there."""
        found = await asyncio.to_thread(readable, self.folder / "state", words)
        logged = (self.folder / "daemon.log").read_text(errors="replace")
        return found | {word for word in words if word and word in logged}

    def _tail(self, name: str) -> str:
        """The end of a log, set off from the sentence before it."""
        lines = (self.folder / name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "".join(f"\n    {line}" for line in lines)


async def _listen(stdout: asyncio.StreamReader, heard: Callable[[dict[str, Any]], None]) -> None:
    while line := await stdout.readline():
        if line.endswith(b"\n"):  # a killed process may leave half a line
            heard(json.loads(line))
