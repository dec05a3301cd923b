"""Floor 8: the commands. Clock, randomness and ids are made here, once, and handed down."""
