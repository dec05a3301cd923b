-- Erasures of whole tenants that are under way. up_to: the last event that goes. done: the last one that was looked at;
-- -1 until what is sealed for the tenant can't be opened any more.
CREATE TABLE erasure (
  tenant INTEGER PRIMARY KEY,
  up_to INTEGER NOT NULL,
  done INTEGER NOT NULL,
  asked_ms INTEGER NOT NULL
) STRICT;
