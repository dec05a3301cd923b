"""A receiver that misbehaves on command: the URL's first path segment names what it does.

Runs inside a test (``async with HostileServer() as server``) or as a process of its own
(``python -m tests.harness.hostile_server [--port N] [--seconds N]`` prints its base URL and serves). Everything is on
loopback. The names stand in ``hostile_scripts``; what comes before a request has ``hostile_ports``.
"""

import argparse
import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.harness.hostile_scripts import EARLY, SCRIPTS, Seen, Talk
from tests.harness.listening import Listening

MAX_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass
class HostileServer(Listening):
    """The server; ``requests`` and ``connections`` tell what reached it."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str, host: str = "") -> str:
        """The URL that makes it do ``path``."""
        shown = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'https' if self.tls else 'http'}://{shown}:{self.port}/{path}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        turn = 0
        try:
            keep: bool | None = True
            while keep:
                turn += 1
                keep = await self._one(reader, writer, connection, turn)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, as it may
        except asyncio.CancelledError:
            writer.transport.abort()  # close would wait for a client that may never read
            raise
        finally:
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, turn: int
    ) -> bool | None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen = _parse(head, connection, turn)
        _, name, argument, *_ = [*seen.path.split("/"), "", ""]
        talk = Talk(reader, writer, seen, argument)
        if name in EARLY:
            self.requests.append(seen)
            return await EARLY[name](talk)
        length = int({name.lower(): value for name, value in seen.headers}.get("content-length", 0))
        seen.body = await reader.readexactly(min(length, MAX_REQUEST_BYTES))
        self.requests.append(seen)
        return await SCRIPTS[name](talk)


def _parse(head: bytes, connection: int, turn: int) -> Seen:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Seen(method, parts.path, query, headers, b"", head, connection, turn)


async def _main(port: int, seconds: float | None) -> None:
    async with HostileServer(port=port) as server:
        print(server.url(""), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.port, arguments.seconds))
