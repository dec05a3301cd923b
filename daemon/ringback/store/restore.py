"""A backup becomes the state of an empty directory, with everything it would send held.

Role: check the copy, put it in place, see that the next start pauses what it would send; later, let go of it.
Rules: nothing is put in place of anything: a directory with a database or a marker is refused. The copy is made ready
under another name and gets its own in one step, so a restore that breaks off leaves no database. What the backup owes
was perhaps delivered after it was taken: so every endpoint that would send is paused, and callbacks are held, until
somebody says go. The pausing is the start's (``hold_endpoints``), before anything is read: what an encrypted backup
says of its endpoints can't be read without the master key, and a restore needs none.
Must not know: who asked, how it is shown.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec

from ringback.core import endpoint_state
from ringback.core.envelope import place
from ringback.store import codec, marks
from ringback.store.backup import FILE_MODE, PART_SUFFIX, publish
from ringback.store.check import check_file
from ringback.store.database import DATABASE_NAME, migrate_copy
from ringback.store.endpoints import opened
from ringback.store.errors import KeyringLost, StateError, StateUnusable
from ringback.store.keyring import KEYRING_NAME, Keyring, Masters
from ringback.store.keys import SPEC, keys_of, lacking, needed, words_for
from ringback.store.ops import Task
from ringback.store.reader import Fetches
from ringback.store.statedir import DIRECTORY_MODE, MARKER_NAME, Lock, Mark, Marker

_OWED = (
    "SELECT o.lane, o.n, e.id, t.name, e.name FROM (SELECT lane, count(*) AS n FROM owed GROUP BY lane) o"
    " LEFT JOIN endpoint e ON e.lane = o.lane LEFT JOIN tenant t ON t.no = e.tenant ORDER BY o.n DESC, o.lane"
)
_LIVE = "SELECT lane, revision, spec FROM endpoint WHERE deleted_ms IS NULL"
_WOULD_SEND = "SELECT count(*) FROM endpoint WHERE deleted_ms IS NULL AND status IN ('active', 'pending', 'failed')"
_PAUSE = "UPDATE endpoint SET status = ?, spec = ? WHERE lane = ?"


class NotEmpty(StateError):  # noqa: N818 - a state of affairs, named as such
    """There is a database, or was one."""


class Unsound(StateError):  # noqa: N818 - as above
    """The backup has problems; ``problems`` names them."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(
            f"{path} is unsound: {problems[0]}" + (f" (and {len(problems) - 1} more)" * (len(problems) > 1))
        )
        self.problems = problems


class OwedTo(NamedTuple):
    """What one lane would be sent. ``endpoint_id`` None: the callbacks of one origin."""

    lane: int
    owed: int
    endpoint_id: str | None
    tenant: str | None
    name: str | None


class Restored(NamedTuple):
    """What was put in place. Times are 0 if unknown; ``owed``: the most first.

    ``paused``: endpoints that the next start pauses, but for those that no file names any more. ``lacking``: tenants of
    which the keyring lacks keys; until they are erased, or a newer copy lies there, no daemon starts.
    """

    taken_at_ms: int
    counts: dict[str, int]
    paused: int
    owed: list[OwedTo]
    lacking: list[str]


class Held(NamedTuple):
    """What a restore still holds. ``restored_at_ms`` 0: nothing."""

    restored_at_ms: int
    taken_at_ms: int
    lanes: frozenset[int]
    callbacks: bool


def restore(
    backup: Path, directory: Path, now_ms: int, keyring: Path | None = None, *, incomplete: bool = False
) -> Restored:
    """Put a backup into an empty state directory, making it if there is none.

    ``keyring``: a copy of the keyring; None if the directory has it, or the backup isn't encrypted. ``incomplete``: one
    that lacks keys will do.

    Raises:
        KeyringLost: the backup is encrypted, and what there is isn't its keyring or lacks keys.
        NotEmpty: the directory has, or had, a database.
        StateLocked: a daemon owns it.
        Unsound: the backup is damaged.
        StateUnusable: the backup is none, or the directory can't be written.
        FileNotFoundError: there is no such backup.
    """
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _refuse_others(directory)
        lock = Lock(directory)
        try:
            return _restore(backup, directory, now_ms, keyring, incomplete=incomplete)
        finally:
            lock.release()
    except FileNotFoundError:
        raise
    except (OSError, sqlite3.Error) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise StateUnusable(f"cannot restore into {directory}: {words}") from error


def _refuse_others(directory: Path) -> None:
    """A root's files would keep the daemon's account out."""
    if (owner := directory.stat().st_uid) != os.geteuid():
        raise StateUnusable(f"{directory} belongs to uid {owner}: run this command as that user")


def _refuse_what_is_there(directory: Path, *, with_keys: bool) -> None:
    there = [name for name in (DATABASE_NAME, DATABASE_NAME + "-wal", MARKER_NAME) if (directory / name).exists()]
    if there:
        text = f"{directory} has {', '.join(there)}: a backup is restored where there is no database; move that away"
        raise NotEmpty(text + (f", but leave {KEYRING_NAME}" if (directory / KEYRING_NAME).exists() else ""))
    if with_keys and (directory / KEYRING_NAME).exists():
        raise NotEmpty(
            f"{directory} has a {KEYRING_NAME}: leave --keys out to restore beside it, for it is newer than any copy "
            "and remembers what was erased; or move it away to take the copy"
        )


