"""API tokens in the table: added, removed, listed. Only their digests are there.

Must not know: what a token allows.
"""

import sqlite3

from ringback.core.tokens import Token
from ringback.store.ops import Task
from ringback.store.reader import Fetches

_COLUMNS = "id, tenant, digest, created_ms"
_LIST = f"SELECT {_COLUMNS} FROM token ORDER BY id"  # noqa: S608 - a constant
_INSERT = f"INSERT INTO token ({_COLUMNS}) SELECT ?1, ?2, ?3, ?4 WHERE (SELECT count(*) FROM token) < ?5"  # noqa: S608 - a constant


def insert(token: Token, limit: int) -> Task[bool]:
    """Store a token; False if there are ``limit`` already."""

    def run(db: sqlite3.Connection) -> bool:
        row = (token.id, token.tenant, token.digest, token.created_at_ms, limit)
        return db.execute(_INSERT, row).rowcount == 1

    return Task("insert_token", run)


def delete(token_id: str) -> Task[bool]:
    """Remove a token; False if there is none of that id."""

    def run(db: sqlite3.Connection) -> bool:
        return db.execute("DELETE FROM token WHERE id = ?", (token_id,)).rowcount == 1

    return Task("delete_token", run)


def every() -> Task[list[Token]]:
    """All of them, oldest first; for who holds the directory while no daemon runs."""

    def run(db: sqlite3.Connection) -> list[Token]:
        return [Token(*row) for row in db.execute(_LIST)]

    return Task("list_tokens", run)


async def load(reader: Fetches) -> list[Token]:
    """All of them, oldest first."""
    return [Token(*row) for row in await reader.fetch(_LIST)]
