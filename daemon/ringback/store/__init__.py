"""Floor 3: everything that is SQL, behind functions that say what, not how. It must not know networks or policies."""
