"""``ringback db``: back the database up, check it, restore it, prune it.

Rules: with a daemon running everything goes through its control socket, for it alone owns the directory; with none, the
directory's lock is taken. A daemon that is named by its socket is never worked around. A backup gets its name when it
is whole and on disk, not before.
Must not know: SQL, what is in the tables.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ringback.cli.client import Api, CommandError, NotFound, Refused, Unreachable
from ringback.cli.context import Group, alone_in, find_socket, json_option, load_settings, print_json, where
from ringback.cli.words import counted, folded

PATH = "/api/v1/db"
#: Copying or checking a large database takes its time before the first byte of the answer.
LONG_ANSWER_S = 4 * 3600.0
#: Receivers named to people; --json has them all.
MAX_NAMED = 10
MAX_DAYS = 36_500
DAY_MS = 86_400_000
#: Events pruned in one transaction while no daemon runs.
ALONE_ROWS = 4096


@click.group(cls=Group)
def db() -> None:
    """Back up, check, restore and prune the database."""


@db.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@where
def backup(
    file: Path,
    force: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Copy the database into FILE, while the daemon runs or not: everything accepted before the command began.

    It holds secrets and payloads: only you may read it. Of an encrypted database it holds no key (see backup-keys).

    \b
    Example:
      ringback db backup /var/backups/ringback-$(date +%F).db
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.store import backup as store  # noqa: PLC0415 - slow to import, and most commands get by without

    _guarded(lambda: _refuse_place(file))
    if file.exists() and not force:
        raise Refused(f"{file} is there already: name another file, or say --force")
    part = file.with_name(file.name + store.PART_SUFFIX)

    def make() -> Any:
        try:
            _daemon(config_path, socket_path).download(f"{PATH}/backup", part)
            return store.look(part)
        except Unreachable:
            if part.exists():
                raise  # it broke off midway
            return store.copy_alone(Path(alone_in(config_path, socket_path)), part, _now_ms())

    part.unlink(missing_ok=True)
    try:
        made = _guarded(make, file)
        _guarded(lambda: store.publish(part, file), file)
    finally:
        part.unlink(missing_ok=True)
    told = {"file": str(file), "bytes": made.size, "taken_at": _time(made.taken_at_ms), "counts": made.counts}
    if as_json:
        print_json(told)
        return
    click.echo(f"{file}: {_size(made.size)}, {_counts(made.counts)}")


@db.command("backup-keys")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@where
def backup_keys(file: Path, config_path: str | None, socket_path: str | None) -> None:
    """Copy the keyring of an encrypted database into FILE, replacing the copy that is there.

    A backup of the database holds no key: to restore it on another host you need this copy, and the master key. Keep
    only the newest: an older one still has the keys of tenants that were erased since.

    \b
    Example:
      ringback db backup-keys /var/backups/ringback-keys.db
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.store import backup as store  # noqa: PLC0415 - as above
    from ringback.store.keyring import copy_keyring, is_keyring  # noqa: PLC0415 - as above

    _guarded(lambda: _refuse_place(file))
    if _guarded(lambda: file.exists() and file.stat().st_size > 0 and not is_keyring(file)):
        raise Refused(f"{file} is there already, and no copy of a keyring: name another file")
    part = file.with_name(file.name + store.PART_SUFFIX)

    def make() -> None:
        try:
            _daemon(config_path, socket_path).download(f"{PATH}/keyring", part)
        except Unreachable:
            copied = copy_keyring(Path(alone_in(config_path, socket_path)))
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, store.FILE_MODE))
            part.write_bytes(copied)

    part.unlink(missing_ok=True)
    try:
        _guarded(make, file)
        _guarded(lambda: store.publish(part, file), file)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{file}: the keyring, {_size(file.stat().st_size)}")


