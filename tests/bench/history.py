"""A state directory with a past: many endpoints, a million delivered events under random ids, by SQL straight in.

The daemon makes the directory and its schema; this fills it between two of its lives, through the store's own codec.
"""

import contextlib
import hashlib
import os
import random
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterator

import msgspec
import uuid_utils
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import SECRET

from ringback.core.model import AttemptInfo, Endpoint, Secret
from ringback.store.codec import encode_spec

#: The type whose events go to endpoint n is this and ``.n``.
TYPE = "bench"
BATCH = 20_000
DATA_BYTES = 200


def fill(daemon: Daemon, url: str, endpoints: int, events: int) -> None:
    """Give a stopped daemon that many endpoints at ``url``/n, and that many delivered events spread over them."""
    with contextlib.closing(sqlite3.connect(daemon.state_dir / "ringback.db")) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -262144")
        now_ms = time.time_ns() // 1_000_000
        db.execute("INSERT OR IGNORE INTO tenant (name) VALUES ('default')")
        (tenant,) = db.execute("SELECT no FROM tenant WHERE name = 'default'").fetchone()
        _endpoints(db, url, endpoints, tenant, now_ms)
        for first in range(1, events + 1, BATCH):
            _events(db, first, min(BATCH, events + 1 - first), endpoints, tenant, now_ms)
            db.commit()
        db.execute("INSERT INTO lane_history (lane, event) SELECT lane, event FROM delivery ORDER BY lane, event")
        marks = {"seq": events, "lane": endpoints, "history": events}
        db.executemany("UPDATE meta SET value = ? WHERE name = ?", [(value, name) for name, value in marks.items()])
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # Else the daemon's first checkpoint pays for all of this: its sync took 0.3 s.
    file = os.open(daemon.state_dir / "ringback.db", os.O_RDONLY)
    os.fsync(file)
    os.close(file)


def _endpoints(db: sqlite3.Connection, url: str, number: int, tenant: int, now_ms: int) -> None:
    for lane in range(1, number + 1):
        made = Endpoint(
            lane=lane,
            id=str(uuid_utils.uuid7()),
            tenant="default",
            url=f"{url}/{lane - 1}",
            dialect="standard",
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            events=(f"{TYPE}.{lane - 1}",),
            secrets=(Secret(SECRET, now_ms),),
        )
        spec = encode_spec(made)
        db.execute(
            "INSERT INTO endpoint (lane, id, tenant, name, status, deleted_ms, revision, spec)"
            " VALUES (?, ?, ?, NULL, 'active', NULL, 1, ?)",
            (lane, made.id, tenant, spec),
        )
        db.execute("INSERT INTO endpoint_revision (lane, revision, spec) VALUES (?, 1, ?)", (lane, spec))


def _events(db: sqlite3.Connection, first: int, number: int, endpoints: int, tenant: int, now_ms: int) -> None:
    data = b'{"text":"%b"}' % (b"x" * DATA_BYTES)
    digest, crc = hashlib.sha256(data).digest(), zlib.crc32(data)
    info = _info(data)
    lanes = [1 + random.randrange(endpoints) for _ in range(number)]
    seqs = range(first, first + number)

    def events() -> Iterator[tuple[object, ...]]:
        for seq, lane in zip(seqs, lanes, strict=True):
            yield seq, tenant, uuid.UUID(int=random.getrandbits(128)).hex, f"{TYPE}.{lane - 1}", now_ms, now_ms, digest

    db.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", events())
    db.executemany("INSERT INTO payload VALUES (?, 0, ?, ?)", ((seq, crc, data) for seq in seqs))
    db.executemany(
        "INSERT INTO delivery (event, lane, state, attempts, started_ms, elapsed_ms, status, outcome, info)"
        " VALUES (?, ?, 1, 1, ?, 3, 200, 'delivered', ?)",
        ((seq, lane, now_ms, info) for seq, lane in zip(seqs, lanes, strict=True)),
    )


def _info(data: bytes) -> bytes:
    answer = AttemptInfo(1, 1, 0, hashlib.sha256(data).digest()[:16], (("Content-Length", "2"),), b"ok")
    return msgspec.msgpack.encode(answer)
