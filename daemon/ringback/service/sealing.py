"""Encryption at rest as a service: what a start has to make good, what lies in the clear and is sealed behind it.

Role: says aloud whether the database is encrypted; begins anew the erasures that a stop or a restored backup left
undone; seals in small steps what was there before there was a key.
Rules: what must be gone is gone before anything is loaded. Sealing is background work: events and results go first.
It is done once the database's log is emptied too: until then the file holds pages as they were before.
Must not know: ciphers, keys, SQL.
"""

import asyncio
from collections.abc import Callable, Sequence

from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import Refusal
from ringback.store import erase, restore, sealing
from ringback.store.database import Database
from ringback.store.errors import QueryTimeout, StoreError
from ringback.store.keyring import Keyring
from ringback.store.reader import Fetches
from ringback.store.sealing import Left
from ringback.store.writer import Writer

#: Events or endpoints that one step seals at most.
STEP_ROWS = 128
#: Between two steps, in seconds: what is accepted meanwhile goes first.
PAUSE_S = 0.01
#: Until what couldn't be written is tried again.
AGAIN_S = 5.0
#: Events erased again in one go, after a restore.
EVENTS_A_ROUND = 256

_log = get_logger()


def announce(ring: Keyring, exposed: Sequence[str]) -> None:
    """One clear line: is it encrypted or not. ``exposed``: key files that others may read."""
    if not ring.sealing:
        _log.warning("encryption.off", see="docs/operations.md, Encryption at rest")
        return
    _log.info("encryption.on")
    if ring.rewrapped:
        _log.warning("encryption.rewrapped", next="take the old master key away: it is of no use any more")
    for path in exposed:
        _log.warning("encryption.key_exposed", file=path, next="chmod 600: others may read the master key")


async def make_good(database: Database, ring: Keyring, writer: Writer, now_ms: int) -> None:
    """Before anything is loaded: begin anew what an erasure left, erase again what a restore brought, hold the rest.

    Holding comes last: it is what ends a restore, so a start that breaks off before is made good by the next.

    Raises:
        StoreError: it can't be written.
    """
    for tenant in database.erased_tenants():
        await writer.run(erase.begin_again(tenant, now_ms))
    taken_at_ms = await writer.run(restore.taken_at())
    if taken_at_ms is None:
        return
    for tenant in ring.erased_tenants(taken_at_ms):
        await writer.run(erase.begin_again(tenant, now_ms))
    erased, after = 0, ("", "")
    while found := ring.erased(after, EVENTS_A_ROUND):
        erased += await writer.run(erase.erase_again(found, now_ms))
        after = found[-1][:2]
    if erased:
        _log.warning("restore.erased_again", events=erased)
    await writer.run(restore.hold_endpoints(now_ms))


class Sealing:
    """``turn`` seals; ``left`` tells how much still lies in the clear.

    ``wipe()`` empties the database's log; False: it couldn't now.
    """

    def __init__(self, writer: Writer, reads: Fetches, wipe: Callable[[], bool]) -> None:
        self._writer = writer
        self._reads = reads
        self._wipe = wipe
        self._done = not reads.keys.sealing
        self._found: Left | None = None

    @property
    def on(self) -> bool:
        """Whether what is written is sealed."""
        return self._reads.keys.sealing

    async def left(self) -> Left:
        """What still lies in the clear; nothing can be said of that without a key. May raise QueryTimeout."""
        return await sealing.left_in_the_clear(self._reads)

    async def rotate(self, tenant: str) -> Refusal | None:
        """Seal what a tenant sends from now on with a new data key. Raises StoreError."""
        if not self.on:
            return Refusal("conflict", "the database isn't encrypted: there is no key to change")
        if not await self._writer.run(sealing.rotate_key(tenant)):
            return Refusal("not_found", f"there is no tenant {tenant}")
        _log.info("encryption.key_rotated", tenant=tenant)
        return None

    async def turn(self, _now_ms: int) -> float | None:
        """One step; seconds until the next, None when all is done."""
        if self._done:
            return None
        try:
            return await self._step()
        except (StoreError, QueryTimeout) as problem:
            _log.warning("encryption.postponed", error=str(problem))
            return AGAIN_S

    async def _step(self) -> float | None:
        if self._found is None:
            self._found = await self.left()
            if any(self._found):
                _log.info("encryption.sealing", endpoints=self._found.endpoints, events=self._found.events)
            return PAUSE_S
        if any(self._found) and await self._writer.run(sealing.seal_next(STEP_ROWS)):
            return PAUSE_S
        # Also where nothing was left to seal: the run that sealed it may have been killed before it came to this.
        if not await asyncio.to_thread(self._wipe):
            return AGAIN_S
        self._done = True
        if any(self._found):
            _log.info("encryption.sealed")
        return None
