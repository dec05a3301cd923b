-- Encryption at rest. ring: the id of the keyring whose keys seal this database's rows, 0 if nothing is sealed. Rows that
-- were there before it was turned on are sealed in the background: events beyond seal_from up to seal_to, and before them
-- endpoints beyond lane seal_lane up to seal_lanes. hold_endpoints: 1 from a restore until the next start pauses them.
INSERT INTO meta (name, value) VALUES ('ring', 0), ('seal_from', 0), ('seal_to', 0), ('seal_lane', 0), ('seal_lanes', 0),
  ('hold_endpoints', 0);

-- The keys that rows are, or were, sealed with. An erased tenant's go when its last row is gone.
CREATE TABLE sealed_key (
  no INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL
) STRICT;

-- Under which key the body lies; 0: in the clear. Other columns tell a sealed value by its first byte.
ALTER TABLE response_body ADD COLUMN key_no INTEGER NOT NULL DEFAULT 0;
