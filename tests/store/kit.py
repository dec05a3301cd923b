"""What the store's tests share: an opened store on a real file, events and results made short, the invariants.

The suite speaks to the store through operations and reads; only ``check_invariants`` and the fault tests know SQL, so
that a second engine can be put behind the same tests.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ringback.core.envelope import OVERHEAD_BYTES
from ringback.core.model import AttemptRecord, Event
from ringback.kit.clock import SystemClock
from ringback.store.database import Database, open_state
from ringback.store.endpoints import EndpointReads
from ringback.store.history import HistoryReads
from ringback.store.keyring import Masters
from ringback.store.keys import Connection
from ringback.store.ops import AcceptEvent
from ringback.store.queue import QueueReads
from ringback.store.reader import Reader
from ringback.store.writer import CommitStats, Writer

#: A master key, for a store that is sealed.
MASTERS = Masters(bytes(range(32)))

NOW_MS = 1_800_000_000_000


def event(name: str = "e1", data: bytes = b'{"a":1}', tenant: str = "acme", **members: Any) -> Event:
    """An event whose digest follows from its data."""
    members.setdefault("created_at_ms", NOW_MS)
    members.setdefault("type", "stt.jobs.completed")
    return Event(id=name, tenant=tenant, data=data, digest=hashlib.sha256(data).digest(), **members)


def accept(name: str = "e1", *lanes: int, at_ms: int = NOW_MS, **members: Any) -> AcceptEvent:
    """An event for these lanes."""
    return AcceptEvent(event(name, **members), lanes, at_ms)


def attempt(
    outcome: str = "bad_status", status: int | None = 500, started_at_ms: int = NOW_MS, **members: Any
) -> AttemptRecord:
    """A log row of an attempt."""
    members.setdefault("info", b"info")
    return AttemptRecord(started_at_ms, 7, outcome, status, **members)


class Store:
    """A running store: the writer, a reader, and what they said."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fatal: list[str] = []
        self.troubles: list[str] = []
        self.commits: list[CommitStats] = []
        self.writer = Writer(
            database,
            SystemClock(),
            on_fatal=self.fatal.append,
            on_trouble=lambda name, _: self.troubles.append(name),
            on_commit=self.commits.append,
        )
        self.reader = Reader(database)
        self.queue = QueueReads(self.reader)
        self.endpoints = EndpointReads(self.reader)
        self.history = HistoryReads(self.reader)

    async def run(self, op: Any) -> Any:
        """As the writer's ``run``."""
        return await self.writer.run(op)

    async def all(self, *ops: Any) -> list[Any]:
        """Submit all at once; the answers, failures among them."""
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in ops]
        for op, answer in zip(ops, answers, strict=True):
            self.writer.submit(op, answer.set_result)
        return list(await asyncio.gather(*answers))


@asynccontextmanager
async def opened(
    directory: Path, factory: type[sqlite3.Connection] = Connection, masters: Masters | None = None
) -> AsyncIterator[Store]:
    """The store on a directory, sealed if there is a master key; stopped and closed at the end."""
    database = open_state(directory, NOW_MS, factory)
    if masters is not None:
        database.unlock(masters, lambda: NOW_MS)
    store = Store(database)
    await store.writer.start()
    await store.reader.open()
    try:
        yield store
    finally:
        await store.reader.close()
        await store.writer.stop()
        database.close()


def rows(path: Path, sql: str, *parameters: Any) -> list[Any]:
    """What lies in the tables, seen from outside."""
    db = sqlite3.connect(path)
    try:
        return db.execute(sql, parameters).fetchall()
    finally:
        db.close()


_NOTED = "(SELECT no FROM sealed_key)"
_NOTED_HEX = "(SELECT printf('01%08X', no) FROM sealed_key)"  # as a sealed value begins

INVARIANTS = {
    "a row sealed with a key that isn't noted": " UNION ALL ".join(
        [
            f"SELECT event FROM {table} WHERE key_no > 0 AND key_no NOT IN {_NOTED}"
            for table in ("payload", "response_body")
        ]
        + [
            f"SELECT {column} FROM {table} WHERE substr({column}, 1, 1) = x'01'"
            f" AND hex(substr({column}, 1, 5)) NOT IN {_NOTED_HEX}"
            for table, column in (
                ("endpoint", "spec"),
                ("endpoint_revision", "spec"),
                ("callback", "spec"),
                ("delivery", "info"),
                ("attempt", "info"),
            )
        ]
    ),
    "a pending delivery without its owed row": (
        "SELECT d.event, d.lane FROM delivery d WHERE d.state = 0 AND NOT EXISTS (SELECT 1 FROM owed o"
        " WHERE o.lane = d.lane AND o.event = d.event AND o.phase = d.phase AND o.due_ms = d.due_ms)"
    ),
    "an owed row without its pending delivery": (
        "SELECT o.event, o.lane FROM owed o WHERE NOT EXISTS (SELECT 1 FROM delivery d"
        " WHERE d.event = o.event AND d.lane = o.lane AND d.state = 0 AND d.phase = o.phase AND d.due_ms = o.due_ms)"
    ),
    "two owed rows for one delivery": "SELECT event, lane FROM owed GROUP BY event, lane HAVING count(*) > 1",
    "half an event": (
        "SELECT e.seq FROM event e WHERE NOT EXISTS (SELECT 1 FROM payload p WHERE p.event = e.seq)"
        " UNION ALL SELECT p.event FROM payload p WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.seq = p.event)"
        " UNION ALL SELECT d.event FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.seq = d.event)"
    ),
    "a callback that hangs in the air": (
        "SELECT c.event FROM callback c WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = c.event"
        " AND d.lane = c.lane) OR NOT EXISTS (SELECT 1 FROM callback_lane l WHERE l.lane = c.lane)"
        " UNION ALL SELECT l.lane FROM callback_lane l WHERE NOT EXISTS"
        " (SELECT 1 FROM callback c WHERE c.lane = l.lane)"
    ),
    "a wrong size": (
        "SELECT o.event FROM owed o JOIN payload p ON p.event = o.event"
        f" WHERE o.size <> length(p.data) - {OVERHEAD_BYTES} * (p.key_no > 0)"
    ),
    "a gap in the numbers of attempts": (
        "SELECT d.event, d.lane FROM delivery d WHERE d.attempts <> (d.started_ms IS NOT NULL) +"
        " (SELECT count(*) FROM attempt a WHERE a.event = d.event AND a.lane = d.lane)"
    ),
    "an attempt without a delivery": (
        "SELECT a.event FROM attempt a WHERE NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.event = a.event AND d.lane = a.lane AND a.n <= d.attempts)"
    ),
}


def check_invariants(path: Path) -> None:
    """Whatever happened, this holds in the committed tables."""
    for what, sql in INVARIANTS.items():
        assert rows(path, sql) == [], what
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