def _restore(backup: Path, directory: Path, now_ms: int, keyring: Path | None, *, incomplete: bool) -> Restored:
    _refuse_what_is_there(directory, with_keys=keyring is not None)
    part = directory / (DATABASE_NAME + PART_SUFFIX)
    try:
        _take(backup, part)
        counts = _sound(backup, part)
        with contextlib.closing(migrate_copy(part)) as db:
            lost = _bring_keys(db, directory, keyring, now_ms, incomplete=incomplete)
            restored, high_seq = _hold(db, now_ms, counts, lost)
        publish(part, directory / DATABASE_NAME)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    Marker(directory).write(Mark(now_ms, high_seq))
    return restored


def _bring_keys(
    db: sqlite3.Connection, directory: Path, keyring: Path | None, now_ms: int, *, incomplete: bool
) -> list[str]:
    """See that the keyring fits the backup; put the copy in place if one was given. Tenants of which it lacks keys."""
    place_of_it = directory / KEYRING_NAME
    if keyring is None:
        if place_of_it.exists():
            return _look_at_keys(db, place_of_it, place_of_it, now_ms, incomplete=incomplete)
        if needed(db).ring:
            raise KeyringLost(f"the backup is encrypted and {place_of_it} is not there: name a copy of it with --keys")
        return []
    part = place_of_it.with_name(KEYRING_NAME + PART_SUFFIX)
    try:
        _take(keyring, part)
        lost = _look_at_keys(db, part, keyring, now_ms, incomplete=incomplete)
        publish(part, place_of_it)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return lost


def _look_at_keys(db: sqlite3.Connection, path: Path, named: Path, now_ms: int, *, incomplete: bool) -> list[str]:
    with contextlib.closing(Keyring(path, Masters(), lambda: now_ms)) as ring:
        tenants = lacking(db, ring, named)[1]
    if tenants and not incomplete:
        raise KeyringLost(
            f"{words_for(tenants, named)}: take its newest copy; without one, --incomplete-keys restores all but what"
            " those keys sealed"
        )
    return tenants


def _sound(backup: Path, part: Path) -> dict[str, int]:
    """What is in it. Raises Unsound."""
    report = check_file(part)
    if report.problems:
        raise Unsound(backup, report.problems)
    return report.counts


def _take(backup: Path, part: Path) -> None:
    """Copy the file as it is: it is checked where it can't change any more."""
    part.unlink(missing_ok=True)  # of a restore that broke off
    log = backup.with_name(backup.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise StateUnusable(f"{backup} has a log beside it, so it is no backup but a database in use: use db backup")
    with backup.open("rb") as source:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)


def _hold(db: sqlite3.Connection, now_ms: int, counts: dict[str, int], lost: list[str]) -> tuple[Restored, int]:
    """Note that everything is to be held; with the highest event number used."""
    db.execute("BEGIN IMMEDIATE")
    marks.put(db, "restored_ms", now_ms)
    for name in ("hold_endpoints", "hold_callbacks"):
        marks.put(db, name, 1)
    paused = db.execute(_WOULD_SEND).fetchone()[0] + db.execute("SELECT count(*) FROM restored_lane").fetchone()[0]
    high_seq = db.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM event), 0), (SELECT value FROM meta WHERE name = 'seq'))"
    ).fetchone()[0]
    owed = [OwedTo(*row) for row in db.execute(_OWED)]
    taken_at_ms = marks.get(db, "backup_ms")
    db.execute("COMMIT")
    return Restored(taken_at_ms, counts, paused, owed, lost), high_seq


def taken_at() -> Task[int | None]:
    """Until ``hold_endpoints`` after a restore: when the backup was taken (0 if it doesn't say). Else None."""

    def run(db: sqlite3.Connection) -> int | None:
        return marks.get(db, "backup_ms") if marks.get(db, "hold_endpoints") else None

    return Task("taken_at", run)


def hold_endpoints(now_ms: int) -> Task[None]:
    """Pause what would send, note what was paused: once after a restore."""

    def run(db: sqlite3.Connection) -> None:
        if not marks.get(db, "hold_endpoints"):
            return
        keys = keys_of(db)
        # What an earlier restore paused and nobody has moved since is in the table already.
        for lane, revision, spec in db.execute(_LIVE).fetchall():
            where = place(SPEC, lane, revision)
            old = opened(keys, lane, revision, spec)
            new = endpoint_state.hold(old, now_ms=now_ms)
            if new is not old:
                paused = keys.seal(db, new.tenant, where, codec.encode_spec(new))
                db.execute(_PAUSE, (new.status.value, paused, lane))
                db.execute("INSERT INTO restored_lane (lane) VALUES (?) ON CONFLICT DO NOTHING", (lane,))
        marks.put(db, "hold_endpoints", 0)

    return Task("hold_endpoints", run)


async def held(reader: Fetches) -> Held:
    """What a restore still holds."""
    rows = await reader.fetch(
        "SELECT (SELECT value FROM meta WHERE name = 'restored_ms'), (SELECT value FROM meta WHERE name = 'backup_ms'),"
        " (SELECT value FROM meta WHERE name = 'hold_callbacks'), (SELECT json_group_array(lane) FROM restored_lane)"
    )
    restored_ms, backup_ms, callbacks, lanes = rows[0]
    return Held(restored_ms, backup_ms, frozenset(msgspec.json.decode(lanes)), bool(callbacks))


async def owed_now(reader: Fetches) -> list[OwedTo]:
    """What every lane is owed, the most first. Counts them all: for an operator's question."""
    return [OwedTo(*row) for row in await reader.fetch(_OWED)]


def let_go(lane: int) -> Task[None]:
    """Somebody moved this endpoint by hand: it is no longer the restore's."""

    def run(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM restored_lane WHERE lane = ?", (lane,))

    return Task("let_go", run)


def let_all_go() -> Task[None]:
    """Nothing is held for a restore any more."""

    def run(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM restored_lane")
        for name in ("restored_ms", "hold_callbacks"):
            marks.put(db, name, 0)

    return Task("let_all_go", run)
