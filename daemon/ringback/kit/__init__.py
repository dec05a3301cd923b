"""Floor 1: domain-free helpers (clock, wake-ups, log set-up). They must not know what a webhook is."""
