"""``ringback run``: the daemon in the foreground.

Role: options and settings; makes the clock and the chance. Everything else, the exit code too, is the runtime's.
"""

import gc
import sys

import click

from ringback.cli.context import Command, load_all, read_all


@click.command(cls=Command)
@click.option("--config", "config_path", metavar="FILE", help="The configuration. Also: $RINGBACK_CONFIG.")
def run(config_path: str | None) -> None:
    """Run the daemon in the foreground; it logs to standard output.

    SIGTERM and SIGINT stop it after what is in flight; a second one stops it at once. SIGHUP reads the configuration
    anew. Exits 78 on a bad configuration, 75 if another daemon owns the state directory.

    \b
    Example:
      ringback run --config /etc/ringback/ringback.toml
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    gc.disable()  # what the imports make stays, and looking through it again and again is a sixth of the start
    loaded = load_all(config_path)
    from ringback import runtime  # noqa: PLC0415 - the daemon's weight is for this command alone
    from ringback.kit.clock import SystemChance, SystemClock  # noqa: PLC0415 - as above

    sys.exit(runtime.main(loaded, lambda: read_all(config_path), SystemClock(), SystemChance()))
