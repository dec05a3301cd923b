-- Per-event callbacks. A lane for each origin that a tenant's events name ('' is its overflow lane), numbered from the
-- same sequence as endpoints' lanes; the row goes with the last event that names it, its number is never used again.
CREATE TABLE callback_lane (
  lane INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  origin TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX callback_lane_by_origin ON callback_lane (tenant, origin);

-- What an event's callback asks for; its delivery is (event, lane). spec: core.model.Callback as a msgpack array.
CREATE TABLE callback (
  event INTEGER PRIMARY KEY,
  lane INTEGER NOT NULL,
  spec BLOB NOT NULL
) STRICT;
CREATE INDEX callback_by_lane ON callback (lane);
