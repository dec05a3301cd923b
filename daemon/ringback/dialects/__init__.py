"""Floor 2: one file a webhook format; each ends in one ``DIALECT`` value of pure functions. Discovery lives here too."""
