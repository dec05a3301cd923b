"""Floor 6: the HTTP management API on the control socket."""
