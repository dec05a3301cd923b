"""``ringback token``: who may use the API over TCP.

Rules: a token is shown once, when it is made. With no daemon running the state directory is changed directly, under its
lock; a daemon that is named by its socket is never worked around.
Must not know: what a token allows.
"""

from pathlib import Path
from typing import Any

import click

from ringback.cli.client import CommandError, NotFound, Refused, Unreachable, segment
from ringback.cli.context import Group, alone_in, api, json_option, print_json, where
from ringback.cli.lists import MAX_LIMIT, fetch
from ringback.cli.words import tell

PATH = "/api/v1/tokens"


@click.group(cls=Group)
def token() -> None:
    """Make, list and remove the tokens of the API's TCP listener."""


@token.command()
@click.option("--tenant", help="Whose token; the operator's if not given, who may do everything.")
@json_option
@where
def add(
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Make a token. It is shown once, now.

    \b
    Example:
      ringback token add --tenant acme
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    try:
        made = api(config_path, socket_path).post(PATH, {"tenant": tenant})
    except Unreachable:
        made = _alone(config_path, socket_path).add(tenant)
    if as_json:
        print_json({name: made[name] for name in ("id", "token", "tenant")})
        return
    click.echo(made["token"])
    owner = f"tenant {made['tenant']}" if made["tenant"] else "the operator"
    tell("", f"It is {owner}'s, its id is {made['id']}. Keep it now: it is shown only this once.")


@token.command("list")
@json_option
@where
def list_(
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """List tokens, newest first, without the tokens themselves.

    \b
    Example:
      ringback token list
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    try:
        page = fetch(api(config_path, socket_path), PATH, {}, MAX_LIMIT)
    except Unreachable:
        page = _alone(config_path, socket_path).list()
    if as_json:
        print_json(page)
        return
    from ringback.cli.tables import Column, print_table, when  # noqa: PLC0415 - rich is slow to import

    rows = [[t["id"], t["tenant"] or "(operator)", when(t["created_at"])] for t in page["data"]]
    print_table([*map(Column, ("ID", "TENANT", "CREATED"))], rows, "No tokens. Make one: ringback token add")


@token.command()
@click.argument("token_id", metavar="ID")
@where
def remove(token_id: str, config_path: str | None, socket_path: str | None) -> None:
    """Remove a token: its bearer is refused from now on.

    \b
    Example:
      ringback token remove 019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    try:
        api(config_path, socket_path).delete(f"{PATH}/{segment(token_id)}")
    except Unreachable:
        _alone(config_path, socket_path).remove(token_id)
    click.echo(f"{token_id} removed")


class _Alone:
    """The same verbs on the state directory, while no daemon owns it. Imports are here: they are slow and seldom."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _run(self, task: Any) -> Any:
        from ringback.kit.clock import SystemClock  # noqa: PLC0415 - as the class says
        from ringback.store.alone import run_alone  # noqa: PLC0415 - as the class says
        from ringback.store.errors import StateError  # noqa: PLC0415 - as the class says

        try:
            return run_alone(self._directory, task, SystemClock().now_ms())
        except StateError as problem:
            raise CommandError(str(problem)) from None
        except OSError as problem:
            raise CommandError(f"can't use {self._directory}: {problem.strerror}") from None

    def add(self, tenant: str | None) -> dict[str, Any]:
        """As POST."""
        from ringback.kit.clock import SystemChance, SystemClock  # noqa: PLC0415 - as the class says
        from ringback.service import tokens  # noqa: PLC0415 - as the class says
        from ringback.service.endpoint_fields import Refusal  # noqa: PLC0415 - as the class says
        from ringback.store.tokens import insert  # noqa: PLC0415 - as the class says

        read = tokens.read_tenant({"tenant": tenant})
        if isinstance(read, Refusal):
            raise Refused(read.message)
        made, text = tokens.make(read, SystemClock(), SystemChance())
        if not self._run(insert(made, tokens.MAX_TOKENS)):
            raise Refused(tokens.too_many().message)
        return {"id": made.id, "token": text, "tenant": made.tenant}

    def list(self) -> dict[str, Any]:
        """As GET."""
        from ringback.core.times import rfc3339  # noqa: PLC0415 - as the class says
        from ringback.store.tokens import every  # noqa: PLC0415 - as the class says

        found = [
            {"id": t.id, "tenant": t.tenant, "created_at": rfc3339(t.created_at_ms)} for t in self._run(every())[::-1]
        ]
        return {"data": found, "next_cursor": None}

    def remove(self, token_id: str) -> None:
        """As DELETE."""
        from ringback.store.tokens import delete  # noqa: PLC0415 - as the class says

        if not self._run(delete(token_id)):
            raise NotFound(f"there is no token {token_id}")


def _alone(config_path: str | None, socket_path: str | None) -> _Alone:
    """The state directory of the configuration; not if the daemon that doesn't answer was named by its socket."""
    return _Alone(Path(alone_in(config_path, socket_path)))
