"""The master key of encryption at rest: from a credential of the unit, or from a file.

Role: finds and reads it, and the one before it while keys are rotated.
Rules: a key is 32 random bytes, as they are or as text in hex or base64; its text is in no problem. What isn't given in
either way is none: whether that is right only the database knows.
Must not know: what is sealed with it.
"""

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ringback.config.declarations import CREDENTIALS, there, without_waiting

KEY_BYTES = 32
#: A file with more can't be a key.
MAX_FILE_BYTES = 1024
#: The credentials' names, as the unit gives them.
CREDENTIAL, OLD_CREDENTIAL = "master-key", "master-key-old"

Problem = tuple[str, str]


class MasterKeys(NamedTuple):
    """The key, and the one before it; None: not given. ``exposed``: files that others may read."""

    key: bytes | None = None
    old: bytes | None = None
    exposed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "MasterKeys(…)"


class _Unusable(Exception):  # noqa: N818 - carries the words of one problem to the place that knows its key
    """Something can't be used."""


def read_master_keys(key_file: str, old_key_file: str, env: Mapping[str, str]) -> tuple[MasterKeys, list[Problem]]:
    """Read what there is. ``key_file``, ``old_key_file``: absolute paths, "" if not set.

    Returns:
        The keys, and every problem found, each with its dotted key.
    """
    found: list[bytes | None] = []
    exposed: list[str] = []
    problems: list[Problem] = []
    for setting, named, credential in (
        ("encryption.key_file", key_file, CREDENTIAL),
        ("encryption.old_key_file", old_key_file, OLD_CREDENTIAL),
    ):
        try:
            path = _path(named, Path(env[CREDENTIALS], credential) if CREDENTIALS in env else None)
            found.append(_read(path) if path is not None else None)
            if path is not None and named and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                exposed.append(str(path))
        except _Unusable as wrong:
            problems.append((setting, str(wrong)))
            found.append(None)
    key, old = found
    if key is None and old is not None:
        problems.append(("encryption.old_key_file", f"is of use only beside a new key: {CREDENTIAL} is not given"))
    if key is not None and key == old:
        problems.append(("encryption.old_key_file", "is the same key as the new one"))
    return MasterKeys(key, old, tuple(exposed)), problems


def _path(named: str, credential: Path | None) -> Path | None:
    given = credential is not None and there(credential)
    if named and given:
        raise _Unusable(f"excludes the credential {credential.name if credential else ''}: give the key in one way")
    if named:
        return Path(named)
    return credential if given else None


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            raw = stream.read(MAX_FILE_BYTES + 1) if regular else b""
    except OSError as problem:
        raise _Unusable(f"{path} can't be read: {problem.strerror}") from None
    if not regular:
        raise _Unusable(f"{path} is no regular file")
    key = _decode(raw) if len(raw) <= MAX_FILE_BYTES else None
    if key is None:
        raise _Unusable(
            f"{path} holds no key: it must be {KEY_BYTES} random bytes, as they are or in hex or base64"
            " (openssl rand -base64 32)"
        )
    return key


def _decode(raw: bytes) -> bytes | None:
    if len(raw) == KEY_BYTES and not (raw.isascii() and raw.decode("ascii").isprintable()):  # a passphrase is no key
        return raw
    text = raw.strip()
    for decode in (binascii.unhexlify, lambda text: base64.b64decode(text, validate=True)):
        try:
            key = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(key) == KEY_BYTES:
            return bytes(key)
    return None
