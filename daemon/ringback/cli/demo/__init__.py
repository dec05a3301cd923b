"""``ringback demo``: the newcomer's first minute, a daemon killed in the middle of its work and nothing lost.

Role: the command's options, its exit code, and the clean end on Ctrl-C. ``story`` holds the plot,
``cast`` the endpoints, ``stage`` the processes, ``ledger`` the books, ``show`` the screen, ``account`` the end;
``receiver`` (with ``reading``) and ``leash`` are processes of their own.
Exit codes: 0 if nothing was lost and every signature held, 1 with the reasons otherwise, 130 after Ctrl-C.
"""

import sys

import click

from ringback.cli.context import Command

MIN_EVENTS = 60
MAX_EVENTS = 2000
DEFAULT_EVENTS = 300


@click.command(cls=Command)
@click.option(
    "--events",
    type=click.IntRange(MIN_EVENTS, MAX_EVENTS),
    default=DEFAULT_EVENTS,
    show_default=True,
    help="How many speech jobs end.",
)
@click.option("--keep", is_flag=True, help="Keep the directory: configuration, database, log.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON; the story goes to stderr.")
def demo(events: int, keep: bool, as_json: bool) -> None:  # noqa: FBT001 - command-line flags
    """Watch a daemon lose nothing: real processes, a real kill -9, real signatures.

    Starts a daemon and a receiver in a temporary directory, hands the daemon a few hundred events for nine endpoints
    (one for each dialect, one failing at first, one slow, one dead), kills it halfway, starts it again, and counts.
    Takes about fifteen seconds; nothing outside the directory is touched, and nothing is left of it.

    \b
    Examples:
      ringback demo
      ringback demo --events 1000 --keep
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.cli.demo.play import run  # noqa: PLC0415 - rich is slow to import

    sys.exit(run(events, keep=keep, as_json=as_json))
