-- What each hour of attempts came to. hour: hours since the epoch; first in the key, so that what is written lies together
-- and old hours go in one piece. tally: msgpack array (core.tally.Tally).
CREATE TABLE lane_hour (
  hour INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  tally BLOB NOT NULL,
  PRIMARY KEY (hour, lane)
) WITHOUT ROWID, STRICT;
