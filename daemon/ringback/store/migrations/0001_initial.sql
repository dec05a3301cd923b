-- The first shape. Times are integer milliseconds (wall clock); states and phases are core.model's numbers.

-- Marks that must outlive the rows they speak of. seq, lane: the highest number ever used. history: lane_history is
-- complete up to this event. The others are retention's: how far events and attempts were pruned, where the second look at
-- events left over stands, the highest event pruned, and how far lane_history was swept of pruned events (up to which
-- event; the sweep under way stands at this lane and event).
CREATE TABLE meta (
  name TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
INSERT INTO meta (name, value) VALUES ('seq', 0), ('lane', 0), ('history', 0), ('events', 0), ('leftovers', 0), ('attempts', 0),
  ('pruned', 0), ('swept', 0), ('sweep_lane', 0), ('sweep_event', 0);

CREATE TABLE tenant (
  no INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- Rows stay for ever (deleted_ms marks the end), so a lane is never used twice. spec: core.model.Endpoint as JSON.
CREATE TABLE endpoint (
  lane INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant INTEGER NOT NULL,
  name TEXT,
  status TEXT NOT NULL,
  deleted_ms INTEGER,
  revision INTEGER NOT NULL CHECK (revision >= 1),
  spec BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX endpoint_by_name ON endpoint (tenant, name) WHERE name IS NOT NULL AND deleted_ms IS NULL;

-- What an endpoint looked like when an attempt was made: needed to rebuild the request.
CREATE TABLE endpoint_revision (
  lane INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  spec BLOB NOT NULL,
  PRIMARY KEY (lane, revision)
) WITHOUT ROWID, STRICT;

CREATE TABLE lane_health (
  lane INTEGER PRIMARY KEY,
  failing INTEGER NOT NULL CHECK (failing IN (0, 1)),
  since_ms INTEGER NOT NULL
) STRICT;

-- seq is given by the writer. opts: msgpack array of what is rare (store.codec.EventOpts).
CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  id TEXT NOT NULL,
  type TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  accepted_ms INTEGER NOT NULL,
  digest BLOB NOT NULL,
  opts BLOB
) STRICT;
CREATE UNIQUE INDEX event_by_id ON event (tenant, id);
CREATE INDEX event_by_tenant ON event (tenant);

-- key_no 0: data lies in the clear. crc: zlib's CRC-32 of data, checked whenever it is loaded.
CREATE TABLE payload (
  event INTEGER PRIMARY KEY,
  key_no INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  data BLOB NOT NULL
) STRICT;

-- One obligation per event and lane. attempts: attempts ever made; the last one is folded in here (started_ms NULL: none
-- is), earlier ones lie in attempt. phase and due_ms repeat the key of the owed row, so that a result finds it.
CREATE TABLE delivery (
  event INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 4),
  run INTEGER NOT NULL DEFAULT 1 CHECK (run >= 1),
  phase INTEGER,
  due_ms INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  started_ms INTEGER,
  elapsed_ms INTEGER,
  status INTEGER,
  outcome TEXT,
  error TEXT,
  info BLOB,
  PRIMARY KEY (event, lane),
  CHECK ((state = 0) = (phase IS NOT NULL)),
  CHECK ((phase IS NULL) = (due_ms IS NULL))
) WITHOUT ROWID, STRICT;
-- The filtered column is in the index, else SQLite 3.40 doesn't see that the index covers.
CREATE INDEX delivery_dead_of_lane ON delivery (lane, event, state) WHERE state = 2;
CREATE INDEX delivery_dead ON delivery (event, lane, state) WHERE state = 2;

-- The queue: what is still to do, one row for each pending delivery. phase 0: order is by event (due_ms 0); phase 1: by
-- due time. attempts: counted ones of this run. size: bytes of data.
CREATE TABLE owed (
  lane INTEGER NOT NULL,
  phase INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 2),
  due_ms INTEGER NOT NULL,
  event INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  size INTEGER NOT NULL,
  expires_ms INTEGER,
  PRIMARY KEY (lane, phase, due_ms, event),
  CHECK (phase <> 0 OR due_ms = 0)
) WITHOUT ROWID, STRICT;
CREATE INDEX owed_expiring ON owed (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE attempt (
  event INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  n INTEGER NOT NULL CHECK (n >= 1),
  run INTEGER NOT NULL,
  started_ms INTEGER NOT NULL,
  elapsed_ms INTEGER NOT NULL,
  status INTEGER,
  outcome TEXT NOT NULL,
  error TEXT,
  info BLOB,
  PRIMARY KEY (event, lane, n)
) WITHOUT ROWID, STRICT;

-- Built behind the writer, in sorted chunks; rows of pruned events may linger: readers join delivery.
CREATE TABLE lane_history (
  lane INTEGER NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (lane, event)
) WITHOUT ROWID, STRICT;

-- The last full response bodies of each lane; stamp counts up.
CREATE TABLE response_body (
  lane INTEGER NOT NULL,
  stamp INTEGER NOT NULL,
  event INTEGER NOT NULL,
  n INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (lane, stamp)
) WITHOUT ROWID, STRICT;
CREATE INDEX response_body_by_event ON response_body (event);
