"""``python -m ringback`` is ``ringback``."""

from ringback.cli import main

if __name__ == "__main__":
    main(prog_name="ringback")
