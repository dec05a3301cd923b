"""``ringback endpoint``: register receivers and steer them.

Must not know: what is a good endpoint; the daemon judges.
"""

import sys
from typing import Any

import click

from ringback.cli.client import Api, segment
from ringback.cli.context import Group, api, json_option, print_json, where
from ringback.cli.endpoint_verbs import ping, rotate_secret, stats, test
from ringback.cli.lists import endpoint_id, fetch, limit_option
from ringback.core.masks import mask_query

PATH = "/api/v1/endpoints"


def _options(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str] | None:
    """``NAME=VALUE`` each."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f"{text!r}: write it as NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in texts)} or None


def _rate_limit(_context: click.Context, _option: click.Parameter, text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    requests, _, seconds = text.partition("/")
    try:
        return {"requests": int(requests), "per_s": float(seconds or 1)}
    except ValueError:
        raise click.BadParameter(f"{text!r}: write it as N/SECONDS, e.g. 100/60") from None


@click.group(cls=Group)
def endpoint() -> None:
    """Register receivers (endpoints) and steer them.

    An ENDPOINT is told by its id or its name.
    """


@endpoint.command()
@click.argument("url")
@click.option("--name", help="A name to call it by, unique in its tenant.")
@click.option("--tenant", help="Whose events it gets; 'default' if not given.")
@click.option("--event", "-e", "events", multiple=True, metavar="PATTERN", help="Event types it gets; repeatable.")
@click.option("--description", help="A word for people.")
@click.option("--dialect", help="The format it is sent.")
@click.option("--secret", help="Its signing secret (whsec_…), - to read it from stdin; made if not given.")
@click.option("--unsigned", is_flag=True, help="Sign nothing.")
@click.option("--concurrency", type=int, help="Requests in flight to it at most.")
@click.option("--timeout-s", type=float, help="Seconds for a whole request.")
@click.option(
    "--rate-limit", metavar="N/SECONDS", callback=_rate_limit, help="At most N requests in any so many seconds."
)
@click.option("--handshake", help="How it must prove itself before it gets anything, or none.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with each request; repeatable.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_options,
    help="A setting of its dialect (ringback dialects); repeatable.",
)
@json_option
@where
def add(
    url: str,
    events: tuple[str, ...],
    secret: str | None,
    unsigned: bool,  # noqa: FBT001 - a command-line flag
    headers: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
    **plain: Any,
) -> None:
    """Register URL as a receiver. Its secret is shown in full; later only `endpoint show --reveal` does.

    \b
    Examples:
      ringback endpoint add https://example.com/hooks
      ringback endpoint add https://example.com/hooks --name crm -e 'stt.jobs.*' -e 'billing.**'
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    if unsigned and secret is not None:
        raise click.UsageError("--secret and --unsigned exclude each other")
    body: dict[str, object] = {"url": url} | {name: value for name, value in plain.items() if value is not None}
    if secret is not None or unsigned:
        body["secret"] = "" if unsigned else sys.stdin.readline().strip() if secret == "-" else secret  # noqa: S105 - a dash, not a secret
    if events:
        body["events"] = list(events)
    if headers:
        body["headers"] = dict(_header(text) for text in headers)
    made = api(config_path, socket_path).post(PATH, body)
    for warning in made.get("warnings", []):
        click.echo(f"ringback: warning: {warning}", err=True)
    if as_json:
        print_json(made)
        return
    _print_sheet(made)
    if made["secret"]:
        called = made["name"] if made["name"] and made["tenant"] == "default" else made["id"]
        click.echo(f"Give the secret to the receiver. Later: ringback endpoint show {called} --reveal", err=True)


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


for _verb in (ping, test, rotate_secret, stats):
    endpoint.add_command(_verb)


def _path(daemon: Api, target: str, tenant: str | None) -> str:
    return f"{PATH}/{segment(endpoint_id(daemon, target, tenant))}"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError(f"--header {text!r}: write it as 'NAME: VALUE'")
    return name.strip(), value.strip()


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
    print_sheet(facts.items())
