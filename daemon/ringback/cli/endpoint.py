"""``ringback endpoint``: register receivers and steer them.

Must not know: what is a good endpoint; the daemon judges.
"""

import sys
from typing import Any

import click

from ringback.cli.client import Api, segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.endpoint_options import setting_options, settings
from ringback.cli.endpoint_verbs import ping, retry, reveal, rotate_secret, stats, test
from ringback.cli.lists import endpoint_id, fetch, limit_option
from ringback.cli.words import tell
from ringback.core.masks import mask_query

PATH = "/api/v1/endpoints"


@click.group(cls=Group)
def endpoint() -> None:
    """Register receivers (endpoints) and steer them.

    An ENDPOINT is told by its id or its name.
    """


@endpoint.command()
@click.argument("url")
@click.option("--name", help="A name to call it by, unique in its tenant.")
@click.option("--tenant", help="Whose events it gets; 'default' if not given.")
@click.option("--dialect", help="The format it is sent (ringback dialects); standard if not given.")
@setting_options
@json_option
@where
def add(
    url: str,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
    **given: Any,
) -> None:
    """Register URL as a receiver. Its secret is made if none is given, and shown in full; later, only by show --reveal.

    \b
    Examples:
      ringback endpoint add https://example.com/hooks
      ringback endpoint add https://example.com/hooks --name crm \\
        -e 'stt.jobs.*' -e 'billing.**'
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    made = api(config_path, socket_path).post(PATH, {"url": url} | settings(given))
    for warning in made.get("warnings", []):
        tell("ringback: warning: ", warning)
    if as_json:
        print_json(made)
        return
    _print_sheet(made)
    if made["secret"]:
        click.echo(f"Give the secret to the receiver. Later: {reveal(made)}", err=True)


@endpoint.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option(
    "--status", type=click.Choice(["pending", "active", "paused", "failed", "disabled"]), help="Only in this status."
)
@click.option("--dialect", help="Only of this format.")
@limit_option
@json_option
@where
def list_(
    limit: int,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
    **filters: str | None,
) -> None:
    """List endpoints, newest first.

    \b
    Example:
      ringback endpoint list --status paused
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    page = fetch(api(config_path, socket_path), PATH, filters, limit)
    if as_json:
        print_json(page)
        return
    from ringback.cli.tables import WIDE, Column, print_table  # noqa: PLC0415 - rich is slow to import

    rows = [
        [e["id"], e["status"], e["name"], e["tenant"], mask_query(e["url"]), e["events"] or "all"] for e in page["data"]
    ]
    columns = (
        *map(Column, ("ID", "STATUS")),
        *(Column(name, "elastic") for name in ("NAME", "TENANT", "URL")),
        Column("EVENTS", wide=WIDE),
    )
    print_table(columns, rows, "No endpoints. Add one: ringback endpoint add URL")


@endpoint.command()
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--reveal", is_flag=True, help="Show its secret in full.")
@json_option
@where
def show(
    target: str,
    tenant: str | None,
    reveal: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show one endpoint.

    \b
    Example:
      ringback endpoint show crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    found = daemon.get(_path(daemon, target, tenant), {"reveal": True} if reveal else None)
    _print(found, as_json=as_json)


@endpoint.command()
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--url", help="Where it is sent from now on; it must prove itself again.")
@click.option("--name", "new_name", help="Its new name.")
@setting_options
@click.option("--reset", multiple=True, metavar="FIELD", help="Back to its default, e.g. rate_limit; repeatable.")
@json_option
@where
def update(
    target: str,
    tenant: str | None,
    new_name: str | None,
    reset: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
    **given: Any,
) -> None:
    """Change an endpoint's settings; what isn't named stays as it is.

    Patterns replace the earlier ones, for events from now on; headers and settings of the dialect are added to them.
    A --secret holds at once: to have both sign for a while, rotate-secret.

    \b
    Examples:
      ringback endpoint update crm --concurrency 2 --timeout-s 60
      ringback endpoint update crm -e 'stt.jobs.*' --reset rate_limit
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    changes: dict[str, object] = settings({"name": new_name, **given}) | dict.fromkeys(reset)
    if not changes:
        raise click.UsageError("say what to change; ringback endpoint update --help has the settings")
    daemon = api(config_path, socket_path)
    changed = daemon.patch(_path(daemon, target, tenant), changes)
    for warning in changed.get("warnings", []):
        tell("ringback: warning: ", warning)
    _print(changed, as_json=as_json)


@endpoint.command()
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@json_option
@where
def pause(
    target: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Stop sending to an endpoint; what it is owed is held until it is resumed.

    \b
    Example:
      ringback endpoint pause crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    _print_status(daemon.post(_path(daemon, target, tenant) + "/pause"), as_json=as_json)


@endpoint.command()
@click.argument("target", metavar="[ENDPOINT]", required=False)
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--all", "everything", is_flag=True, help="Every endpoint that a restore paused, and callbacks.")
@json_option
@where
def resume(
    target: str | None,
    tenant: str | None,
    everything: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Send to a paused or disabled endpoint again. After a restore --all sends everything that is held since.

    What was paused by hand before the backup was taken stays paused.

    \b
    Example:
      ringback endpoint resume crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    if everything == (target is not None):
        raise click.UsageError("name an endpoint, or say --all")
    daemon = api(config_path, socket_path)
    if target is not None:
        _print_status(daemon.post(_path(daemon, target, tenant) + "/resume"), as_json=as_json)
        return
    done = daemon.post("/api/v1/db/restored/resume")
    if as_json:
        print_json(done)
    else:
        click.echo(f"endpoints resumed: {done['resumed']}")


@endpoint.command()
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@json_option
@where
def challenge(
    target: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Have an endpoint prove itself now, with the handshake it was made with.

    \b
    Example:
      ringback endpoint challenge crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    _print_status(daemon.post(_path(daemon, target, tenant) + "/challenge"), as_json=as_json)


@endpoint.command()
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@where
def remove(
    target: str,
    tenant: str | None,
    yes: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Remove an endpoint; what it is owed is cancelled, its history stays.

    \b
    Example:
      ringback endpoint remove crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    path = _path(daemon, target, tenant)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {target} and cancel what it is owed?", abort=True, err=True)
    daemon.delete(path)
    click.echo(f"{target} removed")


for _verb in (ping, test, retry, rotate_secret, stats):
    endpoint.add_command(_verb)


def _path(daemon: Api, target: str, tenant: str | None) -> str:
    return f"{PATH}/{segment(endpoint_id(daemon, target, tenant))}"


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _print_sheet(found)


def _print_status(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['name'] or found['id']} is {found['status']}")


def _print_sheet(found: dict[str, Any]) -> None:
    from ringback.cli.tables import print_sheet  # noqa: PLC0415 - rich is slow to import

    facts = dict(found)
    effective = facts.pop("effective", {})
    facts.pop("warnings", None)
    facts |= {name: value for name, value in effective.items() if name != "retry"}
    facts["events"] = facts["events"] or "all"
    facts["previous_secrets"] = [
        f"{old['secret']}, signs until {old['expires_at'] or 'it is dropped'}" for old in facts["previous_secrets"]
    ]
    print_sheet(facts.items())
