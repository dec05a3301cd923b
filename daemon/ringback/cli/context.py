"""What every command shares: its options, where the daemon is, how things end.

Rules: the socket is the one named on the command line, else ``$RINGBACK_SOCKET``, else the configuration's. An error is
one plain sentence on stderr and CONTRACT's exit code.
Must not know: any single command.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ringback.cli.client import SYSTEM_SOCKET, Api, CommandError, Unreachable, beside

F = TypeVar("F", bound=Callable[..., Any])
SHORT_HELP = 200  # characters; longer than any command's first sentence


class Misconfigured(CommandError):  # noqa: N818 - a state of affairs, named as such
    """The settings can't be used."""

    exit_code = 78  # EX_CONFIG


class Command(click.Command):
    """A command whose output may be cut off by its reader."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output had enough, e.g. `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def get_short_help_str(self, limit: int = SHORT_HELP) -> str:
        """Its first sentence, whole: the list of commands breaks the line rather than ending in dots."""
        return super().get_short_help_str(max(limit, SHORT_HELP))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def where(function: F) -> F:
    """The options that say which daemon is meant."""
    function = click.option(
        "--socket", "socket_path", metavar="PATH", help="The daemon's control socket. Also: $RINGBACK_SOCKET."
    )(function)
    return click.option("--config", "config_path", metavar="FILE", help="The configuration that names the sockets.")(
        function
    )


def json_option(function: F) -> F:
    """The option to print JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print the API's JSON as it is.")(function)


def api(config_path: str | None, socket_path: str | None) -> Api:
    """The API of the daemon that is meant."""
    return Api(find_socket("control", config_path, socket_path))


def find_socket(name: str, config_path: str | None, socket_path: str | None) -> str:
    """The path of the ``control`` or ``events`` socket.

    ``--socket`` and ``$RINGBACK_SOCKET`` name the control socket; the events socket is looked for beside it.
    """
    named = socket_path or (None if config_path else os.environ.get("RINGBACK_SOCKET"))
    if named:
        return named if name == "control" else _events_beside(named)
    settings = load_settings(config_path)
    path: str = settings.api.socket if name == "control" else settings.ingest.socket.path
    system = SYSTEM_SOCKET.format(name=name)
    if not config_path and not os.path.exists(path) and os.path.exists(system):  # noqa: PTH110 - as in client
        return system  # a user's own daemon isn't there, but the system's is
    return path


def alone_in(config_path: str | None, socket_path: str | None) -> str:
    """The state directory, for a command that does its work without a daemon; not if one was named by its socket.

    Raises Unreachable then.
    """
    named = socket_path or (None if config_path else os.environ.get("RINGBACK_SOCKET"))
    if named:
        raise Unreachable(f"no daemon answers on {named}; without --socket the state directory itself is used")
    directory: str = load_settings(config_path).daemon.state_dir
    return directory


def _events_beside(named: str) -> str:
    """Someone may well name the events socket itself: then that is the one to emit to."""
    sibling = beside(named, "events")
    return sibling if os.path.exists(sibling) else named  # noqa: PTH110 - as above


def load_settings(config_path: str | None) -> Any:
    """The settings. Raises Misconfigured after telling every problem."""
    from ringback import config  # noqa: PLC0415 - pydantic is slow to import, and most commands get by without

    return _told(lambda: config.load(config_path, os.environ, os.geteuid()))


def load_all(config_path: str | None) -> Any:
    """The settings and the declared endpoints, both judged. Raises Misconfigured after telling every problem."""
    return _told(lambda: read_all(config_path))


def read_all(config_path: str | None) -> Any:
    """The same; raises ConfigError with the problems of both, told at once."""
    from ringback import config  # noqa: PLC0415 - as above
    from ringback.service.reload import judge_all, problems_of  # noqa: PLC0415 - as above

    try:
        loaded = config.load_all(config_path, os.environ, os.geteuid())
    except config.ConfigError as wrong:
        also = problems_of(wrong.rest) if wrong.rest is not None else []
        raise config.ConfigError(sorted(wrong.problems + also)) from None
    judge_all(loaded)
    return loaded


def _told(load: Callable[[], Any]) -> Any:
    from ringback import config  # noqa: PLC0415 - as above

    try:
        return load()
    except config.ConfigError as wrong:
        from ringback.cli.words import plain, tell  # noqa: PLC0415 - as above

        for key, message in wrong.problems:
            tell(plain(f"{key}: "), message)
        count = len(wrong.problems)
        raise Misconfigured(f"the configuration has {count} problem{'s' if count > 1 else ''}") from None


def print_json(value: object) -> None:
    """JSON for other programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