@db.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@where
def check(
    file: Path | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Check the database, or the backup FILE: its pages, its rows' bonds, the payloads' checksums, its marker.

    With the daemon running what is sealed is opened, too.

    Exits 1 if anything is wrong with it.

    \b
    Examples:
      ringback db check
      ringback db check /var/backups/ringback-2026-11-21.db
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    found = _guarded(lambda: _check(file, config_path, socket_path))
    if as_json:
        print_json(found)
    else:
        for problem in found["problems"]:
            click.echo(problem)
        verdict = "sound" if found["ok"] else "UNSOUND"
        click.echo(f"{verdict}: {_size(found['size'])}, {_counts(found['counts'])}")
    if not found["ok"]:
        click.get_current_context().exit(1)


def _check(file: Path | None, config_path: str | None, socket_path: str | None) -> Any:
    if file is None:
        try:
            return _daemon(config_path, socket_path).post(f"{PATH}/check")
        except Unreachable:
            directory = Path(alone_in(config_path, socket_path))
    from ringback.store.check import check_alone, check_file  # noqa: PLC0415 - as above

    found = check_alone(directory) if file is None else check_file(file)
    return {"ok": not found.problems, **found._asdict()}


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--keys", type=click.Path(path_type=Path), metavar="COPY", help="A copy of the keyring, if it is gone.")
@click.option(
    "--incomplete-keys", is_flag=True, help="Restore with a keyring that lacks keys: what they sealed is lost."
)
@json_option
@click.option("--config", "config_path", metavar="FILE", help="The configuration that names the state directory.")
def restore(
    file: Path,
    keys: Path | None,
    incomplete_keys: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
) -> None:
    """Make the backup FILE the state of an empty state directory. The daemon must not run.

    What the backup owes was perhaps delivered after it was taken, so the daemon then starts with every endpoint paused
    and callbacks held. `ringback endpoint resume NAME` sends one endpoint what it is owed, `--all` everything.

    \b
    Example:
      ringback db restore /var/backups/ringback-2026-11-21.db
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.store import restore as store  # noqa: PLC0415 - as above

    directory = Path(load_settings(config_path).daemon.state_dir)
    done = _guarded(lambda: store.restore(file, directory, _now_ms(), keys, incomplete=incomplete_keys))
    owed_to = [
        {"endpoint_id": one.endpoint_id, "tenant": one.tenant, "name": one.name, "owed": one.owed} for one in done.owed
    ]
    owed = sum(one.owed for one in done.owed)
    told = {"taken_at": _time(done.taken_at_ms), "counts": done.counts, "endpoints": done.paused, "owed": owed}
    if as_json:
        print_json({**told, "owed_to": owed_to, "keys_lacking": done.lacking})
        return
    taken = _time(done.taken_at_ms)
    click.echo(folded("", f"{directory}: {_counts(done.counts)}, as of {taken or 'a time it does not say'}."))
    _say_held({**told, "owed_to": owed_to})
    if done.lacking:
        lacking = "The keyring lacks keys, so the daemon won't start yet. Put a newer copy in its place, or give up:"
        click.echo(folded("", lacking))
    for tenant in done.lacking:
        click.echo(f"  ringback tenant erase {tenant}")


@db.command()
@json_option
@where
def held(
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show what is held since a restore, and whom it would be sent to.

    \b
    Example:
      ringback db held
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    found = _daemon(config_path, socket_path).get(f"{PATH}/restored")
    if as_json:
        print_json(found)
    elif found["restored_at"] is None:
        click.echo("Nothing is held for a restore.")
    else:
        click.echo(f"Restored {found['restored_at']} from a backup of {found['taken_at'] or 'unknown age'}.")
        _say_held(found)


@db.command()
@click.option("--events-days", type=click.IntRange(0, MAX_DAYS), help="Days events are kept; retention.events_days.")
@click.option("--attempts-days", type=click.IntRange(0, MAX_DAYS), help="The same for the details of attempts.")
@json_option
@where
def prune(
    events_days: int | None,
    attempts_days: int | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Remove now what is older than the retention, or than the days given. What is still owed stays.

    The daemon does the same by itself every minute, by its settings. The room is used again; the file doesn't shrink.

    \b
    Example:
      ringback db prune --events-days 7
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    given = {"events_days": events_days, "attempts_days": attempts_days}
    asked = {name: days for name, days in given.items() if days is not None}
    try:
        daemon = _daemon(config_path, socket_path)
        gone = _until_done(lambda: daemon.post(f"{PATH}/prune", asked))
    except Unreachable:
        gone = _guarded(lambda: _prune_alone(config_path, socket_path, asked))
    if as_json:
        print_json(gone)
    else:
        click.echo(f"pruned: {counted(gone['events'], 'event')}, details of {counted(gone['attempts'], 'attempt')}")


def _until_done(step: Callable[[], Mapping[str, int]]) -> dict[str, int]:
    """Again and again, until nothing more goes; what went in all."""
    gone = {"events": 0, "attempts": 0}
    more = 1
    while more:
        done = step()
        gone = {name: count + done[name] for name, count in gone.items()}
        more = done["more"]
    return gone


def _prune_alone(config_path: str | None, socket_path: str | None, asked: Mapping[str, int]) -> dict[str, int]:
    from ringback.store import retention  # noqa: PLC0415 - as above
    from ringback.store.alone import run_alone  # noqa: PLC0415 - as above

    directory = Path(alone_in(config_path, socket_path))
    kept = load_settings(config_path).retention
    now_ms = _now_ms()
    events_ms, attempts_ms = (
        now_ms - asked.get(name, getattr(kept, name)) * DAY_MS for name in ("events_days", "attempts_days")
    )

    def step() -> dict[str, int]:
        events = run_alone(directory, retention.prune_events(events_ms, ALONE_ROWS), now_ms)
        attempts = run_alone(directory, retention.prune_attempts(attempts_ms, ALONE_ROWS), now_ms)
        return {"events": events.pruned, "attempts": attempts.pruned, "more": events.more or attempts.more}

    return _until_done(step)


def _refuse_place(file: Path) -> None:
    """No folder to write into is said before the work; a copy in the place of what is in use would be the end of it."""
    from ringback.store.database import DATABASE_NAME  # noqa: PLC0415 - as above
    from ringback.store.keyring import KEYRING_NAME  # noqa: PLC0415 - as above
    from ringback.store.statedir import MARKER_NAME  # noqa: PLC0415 - as above

    there = file.resolve()
    if not there.parent.is_dir():
        raise NotFound(f"{there.parent} is no folder: make it first")
    if there.name in (DATABASE_NAME, KEYRING_NAME) and (there.parent / MARKER_NAME).exists():
        raise Refused(f"{file} belongs to a state directory: name another file")


def _daemon(config_path: str | None, socket_path: str | None) -> Api:
    return Api(find_socket("control", config_path, socket_path), LONG_ANSWER_S)


def _guarded(work: Callable[[], Any], file: Path | None = None) -> Any:
    """The work's answer; what the store says is wrong becomes a sentence and an exit code. ``file``: being written."""
    from ringback.store.errors import StateError, StateLocked  # noqa: PLC0415 - as above
    from ringback.store.restore import NotEmpty  # noqa: PLC0415 - as above

    try:
        return work()
    except StateLocked as problem:
        raise Refused(f"{problem}: stop it first") from None
    except NotEmpty as problem:
        raise Refused(str(problem)) from None
    except FileNotFoundError as problem:
        raise NotFound(f"{problem.filename}: {problem.strerror}") from None
    except StateError as problem:
        raise CommandError(str(problem)) from None
    except OSError as problem:
        raise CommandError(f"{problem.filename or file}: {problem.strerror}") from None  # a write names no file


def _say_held(found: Mapping[str, Any]) -> None:
    if not found["endpoints"] and not found["owed"]:
        click.echo("Nothing would be sent again.")
        return
    are = "is" if found["endpoints"] == 1 else "are"
    owed = "1 delivery wasn't" if found["owed"] == 1 else f"{found['owed']:,} deliveries weren't"
    if found["owed"]:
        then = f"{owed} made when the backup was taken and would be sent, perhaps again:"
    else:
        then = "Nothing was owed when the backup was taken; what comes now waits."
    click.echo(folded("", f"{counted(found['endpoints'], 'endpoint')} {are} paused. {then}"))
    for one in found["owed_to"][:MAX_NAMED]:
        name = one["name"] or one["endpoint_id"] or "callbacks"
        click.echo(f"  {one['owed']:>8}  {name}" + (f" ({one['tenant']})" if one["tenant"] else ""))
    if len(found["owed_to"]) > MAX_NAMED:
        click.echo(f"  and {len(found['owed_to']) - MAX_NAMED} more")
    click.echo("Send to one: ringback endpoint resume NAME")
    click.echo("To all, and callbacks: ringback endpoint resume --all")


def _counts(counts: Mapping[str, int]) -> str:
    if not counts:
        return "unreadable"
    return f"{counted(counts['events'], 'event')}, {counts['owed']:,} owed, {counted(counts['endpoints'], 'endpoint')}"


def _size(count: int) -> str:
    from ringback.cli.status import size  # noqa: PLC0415 - as above

    return size(count)


def _time(ms: int) -> str | None:
    from ringback.core.times import rfc3339  # noqa: PLC0415 - as above

    return rfc3339(ms) if ms else None


def _now_ms() -> int:
    from ringback.kit.clock import SystemClock  # noqa: PLC0415 - as above

    return SystemClock().now_ms()
