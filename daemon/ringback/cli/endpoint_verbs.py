"""``ringback endpoint ping|test|retry|rotate-secret|stats``: commands on one endpoint that was made before.

Must not know: what is sent, how a secret is made.
"""

import sys
from typing import Any, cast

import click

from ringback.cli.client import Api, CommandError
from ringback.cli.context import Command, api, json_option, print_json, where
from ringback.cli.lists import endpoint_path


@click.command(cls=Command)
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@json_option
@where
def ping(
    target: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Send it a ringback.test event that says it is a ping, whatever it filters.

    \b
    Example:
      ringback endpoint ping crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    _probe("ping", target, tenant, config_path, socket_path, as_json=as_json)


@click.command(cls=Command)
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@json_option
@where
def test(
    target: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Send it a ringback.test event that says it is a test, whatever it filters.

    \b
    Example:
      ringback endpoint test crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    _probe("test", target, tenant, config_path, socket_path, as_json=as_json)


def _probe(
    kind: str, target: str, tenant: str | None, config_path: str | None, socket_path: str | None, *, as_json: bool
) -> None:
    daemon = api(config_path, socket_path)
    sent = daemon.post(f"{endpoint_path(daemon, target, tenant)}/{kind}")
    if as_json:
        print_json(sent)
    else:
        click.echo(f"on its way: ringback delivery show {sent['delivery_id']}")


@click.command(cls=Command)
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@json_option
@where
def retry(
    target: str,
    tenant: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Send now what waits for its next try there, once the receiver is mended.

    Each is the next try of its schedule, so look first whether it takes anything: ringback doctor ENDPOINT --send.

    \b
    Example:
      ringback endpoint retry crm
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    done = _retry_all(daemon, endpoint_path(daemon, target, tenant) + "/retry")
    if as_json:
        print_json(done)
    elif done["deliveries"]:
        click.echo(_due(done["deliveries"]))
    else:
        click.echo("nothing waits for a next try there")


def _retry_all(daemon: Api, path: str) -> dict[str, Any]:
    """The last answer, with the deliveries of all. Raises CommandError; of what was done before it, it tells."""
    done = daemon.post(path)
    while done["next_cursor"]:
        count = done["deliveries"]
        try:
            done = daemon.post(f"{path}?cursor={done['next_cursor']}")
        except CommandError as failed:
            raise type(failed)(f"{_due(count)}, the others not: {failed.message}") from None
        done["deliveries"] += count
    return cast("dict[str, Any]", done)


def _due(count: int) -> str:
    return f"{count:,} deliver{'y is' if count == 1 else 'ies are'} due now"


@click.command("rotate-secret", cls=Command)
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--grace-s", type=float, help="Seconds the old secret signs too; a day if not given, 0 drops it at once.")
@click.option("--secret", help="The new secret, - to read it from stdin; made if not given.")
@json_option
@where
def rotate_secret(
    target: str,
    tenant: str | None,
    grace_s: float | None,
    secret: str | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Sign with a new secret, and for a while with the old one too. The new one is shown in full.

    \b
    Example:
      ringback endpoint rotate-secret crm --grace-s 3600
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    given = sys.stdin.readline().strip() if secret == "-" else secret  # noqa: S105 - a dash, not a secret
    body = {name: value for name, value in (("grace_s", grace_s), ("secret", given)) if value is not None}
    changed = daemon.post(endpoint_path(daemon, target, tenant) + "/rotate-secret", body)
    if as_json:
        print_json(changed)
        return
    click.echo(changed["secret"])
    ends = [old["expires_at"] for old in changed["previous_secrets"]]
    until = f"the old one signs too until {ends[0]}" if ends else "the old one is gone"
    click.echo(f"Give it to the receiver; {until}. Later: {reveal(changed)}", err=True)


def reveal(endpoint: dict[str, Any]) -> str:
    """The command that shows its secret again; by its name, where that will do."""
    called = endpoint["name"] if endpoint["name"] and endpoint["tenant"] == "default" else endpoint["id"]
    return f"ringback endpoint show {called} --reveal"


@click.command(cls=Command)
@click.argument("target", metavar="ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--hours", type=int, help="How many hours to look back; 24 if not given.")
@json_option
@where
def stats(
    target: str,
    tenant: str | None,
    hours: int | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Show its rates and latencies, and how its queue stands.

    \b
    Example:
      ringback endpoint stats crm --hours 1
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = api(config_path, socket_path)
    found = daemon.get(endpoint_path(daemon, target, tenant) + "/stats", {"hours": hours})
    if as_json:
        print_json(found)
        return
    from ringback.cli.tables import Column, print_sheet, print_table, when  # noqa: PLC0415 - rich is slow to import

    queue, latency, rate = found["queue"], found["latency_ms"], found["success_rate"]
    oldest = f", the oldest accepted {when(queue['oldest_accepted_at'])}" if queue["oldest_accepted_at"] else ""
    print_sheet(
        [
            ("endpoint", found["endpoint_id"]),
            ("status", found["status"]),
            ("since", when(found["since"])),
            ("attempts", f"{found['attempts']} ({found['attempts_per_s'] or 0:g} a second)"),
            ("succeeded", None if rate is None else f"{rate:.1%}"),
            ("outcomes", ", ".join(f"{count} {name}" for name, count in found["outcomes"].items())),
            ("latency", None if latency["p50"] is None else f"p50 {latency['p50']} ms, p99 {latency['p99']} ms"),
            ("in flight", f"{found['in_flight']}; {found['window']:g} allowed now, {found['concurrency']} at most"),
            ("owed", f"{queue['owed']}{' or more' if queue['capped'] else ''}{oldest}"),
        ]
    )
    if len(found["by_hour"]) > 1:
        columns = [*map(Column, ("HOUR", "ATTEMPTS", "DELIVERED", "FAILED", "DEAD"))]
        members = ("attempts", "delivered", "failed", "dead")
        rows = [[when(hour["hour"]), *(hour[name] for name in members)] for hour in found["by_hour"]]
        print_table(columns, rows, "")
