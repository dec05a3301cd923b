-- API tokens. digest: SHA-256 of the token's text, which is nowhere stored. tenant NULL: the operator's.
CREATE TABLE token (
  id TEXT NOT NULL PRIMARY KEY,
  tenant TEXT,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
  created_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
