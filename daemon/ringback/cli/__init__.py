"""Floor 8: the commands. Clock, randomness and ids are made here, once, and handed down.

Rules: a command's module is imported when it is asked for, so that each starts as quickly as it can.
Must not know: what any command does.
"""

from importlib import import_module

import click

from ringback.cli.context import Group

#: Command to the module and the attribute that hold it.
COMMANDS = {
    "run": "ringback.cli.run:run",
    "demo": "ringback.cli.demo:demo",
    "emit": "ringback.cli.emit:emit",
    "endpoint": "ringback.cli.endpoint:endpoint",
    "event": "ringback.cli.event:event",
    "delivery": "ringback.cli.delivery:delivery",
    "status": "ringback.cli.status:status",
    "top": "ringback.cli.top:top",
    "logs": "ringback.cli.logs:logs",
    "why": "ringback.cli.why:why",
    "doctor": "ringback.cli.doctor:doctor",
    "tenant": "ringback.cli.tenant:tenant",
    "token": "ringback.cli.token:token",
    "db": "ringback.cli.db:db",
    "config": "ringback.cli.configuration:configuration",
    "listen": "ringback.cli.listen:listen",
    "verify": "ringback.cli.verify:verify",
    "dialects": "ringback.cli.dialects:dialects",
}


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order a newcomer meets them."""
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute = COMMANDS[cmd_name].split(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ringback", message="ringback %(version)s")
def main() -> None:
    """Deliver webhooks: durable before it says ok, one lane per endpoint, signed, retried, recorded.

    \b
    Start a daemon:        ringback run
    Register a receiver:   ringback endpoint add https://example.com/hooks
    Hand it an event:      ringback emit stt.jobs.completed --data '{"job": 42}'
    See what became of it: ringback delivery list
    """  # noqa: D301 - \b is click's mark for lines to keep as they are


__all__ = ["main"]
