"""``ringback tenant``: how much there is of a tenant, how it is erased, a new key for it.

Must not know: what erasing does.
"""

import sys
from collections.abc import Callable
from threading import Event
from typing import Any

import click

from ringback.cli.client import Api, CommandError, NotFound, Unreachable, segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.erasing import look_alone, sure, tenant_alone, yes_option
from ringback.cli.words import counted, folded

PATH = "/api/v1/tenants"
#: Seconds between two looks at an erasure that goes on.
LOOK_EVERY_S = 0.2


@click.group(cls=Group)
def tenant() -> None:
    """Look at a tenant, erase it, give it a new key."""


@tenant.command()
@click.argument("name")
@json_option
@where
def show(
    name: str,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show what a tenant has (endpoints, tokens, events, deliveries still owed), and how far its erasure is.

    \b
    Example:
      ringback tenant show acme
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    found = api(config_path, socket_path).get(f"{PATH}/{segment(name)}")
    if as_json:
        print_json(found)
        return
    from ringback.cli.tables import print_sheet  # noqa: PLC0415 - rich is slow to import

    print_sheet((name, value) for name, value in found.items() if found["erasing"] or name != "left")


@tenant.command()
@click.argument("name")
@yes_option
@json_option
@where
def erase(
    name: str,
    yes: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Erase all that a tenant has: endpoints, tokens, events, answers. It can't be undone.

    On a terminal it says how much that is and asks first. What is owed is cancelled. Of each event its id, type and
    times stay for as long as events are kept. Waits until it is done; if it is interrupted, the daemon goes on. With no
    daemon running it is done in the state directory.

    \b
    Example:
      ringback tenant erase acme
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    sure(lambda: _question(name, config_path, socket_path), yes=yes)
    left = _counter()
    try:
        daemon = api(config_path, socket_path)
        asked = daemon.post(f"{PATH}/{segment(name)}/erase")
    except Unreachable:
        done = tenant_alone(config_path, socket_path, name, left)
    else:
        _wait(daemon, name, left)
        done = {member: asked[member] for member in ("tenant", "events", "endpoints")}
    if as_json:
        print_json(done)
        return
    click.echo(f"tenant {name} is erased: {counted(done['endpoints'], 'endpoint')}, {counted(done['events'], 'event')}")


@tenant.command("rotate-key")
@click.argument("name")
@where
def rotate_key(name: str, config_path: str | None, socket_path: str | None) -> None:
    """Seal what a tenant sends from now on with a new data key. What is sealed already stays readable.

    Only with encryption at rest. A new copy of the keyring is due then: ringback db backup-keys.

    \b
    Example:
      ringback tenant rotate-key acme
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    api(config_path, socket_path).post(f"{PATH}/{segment(name)}/rotate-key")
    click.echo(
        folded("", f"tenant {name} has a new data key; make a new copy of the keyring: ringback db backup-keys FILE")
    )


def _question(name: str, config_path: str | None, socket_path: str | None) -> str:
    """What would go, so that nobody erases the wrong tenant by a slip. Raises NotFound."""
    try:
        found = api(config_path, socket_path).get(f"{PATH}/{segment(name)}")
    except Unreachable:
        found = look_alone(config_path, socket_path, name)
    except NotFound:
        raise
    except CommandError as problem:  # too much to be counted in time: no reason not to erase it
        return f"Erase everything of tenant {name}? How much that is isn't known ({problem}). It can't be undone."
    has = ", ".join(counted(found[of], of.removesuffix("s")) for of in ("endpoints", "tokens", "events"))
    owed = "1 delivery is" if found["owed"] == 1 else f"{found['owed']:,} deliveries are"
    return f"Tenant {name} has {has}; {owed} still owed. Erase everything? It can't be undone."


def _wait(daemon: Api, name: str, left: Callable[[int], None]) -> None:
    pause = Event()
    while True:
        try:
            found: dict[str, Any] = daemon.get(f"{PATH}/{segment(name)}")
        except CommandError as problem:  # it stops, or that is too much to be counted in time
            told = "the erasure is begun, and goes on in the daemon, over a restart too"
            see = f"ringback tenant show {name}, or tenant.erased in its log, tells when it is done"
            raise type(problem)(f"{problem.message}; {told}: {see}") from None
        left(found["left"])
        if not found["erasing"]:
            return
        pause.wait(LOOK_EVERY_S)


def _counter() -> Callable[[int], None]:
    """A line that counts down on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None

    def show_left(events: int) -> None:
        click.echo(f"\r{events} events left\x1b[K" if events else "\r\x1b[K", nl=False, err=True)

    return show_left
