"""Floor 3: the ways in and out: the events socket and the HTTP sender. They must not know the store."""
