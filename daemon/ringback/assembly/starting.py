"""What a start can't have, told with the key that names it.

Role: between the parts, which know paths and addresses, and the operator, who knows keys.
Must not know: what is done with it once it is had.
"""

import contextlib
import os
from collections.abc import Iterator

from ringback.kit.ways_out import in_words
from ringback.transports.bind import AddressInUse
from ringback.transports.spool import SpoolInUse


class Unusable(Exception):  # noqa: N818 - a state of affairs, named as such
    """What a key names can't be used; the message has the key, the value, why, and what to do."""


class InUse(Unusable):
    """Another process has it."""


@contextlib.contextmanager
def named(key: str, value: str) -> Iterator[None]:
    """Do what needs the ``value`` of ``key``; raises InUse or Unusable if it can't be had."""
    try:
        yield
    except (AddressInUse, SpoolInUse) as taken:
        raise InUse(f"{key}: {taken}; stop it, or name another one here") from taken
    except OSError as error:
        raise Unusable(f"{key}: {_place(error, value)} can't be used: {in_words(error)}") from error
    except ValueError as wrong:
        raise Unusable(f"{key}: {wrong}") from wrong


def _place(error: OSError, value: str) -> str:
    """What it failed at: the value itself, or, of a path, a folder on the way to it or in it."""
    if not value.startswith("/") or not isinstance(error.filename, str | bytes):
        return value
    failed = os.path.join(value, os.fsdecode(error.filename))  # noqa: PTH118 - Path would make "." of ""
    return value if failed == value else f"{value} ({failed})"
