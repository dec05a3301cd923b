"""ringback: a self-hosted webhook delivery daemon."""
