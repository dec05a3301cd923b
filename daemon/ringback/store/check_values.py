"""Does every value that may be sealed open: endpoints, payloads, callbacks, what receivers answered.

Role: a part of a check: the words for each value that can't be read.
Rules: a value is named by its place, never shown. Without the master key what is sealed is passed over; what a
destroyed key sealed is no damage but an erasure's, which goes on.
Must not know: how anything is mended.
"""

from collections.abc import Iterator
from typing import Any

from ringback.core.envelope import Tampered, place
from ringback.store.backup import Aside
from ringback.store.endpoints import opened
from ringback.store.errors import StateCorrupt
from ringback.store.keys import BODY, CALLBACK, INFO, PAYLOAD, Erased, Keys, Locked

#: Values looked at between two looks whether to go on.
VALUES_A_STEP = 256

_SPECS = "SELECT lane, revision, spec FROM endpoint UNION ALL SELECT lane, revision, spec FROM endpoint_revision"
_ATTEMPT = "the answer to event {} on lane {}, attempt {},"
#: Its words, its kind, and a query for its place and itself. Plain payloads have a checksum; plain bodies are anything.
_VALUES = (
    ("the payload of event {}", PAYLOAD, "SELECT event, data FROM payload WHERE key_no > 0"),
    ("the callback of event {}", CALLBACK, "SELECT event, spec FROM callback"),
    (_ATTEMPT, INFO, "SELECT event, lane, attempts, info FROM delivery WHERE info IS NOT NULL"),
    (_ATTEMPT, INFO, "SELECT event, lane, n, info FROM attempt WHERE info IS NOT NULL"),
    (_ATTEMPT, BODY, "SELECT event, lane, n, body FROM response_body WHERE key_no > 0"),
)


def unreadable(source: Aside, keys: Keys) -> Iterator[str]:
    """What can't be read. Raises Cancelled."""
    for lane, revision, spec in _rows(source, _SPECS):
        try:
            opened(keys, lane, revision, spec)
        except Locked:
            continue
        except StateCorrupt as problem:
            if not isinstance(problem.__cause__, Erased):
                yield str(problem)
    for words, kind, sql in _VALUES:
        for *where, value in _rows(source, sql):
            try:
                keys.open(place(kind, *where), value)
            except Tampered as problem:
                yield f"{words.format(*where)} can't be read: {problem}"
            except (Erased, Locked):
                continue


def _rows(source: Aside, sql: str) -> Iterator[tuple[Any, ...]]:
    cursor = source.db.execute(sql)
    while rows := cursor.fetchmany(VALUES_A_STEP):
        source.go_on()  # an interrupt between two statements ends neither
        yield from rows
