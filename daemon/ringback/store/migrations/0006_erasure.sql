-- Erasures of whole tenants that are under way. up_to: the last event that goes. done: the last one that was looked at.
-- keys_below: which of the tenant's keys are still to be destroyed before any is looked at: those of a lower number, all of
-- them if it is 0; NULL once nobody can open any more what they sealed.
CREATE TABLE erasure (
  tenant INTEGER PRIMARY KEY,
  up_to INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0,
  keys_below INTEGER,
  asked_ms INTEGER NOT NULL
) STRICT;
