"""Callbacks in the table: the lane of each origin, and what an event's callback asks for.

Role: the SQL beside ``intake`` for the events of a batch that have a callback, and the reads that bring lanes back.
Rules: a lane's row is made in the transaction of the first event that needs it, so that no delivery is owed to a lane
nobody knows; its number comes from the sequence endpoints use, so none is used twice.
Must not know: how many lanes a tenant may have, who is called.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ringback.core.envelope import Key, place
from ringback.core.model import Callback
from ringback.store import codec
from ringback.store.keys import CALLBACK, sealed
from ringback.store.ops import AcceptEvent
from ringback.store.reader import Fetches
from ringback.store.rows import Statement

#: Stands for an origin that was erased, its lane's number behind it; no origin of a callback begins so.
ERASED_ORIGIN = "erased:"

_LANE = Statement(
    "lane, tenant, origin",
    "INSERT INTO callback_lane (lane, tenant, origin) SELECT * FROM v WHERE v.lane IS NOT NULL",
)
_SPEC = Statement(
    "event, lane, spec", "INSERT INTO callback (event, lane, spec) SELECT * FROM v WHERE v.event IS NOT NULL"
)
_KNOWN = (
    "SELECT json_group_array(json_array(l.tenant, l.origin, l.lane)) FROM json_each(?) AS v"
    " CROSS JOIN callback_lane l ON l.tenant = v.value->>0 AND l.origin = v.value->>1"
)
_TAKE = "UPDATE meta SET value = value + ? WHERE name = 'lane' RETURNING value"
# What an erased origin's lane still owes is cancelled, not sent.
_OWING = (
    "SELECT l.lane, t.name, l.origin FROM callback_lane l JOIN tenant t ON t.no = l.tenant"
    " WHERE EXISTS (SELECT 1 FROM owed o WHERE o.lane = l.lane) AND l.origin NOT LIKE ? || '%' ORDER BY l.lane"
)

_json = msgspec.json.Encoder()
_known_decoder = msgspec.json.Decoder(list[tuple[int, str, int]])

_Key = tuple[int, str]  # tenant number, origin


class CallbackLane(NamedTuple):
    """A lane and whose origin it is for; the empty origin is the tenant's overflow lane."""

    lane: int
    tenant: str
    origin: str


def store(
    db: sqlite3.Connection,
    tenants: dict[str, int],
    fresh: Sequence[tuple[int, AcceptEvent]],
    sealing: Mapping[str, Key],
) -> dict[int, int]:
    """Write what the new events' callbacks ask for, and new lanes; the lane of each such event, by its number.

    ``sealing``: the tenants' keys, empty if nothing is sealed.
    """
    wanted = {
        seq: (tenants[op.event.tenant], op.callback_origin) for seq, op in fresh if op.callback_origin is not None
    }
    if not wanted:
        return {}
    numbers = _lanes(db, sorted(set(wanted.values())))
    lanes = {seq: numbers[key] for seq, key in wanted.items()}
    _SPEC.run(
        db,
        [
            (seq, lanes[seq], _spec(seq, op.event.callback, sealing.get(op.event.tenant)))
            for seq, op in fresh
            if seq in lanes and op.event.callback is not None
        ],
    )
    return lanes


def _spec(seq: int, asked: Callback, key: Key | None) -> bytes:
    spec = codec.encode_callback(asked)
    return spec if key is None else sealed(key, place(CALLBACK, seq), spec)


def _lanes(db: sqlite3.Connection, keys: list[_Key]) -> dict[_Key, int]:
    """The lane of each key, new ones made."""
    text = db.execute(_KNOWN, (_json.encode(keys).decode(),)).fetchone()[0]
    numbers = {(tenant, origin): lane for tenant, origin, lane in _known_decoder.decode(text)}
    missing = [key for key in keys if key not in numbers]
    if missing:
        top = db.execute(_TAKE, (len(missing),)).fetchone()[0]
        made = {key: top - place for place, key in enumerate(missing)}
        _LANE.run(db, [(lane, *key) for key, lane in made.items()])
        numbers |= made
    return numbers


class CallbackReads:
    """What is read of callbacks' lanes."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def owing(self) -> list[CallbackLane]:
        """Every lane that owes something."""
        return [CallbackLane(*row) for row in await self._reader.fetch(_OWING, (ERASED_ORIGIN,))]
