"""``ringback config``: is it right, and what is in force."""

import json
import os
from collections.abc import Mapping
from typing import Any

import click

from ringback.cli.context import Group, json_option, load_all, load_settings, print_json
from ringback.cli.words import tell
from ringback.core.proxy import masked
from ringback.kit.exposure import OPEN_TO_ALL

_CONFIG = click.option("--config", "config_path", metavar="FILE", help="The file to look at. Also: $RINGBACK_CONFIG.")


@click.group("config", cls=Group)
def configuration() -> None:
    """Check the configuration, or show what is in force."""


@configuration.command()
@_CONFIG
def check(config_path: str | None) -> None:
    """Tell every problem of settings and declared endpoints, each with its key; exit 78 if there is one.

    A file of a secret that others may read is a warning, no problem.

    \b
    Example:
      ringback config check --config /etc/ringback/ringback.toml
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    loaded = load_all(config_path)
    from ringback.config import find_file  # noqa: PLC0415 - pydantic is slow to import

    for line in _exposed(loaded):
        tell("warning: ", line)
    file, declared = find_file(config_path, os.environ), len(loaded.declarations)
    click.echo(
        f"the configuration is good ({file or 'no file, the defaults'})"
        f"{f'; endpoints declared: {declared}' if declared else ''}"
    )


def _exposed(loaded: Any) -> list[str]:
    """Files that hold a secret and that others may read: the daemon would start, and warn."""
    keys = [f"{file}: others may read this master key: chmod 600" for file in loaded.masters.exposed]
    files = sorted({one.exposed for one in loaded.declarations if one.exposed})
    return keys + [f"{file}: {OPEN_TO_ALL}" for file in files]


@configuration.command()
@_CONFIG
@json_option
def show(config_path: str | None, as_json: bool) -> None:  # noqa: FBT001 - a command-line flag
    """Show every setting, as TOML, and where it was set if it isn't the default; the proxy's password is masked.

    \b
    Example:
      ringback config show
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    settings: dict[str, Any] = load_settings(config_path).model_dump(mode="json")
    settings["egress"]["proxy"] = masked(settings["egress"]["proxy"])
    if as_json:
        print_json(settings)
    else:
        from ringback.config import origins  # noqa: PLC0415 - pydantic is slow to import

        click.echo("\n\n".join(_tables(settings, "", origins(config_path, os.environ))))


def _tables(table: dict[str, Any], name: str, origins: Mapping[str, str]) -> list[str]:
    """A table and its inner ones as TOML; JSON's scalars and lists of text are TOML's too."""
    own = [
        f"{_key(key)} = {json.dumps(value)}{_comment(origins.get(f'{name}.{key}'))}"
        for key, value in table.items()
        if _plain(value)
    ]
    found = ["\n".join([f"[{name}]", *own])] if own else []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _tables(value, f"{name}.{key}" if name else key, origins)
    return found


def _comment(origin: str | None) -> str:
    """Where a value comes from, behind it; a file's name must not end the line."""
    return f"  # {origin}" if origin and origin.isprintable() else ""


def _plain(value: object) -> bool:
    """Whether it is a line of its own: no table, and not what nobody set, for which TOML has no word."""
    return value is not None and not isinstance(value, dict)


def _key(key: str) -> str:
    """A key of TOML: in quotes if it holds a dot."""
    return json.dumps(key) if "." in key else key
