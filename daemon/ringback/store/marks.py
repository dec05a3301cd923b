"""The named numbers in ``meta``: how far something has come.

Role: read and write them inside the writer's transaction.
"""

import sqlite3


def get(db: sqlite3.Connection, name: str) -> int:
    """The mark's value. Every name is made by the schema: an unknown one is a bug."""
    value: int = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
    return value


def put(db: sqlite3.Connection, name: str, value: int) -> None:
    """Set the mark."""
    db.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
