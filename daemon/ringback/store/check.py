"""Is the database sound: its pages, its rows' bonds, the checksums of its payloads, what is sealed, its marker.

Role: one long look on a connection of its own; everything that was found, as values.
Rules: nothing is changed; the look sees one moment of the tables, so a running writer disturbs nothing. At most
``MAX_PROBLEMS`` are told. A payload is named by its event's number, never shown.
Must not know: how anything is mended.
"""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ringback.store import codec
from ringback.store.backup import Aside, count, owned
from ringback.store.check_values import unreadable
from ringback.store.database import APPLICATION_ID, DATABASE_NAME, migrations
from ringback.store.errors import StateUnusable
from ringback.store.keys import PLAIN, Keys
from ringback.store.statedir import Marker

MAX_PROBLEMS = 100
#: Payloads taken at once: bounds the memory, whatever their number.
PAYLOADS_A_STEP = 64

#: What must hold between the rows: the words for it, and the query for what breaks it.
_BONDS = {
    "the pending delivery of event {} on lane {} isn't in the queue": (
        "SELECT d.event, d.lane FROM delivery d WHERE d.state = 0 AND NOT EXISTS (SELECT 1 FROM owed o"
        " WHERE o.lane = d.lane AND o.phase = d.phase AND o.due_ms = d.due_ms AND o.event = d.event) LIMIT ?"
    ),
    "the queue has event {} on lane {}, which isn't pending": (
        "SELECT o.event, o.lane FROM owed o WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = o.event"
        " AND d.lane = o.lane AND d.state = 0 AND d.phase = o.phase AND d.due_ms = o.due_ms) LIMIT ?"
    ),
    "event {} has no payload": (
        "SELECT e.seq FROM event e WHERE NOT EXISTS (SELECT 1 FROM payload p WHERE p.event = e.seq) LIMIT ?"
    ),
    "the payload of event {} has no event": (
        "SELECT p.event FROM payload p WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.seq = p.event) LIMIT ?"
    ),
    "the delivery of event {} on lane {} has no event": (
        "SELECT d.event, d.lane FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.seq = d.event) LIMIT ?"
    ),
    "an attempt of event {} on lane {} has no delivery": (
        "SELECT DISTINCT a.event, a.lane FROM attempt a WHERE NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.event = a.event AND d.lane = a.lane) LIMIT ?"
    ),
}
_PAYLOADS = "SELECT event, crc, data FROM payload"


class Report(NamedTuple):
    """What was found. ``high_seq``: the highest event number used; ``lost_events``: that the marker knows beyond it.

    ``size``: bytes, what lies in the log included; ``free_bytes`` of them hold nothing.
    """

    problems: list[str]
    counts: dict[str, int]
    size: int
    free_bytes: int
    schema: int
    high_seq: int
    lost_events: int


def check(source: Aside, path: Path, marker_high_seq: int | None = None, keys: Keys = PLAIN) -> Report:
    """Look at everything. ``marker_high_seq``: how far the marker says it had come; None without a marker.

    ``keys``: with the database's own, what is sealed is opened too.

    Raises:
        Cancelled: ``source.cancel`` was called.
        StateUnusable: it can't be read at all, or isn't ours.
    """
    try:
        source.db.execute("BEGIN")
        try:
            return _check(source, path, marker_high_seq, keys)
        finally:
            source.db.rollback()
    except sqlite3.Error as error:
        source.go_on()
        raise StateUnusable(f"{path} can't be read: {error}") from error


def check_directory(source: Aside, directory: Path, keys: Keys = PLAIN) -> Report:
    """The database of a state directory, whoever uses it, and its marker; raises as ``check``."""
    mark = Marker(directory).read()  # first: it follows the database, so what it says now the tables must hold
    return check(source, directory / DATABASE_NAME, mark.high_seq if mark else None, keys)


def check_alone(directory: Path) -> Report:
    """The same while no daemon runs, under the directory's lock. Raises StateLocked too."""
    with owned(directory), Aside(directory / DATABASE_NAME) as source:
        return check_directory(source, directory)


def check_file(path: Path) -> Report:
    """The same for a backup, which nobody writes to."""
    if not path.is_file():
        raise StateUnusable(f"there is no file {path}")
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise StateUnusable(f"{path} has a log beside it, so it is no backup but a database in use: use db backup")
    try:
        source = Aside(path, still=True)
    except sqlite3.Error as error:
        raise StateUnusable(f"{path} can't be read: {error}") from error
    with source:
        return check(source, path)


def _check(source: Aside, path: Path, marker_high_seq: int | None, keys: Keys) -> Report:
    db = source.db
    schema = _schema(db, path)
    problems: list[str] = []
    counts: dict[str, int] = {}
    try:
        problems.extend(islice(_problems(source, schema, keys), MAX_PROBLEMS))
        counts = count(source)
    except sqlite3.DatabaseError as error:  # too damaged to be read to its end
        source.go_on()
        problems.append(f"reading broke off: {error}")
    high_seq = db.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM event), 0), (SELECT value FROM meta WHERE name = 'seq'))"
    ).fetchone()[0]
    lost = max(0, (marker_high_seq or 0) - high_seq)
    if lost:
        problems.append(f"the marker knows of up to {lost} events beyond number {high_seq}: they are lost")
    names = ("page_size", "page_count", "freelist_count")  # the file alone says little while much lies in its log
    page, pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return Report(problems, counts, page * pages, page * free, schema, high_seq, lost)


def _schema(db: sqlite3.Connection, path: Path) -> int:
    """Its schema's number. Raises StateUnusable if it isn't ours, or too new to be judged."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StateUnusable(f"{path} is no database of ringback's")
    schema: int = db.execute("PRAGMA user_version").fetchone()[0]
    newest = migrations()[-1][0]
    if schema > newest:
        raise StateUnusable(f"{path} has schema {schema}, this release knows {newest}: use the newer release")
    return schema


def _problems(source: Aside, schema: int, keys: Keys) -> Iterator[str]:
    db = source.db
    # An index that lacks a row isn't found by the quick check.
    for (words,) in db.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})"):
        if words != "ok":
            yield words
    for words, sql in _BONDS.items():
        source.go_on()
        for row in db.execute(sql, (MAX_PROBLEMS,)):
            yield words.format(*row)
    for event in _damaged(source):
        yield f"the payload of event {event} is damaged: its checksum differs"
    if schema == migrations()[-1][0]:  # an older one's tables are judged when it is brought up to date
        yield from unreadable(source, keys)


def _damaged(source: Aside) -> Iterator[int]:
    cursor = source.db.execute(_PAYLOADS)
    while rows := cursor.fetchmany(PAYLOADS_A_STEP):
        source.go_on()
        for event, crc, data in rows:
            if codec.checksum(data) != crc:
                yield event
