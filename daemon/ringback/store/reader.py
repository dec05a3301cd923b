"""Read-only connections, each call with a time limit.

Role: readers never wait for the writer and can't harm it: they see the last commit, may not write, and are interrupted
when they take too long, because a reader that goes on for ever keeps the log from starting anew.
Rules: opened once; one statement at a time on a connection; a statement of many small rows is better written so that it
answers with one row of JSON (each row is a hand-over of the interpreter's lock).
Must not know: what is asked.
"""

import asyncio
import sqlite3
from typing import Any, Protocol

import aiosqlite

from ringback.store.database import BUSY_TIMEOUT_MS, READER_CACHE_KIB, Database
from ringback.store.errors import QueryTimeout
from ringback.store.keys import Keys
from ringback.store.rows import CACHED_STATEMENTS

__all__ = ["DISPATCH_TIMEOUT_S", "READ_TIMEOUT_S", "Fetches", "QueryTimeout", "ReadPool", "Reader"]

#: What a look from outside may take.
READ_TIMEOUT_S = 2.0

#: What the dispatcher's own reads may take; they are all bounded, so this is for a sick disk.
DISPATCH_TIMEOUT_S = 10.0

#: Between two tries to end a statement.
INTERRUPT_AGAIN_S = 0.01

#: Connections that serve the API.
POOL_SIZE = 2


Parameters = tuple[Any, ...] | dict[str, Any]


class Fetches(Protocol):
    """A reader or a pool of them. ``keys`` open what is sealed."""

    @property
    def keys(self) -> Keys:
        """The database's."""
        ...

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """All rows of one statement; QueryTimeout if it takes too long."""
        ...


class Reader:
    """One connection with its own thread."""

    def __init__(self, database: Database, limit_s: float = READ_TIMEOUT_S) -> None:
        self._uri = database.read_uri
        self.keys = database.keys
        self._limit_s = limit_s
        self._lock = asyncio.Lock()
        self._raw: sqlite3.Connection | None = None
        self._db = aiosqlite.Connection(self._connect, iter_chunk_size=64)
        self.waiting = 0  #: calls that wait or run

    async def open(self) -> "Reader":
        """Connect."""
        await self._db
        return self

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        await self._db.close()

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """All rows of one statement.

        Raises:
            QueryTimeout: it took longer than this reader's limit.
        """
        self.waiting += 1
        try:
            async with self._lock:
                return await self._run(sql, parameters)
        finally:
            self.waiting -= 1

    async def _run(self, sql: str, parameters: Parameters) -> list[Any]:
        job = asyncio.ensure_future(self._db.execute_fetchall(sql, parameters))
        timer = asyncio.get_running_loop().call_later(self._limit_s, self._interrupt, job)
        try:
            return list(await asyncio.shield(job))
        except asyncio.CancelledError:
            self._interrupt(job)  # nobody wants the answer; the next caller wants the connection
            await asyncio.wait({job})
            job.exception()
            raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise QueryTimeout(f"the query took longer than {self._limit_s:g} s") from error
            raise
        finally:
            timer.cancel()

    def _interrupt(self, job: asyncio.Future[Any]) -> None:
        """End the statement; again and again, because one that hasn't begun yet doesn't notice."""
        if job.done() or self._raw is None:
            return
        self._raw.interrupt()
        asyncio.get_running_loop().call_later(INTERRUPT_AGAIN_S, self._interrupt, job)

    def _connect(self) -> sqlite3.Connection:
        raw = sqlite3.connect(
            self._uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
        )
        raw.execute("PRAGMA query_only = 1")
        raw.execute("PRAGMA temp_store = MEMORY")
        raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        raw.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        self._raw = raw
        return raw


class ReadPool:
    """A few readers; each call goes to the one with the least to do."""

    def __init__(self, database: Database, size: int = POOL_SIZE, limit_s: float = READ_TIMEOUT_S) -> None:
        self._readers = [Reader(database, limit_s) for _ in range(size)]
        self.keys = database.keys

    async def open(self) -> "ReadPool":
        """Connect all."""
        for reader in self._readers:
            await reader.open()
        return self

    async def close(self) -> None:
        """Disconnect all; safe to call twice."""
        for reader in self._readers:
            await reader.close()

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """As ``Reader.fetch``."""
        return await min(self._readers, key=lambda reader: reader.waiting).fetch(sql, parameters)
