"""A spool over real files and the real store, for its tests."""

import contextlib
import json
import sqlite3

from tests.harness.world import FakeClock

from ringback.core.egress import EgressPolicy
from ringback.core.events import EventLimits
from ringback.kit.clock import SystemChance
from ringback.service.callbacks import Callbacks
from ringback.service.intake import Intake
from ringback.service.spool import Spool
from ringback.store.database import open_state
from ringback.store.known import KnownIds
from ringback.store.reader import Reader
from ringback.store.writer import Writer
from ringback.transports.spool import SpoolFolder


class Life:
    """A spool over a store. ``refuse``: by event id, what intake answers instead of committing."""

    def __init__(self, directory):
        self.directory = directory
        self.clock = FakeClock()
        self.refuse = {}
        self.accepted_seqs = []
        self.told = []

    def match(self, *_):
        return ()

    def accepted(self, seq, _event, _lanes, _at_ms):
        self.accepted_seqs.append(seq)

    async def start(self):
        self.database = open_state(self.directory / "state", self.clock.now_ms())
        self.writer = Writer(self.database, self.clock, on_fatal=self.told.append)
        await self.writer.start()
        self.reader = await Reader(self.database).open()
        self.intake = Intake(
            matches=self,
            writer=self.writer,
            dispatch=self,
            callbacks=Callbacks(EgressPolicy()),
            clock=self.clock,
            chance=SystemChance(),
            limits=EventLimits(),
        )
        taking = self.intake.take

        def take(event, peer, done):
            if event.id in self.refuse:
                done(self.refuse[event.id])
            else:
                taking(event, peer, done)

        self.intake.take = take
        self.folder = SpoolFolder(str(self.directory / "spool"))
        self.folder.open()
        self.known = KnownIds(self.reader)
        self.spool = Spool(
            folder=self.folder, intake=self.intake, known=self.known, limits=EventLimits(), clock=self.clock
        )
        return self

    async def stop(self):
        await self.spool.stop()
        await self.reader.close()
        await self.writer.stop()
        self.database.close()

    def put(self, name, *events):
        """A file of events (mappings or bytes), as a producer leaves it."""
        content = b"".join(
            e if isinstance(e, bytes) else json.dumps({"type": "a", "data": {}} | e).encode() + b"\n" for e in events
        )
        path = self.directory / "spool" / "tmp" / name
        path.write_bytes(content)
        return path.rename(self.directory / "spool" / "new" / name)

    async def turn(self):
        return await self.spool.turn(self.clock.now_ms())

    def sql(self, statement):
        with contextlib.closing(sqlite3.connect(self.directory / "state" / "ringback.db")) as db:
            return db.execute(statement).fetchall()

    def stored(self):
        """How many events the table has."""
        return self.sql("SELECT count(*) FROM event")[0][0]

    def lies(self, where):
        return sorted(path.name for path in (self.directory / "spool" / where).iterdir())

    def reason(self, name):
        return json.loads((self.directory / "spool" / "failed" / f"{name}.reason.json").read_text())
