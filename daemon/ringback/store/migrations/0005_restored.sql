-- backup_ms: in a copy, when the copying began. restored_ms: when this database was put in place from a copy, until what
-- was paused then is let go; 0 if nothing is. hold_callbacks: 1 while the lanes of callbacks are held for that.
INSERT INTO meta (name, value) VALUES ('backup_ms', 0), ('restored_ms', 0), ('hold_callbacks', 0);

-- Endpoints that the restore paused and nobody has moved since.
CREATE TABLE restored_lane (
  lane INTEGER PRIMARY KEY
) STRICT;
