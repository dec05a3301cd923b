"""Which ids are taken already. Reads only.

Role: lets a file of events be refused as a whole before any of it is committed.
Rules: an answer is only as fresh as the last commit: the insert itself judges again.
Must not know: files, what a conflict leads to.
"""

import itertools
from collections.abc import Iterable

import msgspec

from ringback.core.model import Event
from ringback.store.reader import Fetches

#: Ids asked for in one statement.
IDS_PER_QUERY = 512

_DIGESTS = (
    "SELECT json_group_array(json_array(t.name, e.id, hex(e.digest),"
    " (SELECT p.key_no FROM payload p WHERE p.event = e.seq))) FROM json_each(?) AS v"
    " CROSS JOIN tenant t ON t.name = v.value->>0 CROSS JOIN event e ON e.tenant = t.no AND e.id = v.value->>1"
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[tuple[str, str, str, int]])


class KnownIds:
    """Looks ids up."""

    def __init__(self, reads: Fetches) -> None:
        self._reads = reads

    async def conflicts(self, events: Iterable[Event]) -> set[tuple[str, str]]:
        """(tenant, id) of those whose id is stored with other content.

        Raises:
            QueryTimeout: the disk is sick.
        """
        found: set[tuple[str, str]] = set()
        rest = iter(events)
        while asked := {(event.tenant, event.id): event.digest for event in itertools.islice(rest, IDS_PER_QUERY)}:
            rows = await self._reads.fetch(_DIGESTS, (_encoder.encode(list(asked)).decode(),))
            for tenant, key, digest, key_no in _decoder.decode(rows[0][0]):
                if not self._reads.keys.same_digest(asked[tenant, key], bytes.fromhex(digest), key_no):
                    found.add((tenant, key))
        return found
