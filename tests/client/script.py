"""A scripted daemon on a real socket, for the producers' tests."""

import asyncio
import contextlib
import json
import socket
import threading

from tests.harness.waiting import wait_until


class Script:
    """Answers each line by ``answer(event)``; bytes, or None to close the connection instead."""

    def __init__(self, folder, answer):
        self.path = str(folder / "e.sock")
        self.events = []
        self.connections = 0
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                event = json.loads(line)
                self.events.append(event)
                answer = self._answer(event)
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(answer)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


def ok(event, **more):
    """The daemon's ok."""
    return json.dumps({"ok": True, "id": event["id"], "deliveries": 2} | more).encode() + b"\n"


def no(code, field=None):
    """The daemon's refusal."""
    return json.dumps({"ok": False, "error": {"code": code, "message": "why", "field": field}}).encode() + b"\n"


async def arrived(script, key):
    """Wait until the daemon has read that event."""
    there = lambda: any(event["id"] == key for event in script.events)  # noqa: E731 - a condition
    await asyncio.to_thread(wait_until, there, 60, lambda: f"{key} didn't come")
