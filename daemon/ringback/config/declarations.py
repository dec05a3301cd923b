"""Endpoints declared in files: where they are read from, and their secrets from files of their own.

Role: the ``[[endpoint]]`` tables of the configuration and of ``endpoints.d/*.toml`` beside it become raw declarations
or problems. ``secret_file`` is read here, so that what follows knows ``secret`` alone.
Rules: every problem at once, each with the file and the place; a secret's text is in no problem.
Must not know: what makes a good endpoint, the API, the database.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ringback.kit.exposure import open_to_all

FOLDER = "endpoints.d"
#: The variable by which systemd says where the unit's credentials lie.
CREDENTIALS = "CREDENTIALS_DIRECTORY"
MAX_FILES = 1000
MAX_DECLARED = 10_000
MAX_FILE_BYTES = 1_048_576
MAX_SECRET_BYTES = 4096

Problem = tuple[str, str]


class Declaration(NamedTuple):
    """One ``[[endpoint]]`` table. ``key`` says where it stands; ``fields`` are the API's, as TOML gave them.

    ``exposed``: the file of its secret, if everybody on this machine may read it, else "".
    """

    key: str
    fields: Mapping[str, Any]
    exposed: str = ""


class _Unusable(Exception):  # noqa: N818 - carries the words of one problem to the place that knows its key
    """Something can't be used."""


def read_declarations(
    file: str | None, merged: Mapping[str, Any], env: Mapping[str, str]
) -> tuple[list[Declaration], list[Problem]]:
    """Read what ``file``, whose tables are ``merged``, and the folder beside it declare.

    Returns:
        The declarations in the order of the files' names, and every problem found.
    """
    if file is None:
        return [], []
    folder = Path(file).parent
    problems: list[Problem] = []
    found = list(_tables("endpoint", folder, merged.get("endpoint", []), env, problems))
    for path in _files(folder / FOLDER, problems):
        key = f"{FOLDER}/{path.name}"
        try:
            tables = _read(path)
        except _Unusable as wrong:
            problems.append((key, str(wrong)))
            continue
        problems += [
            (f"{key}: {other}", "only [[endpoint]] tables may stand here") for other in tables if other != "endpoint"
        ]
        found += _tables(f"{key}: endpoint", path.parent, tables.get("endpoint", []), env, problems)
    if len(found) > MAX_DECLARED:
        problems.append(("endpoint", f"{len(found)} endpoints are declared; at most {MAX_DECLARED}"))
    return found, problems


def _files(folder: Path, problems: list[Problem]) -> list[Path]:
    """The folder's files by name; hidden ones are editors'. None without a folder, which is no other thing either.

    Else the endpoints of a folder that is not mounted yet would be taken for undeclared, and disabled.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as problem:
        if not isinstance(problem, FileNotFoundError) or folder.is_symlink():
            problems.append((FOLDER, f"can't be read: {problem.strerror}"))
        return []
    if len(found) > MAX_FILES:
        problems.append((FOLDER, f"holds {len(found)} files; at most {MAX_FILES}"))
        return []
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_bytes(path, MAX_FILE_BYTES).decode())
    except (ValueError, RecursionError) as problem:  # not TOML, not UTF-8, or brackets without end
        raise _Unusable(f"is not TOML: {problem}") from None


def without_waiting(path: str, flags: int) -> int:
    """An ``opener``: a pipe that nobody writes to must not hold a start or a reload up, nor a terminal become ours."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def there(path: Path) -> bool:
    """Whether something lies there; also if that can't be found out: then reading it tells why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _bytes(path: Path, at_most: int) -> bytes:
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            raw = stream.read(at_most + 1) if regular else b""
    except OSError as problem:
        raise _Unusable(f"can't be read: {problem.strerror}") from None
    if not regular:
        raise _Unusable("is no regular file")
    if len(raw) > at_most:
        raise _Unusable(f"is larger than {at_most} bytes")
    return raw


def _tables(
    key: str, folder: Path, tables: object, env: Mapping[str, str], problems: list[Problem]
) -> Iterator[Declaration]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append((key, "must be [[endpoint]] tables, in double brackets"))
        return
    for index, table in enumerate(tables):
        fields = dict(table)
        named = fields.pop("secret_file", None)
        exposed = ""
        if named is not None:
            try:
                fields["secret"], exposed = _secret(named, folder, env, given="secret" in table)
            except _Unusable as wrong:
                problems.append((f"{key}.{index}.secret_file", str(wrong)))
        yield Declaration(f"{key}.{index}", fields, exposed)


def _secret(named: object, folder: Path, env: Mapping[str, str], *, given: bool) -> tuple[str, str]:
    """A secret's text, and its file if that lies open to all.

    A relative name is a credential of the unit, if there is one, else a file beside this one.
    """
    if given:
        raise _Unusable("excludes secret")
    if not isinstance(named, str) or not named or "\0" in named:
        raise _Unusable("must be a path in quotes")
    credential = Path(env.get(CREDENTIALS, "/nonexistent"), named)
    path = credential if there(credential) else folder / named
    if CREDENTIALS not in env and not there(path):
        raise _Unusable(
            f"{path} is not there; a credential is seen by the unit alone: to check one, set ${CREDENTIALS}"
        )
    try:
        text = _bytes(path, MAX_SECRET_BYTES).decode()
    except UnicodeDecodeError:
        raise _Unusable("is not UTF-8") from None
    secret = text.rstrip("\r\n")
    if not secret:
        raise _Unusable("is empty")
    return secret, str(path) if open_to_all(path) else ""
