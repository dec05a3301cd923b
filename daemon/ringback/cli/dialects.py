"""``ringback dialects``: which formats there are, and how each can be set."""

from typing import Any

import click

from ringback.cli.context import Command, json_option, print_json
from ringback.cli.words import folded


@click.command(cls=Command)
@json_option
def dialects(as_json: bool) -> None:  # noqa: FBT001 - a command-line flag
    """List the webhook formats with their options; no daemon is needed.

    \b
    Example:
      ringback endpoint add https://example.com/hooks \\
        --dialect prosa --option signature=hmac
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback import dialects as registry  # noqa: PLC0415 - the formats are slow to import
    from ringback.dialects import Dialect  # noqa: PLC0415 - the same

    def shown(dialect: Dialect) -> dict[str, Any]:
        return {
            "name": dialect.name,
            "description": dialect.description,
            "secret": dialect.key_form,
            "handshake": dialect.handshake,
            "options": {
                option.name: {"meaning": option.meaning, "values": list(option.values), "secret": option.secret}
                for option in dialect.options
            },
            "names": dict(dialect.words),
        }

    found = [shown(dialect) for name in registry.names() if (dialect := registry.get(name))]
    if as_json:
        print_json({"data": found})
        return
    for one in found:
        click.echo(folded(f"{one['name']}: ", one["description"]))
        handshake = f"; handshake: {one['handshake']}" if one["handshake"] != "none" else ""
        click.echo(folded("    secret: ", one["secret"] + handshake))
        for name, option in one["options"].items():
            values = f" ({' | '.join(option['values'])})" if option["values"] else ""
            click.echo(folded(f"    --option {name}=…  ", option["meaning"] + values))
