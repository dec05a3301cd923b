"""Producers and a receiver inside the namespace: load over restarts, and the account of it.

``python3 systemd_load.py --socket PATH --port N --stop FILE --acked FILE`` emits until the first FILE exists, says in
the other how much is acknowledged so far, waits until all of it has arrived, and prints one JSON object. Standard
library only: it runs where the tests' packages don't.
A producer behaves as the protocol asks: when a connection ends before the answer it sends again under the same id.
"""

import argparse
import http.server
import json
import socket
import threading
import time
from pathlib import Path
from typing import BinaryIO

PRODUCERS = 4
WINDOW = 8
PAUSE_S = 0.01
ARRIVAL_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 60


class Receiver(http.server.ThreadingHTTPServer):
    """Counts arrivals by webhook-id."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.seen: dict[str, int] = {}
        self.lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 204."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            key = self.headers["webhook-id"]
            self.server.seen[key] = self.server.seen.get(key, 0) + 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Producer(threading.Thread):
    """Sends windows of events and reads their answers, for as long as it is let."""

    def __init__(self, number: int, path: str, stop: Path) -> None:
        super().__init__()
        self.number, self.path, self.stop = number, path, stop
        self.acked: list[str] = []
        self.errors: list[str] = []
        self.refused: list[str] = []
        self.reconnects = 0

    def run(self) -> None:
        n = 0
        waiting: list[str] = []
        while waiting or not self.stop.exists():
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(ANSWER_TIMEOUT_S)
                    sock.connect(self.path)
                    lines = sock.makefile("rwb")
                    while waiting or not self.stop.exists():
                        if not waiting:
                            waiting = [f"p{self.number}-{n + k}" for k in range(WINDOW)]
                            n += WINDOW
                        self._converse(lines, waiting)
                        time.sleep(PAUSE_S)
            except (ConnectionRefusedError, FileNotFoundError, TimeoutError) as error:
                self.errors.append(repr(error))  # what must never happen with a socket unit
                return
            except (ConnectionResetError, BrokenPipeError):
                self.reconnects += 1

    def _converse(self, lines: BinaryIO, waiting: list[str]) -> None:
        """Send what waits, read the answers; what got none stays."""
        events = ({"id": key, "type": "stt.jobs.completed", "data": {"id": key}} for key in waiting)
        lines.writelines(json.dumps(event).encode() + b"\n" for event in events)
        lines.flush()
        for _ in range(len(waiting)):
            line = lines.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError
            answer = json.loads(line)
            if answer["ok"]:
                self.acked.append(answer["id"])
                waiting.remove(answer["id"])
            elif answer["error"]["code"] == "shutting_down":
                raise ConnectionResetError
            else:
                self.refused.append(answer["error"]["code"])


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="load over restarts")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--acked", type=Path, required=True, help="where to say how many were acknowledged so far")
    given = parser.parse_args()
    receiver = Receiver(given.port)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    producers = [Producer(number, given.socket, given.stop) for number in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        fresh = given.acked.with_suffix(".new")
        fresh.write_text(str(sum(len(producer.acked) for producer in producers)))
        fresh.replace(given.acked)  # at once: whoever reads it never sees half
        time.sleep(PAUSE_S)
    acked = {key for producer in producers for key in producer.acked}
    deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
    while not acked <= receiver.seen.keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    result = {
        "acked": len(acked),
        "missing": sorted(acked - receiver.seen.keys()),
        "doubles": sum(count - 1 for count in receiver.seen.values()),
        "reconnects": sum(producer.reconnects for producer in producers),
        "errors": [text for producer in producers for text in producer.errors],
        "refused": [text for producer in producers for text in producer.refused],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
