"""``ringback doctor``: why nothing arrives at a receiver, each step of the way with what to do about it.

Rules: the daemon looks, so that it is its network, its settings and its limits that are told; a URL alone is looked at
from here if no daemon answers. Exit 1 if there is a problem.
Must not know: the words; the daemon finds them.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from ringback.cli.client import Api, NotFound, Unreachable
from ringback.cli.context import Command, alone_in, find_socket, json_option, load_settings, print_json, where
from ringback.cli.lists import endpoint_id
from ringback.cli.words import counted, folded, tell

PATH = "/api/v1/doctor"
#: Each step has its own deadline, the longest 600 s (delivery.timeout_s), twice with --send.
LONG_ANSWER_S = 1800.0
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command(cls=Command)
@click.argument("what", metavar="URL|ENDPOINT")
@click.option("--tenant", help="Whose endpoint, if it is told by its name.")
@click.option("--send", is_flag=True, help="Send the endpoint a ringback.test event, too, and wait for its answer.")
@json_option
@where
@click.pass_context
def doctor(
    ctx: click.Context,
    what: str,
    tenant: str | None,
    send: bool,  # noqa: FBT001 - a command-line flag
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Find out why nothing arrives at a receiver: rules, name, connection, TLS, answer, clock.

    Of an ENDPOINT, by id or name, also its status, handshake, secret, queue and latest attempts. Nothing signed is sent
    without --send: the receiver is asked with OPTIONS. Exits 1 if there is a problem.

    \b
    Examples:
      ringback doctor crm --send
      ringback doctor https://example.com/hooks
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    daemon = Api(find_socket("control", config_path, socket_path), LONG_ANSWER_S)
    if "://" in what:
        if send or tenant is not None:
            raise click.UsageError("--send and --tenant are for an endpoint, not for a URL")
        found = _url(daemon, what, config_path, socket_path)
    else:
        found = daemon.post(PATH, {"endpoint": _id(daemon, what, tenant), "send": send})
    if as_json:
        print_json(found)
    else:
        for line in told(found):
            click.echo(line)
    ctx.exit(0 if found["ok"] else 1)


def _id(daemon: Api, what: str, tenant: str | None) -> str:
    try:
        return endpoint_id(daemon, what, tenant)
    except NotFound as unknown:
        raise NotFound(f"{unknown.message}; a URL begins with https://") from None


def _url(daemon: Api, url: str, config_path: str | None, socket_path: str | None) -> Any:
    try:
        return daemon.post(PATH, {"url": url})
    except Unreachable as gone:
        alone_in(config_path, socket_path)  # one that was named by its socket is never worked around
        tell("ringback: ", f"{gone.message}. Looked at from here, by the configuration")
    return asyncio.run(_alone(url, load_settings(config_path)))


async def _alone(url: str, settings: Any) -> dict[str, Any]:
    """As the daemon would, in this process."""
    from functools import partial  # noqa: PLC0415 - the daemon's weight is for this case alone

    from ringback.api.doctor import report  # noqa: PLC0415 - as above
    from ringback.core.egress import judge_address  # noqa: PLC0415 - as above
    from ringback.core.proxy import judge_unresolved  # noqa: PLC0415 - as above
    from ringback.kit.clock import SystemClock  # noqa: PLC0415 - as above
    from ringback.service.diagnosis_endpoint import diverted  # noqa: PLC0415 - as above
    from ringback.service.doctor import Asked, Doctor  # noqa: PLC0415 - as above
    from ringback.service.endpoint_fields import Refusal  # noqa: PLC0415 - as above
    from ringback.service.settings_parts import ways_of  # noqa: PLC0415 - as above
    from ringback.transports.http import HttpSender  # noqa: PLC0415 - as above

    clock, ways = SystemClock(), ways_of(settings)
    judge = partial(judge_address, ways.policy)
    leave = partial(judge_unresolved, ways.policy)
    sender = HttpSender(clock=clock, judge_address=judge, judge_name=leave, nameservers=ways.nameservers)
    sender.route(ways.proxy)
    await sender.start()
    try:
        steps = await Doctor(sender, clock, ways).walk(Asked(url))
    finally:
        await sender.stop()
    assert not isinstance(steps, Refusal), "nobody else walks here"
    return report(url, steps + ([diverted(ways.divert_to)] if ways.divert_to else []))


def told(found: dict[str, Any]) -> Iterator[str]:
    """The answer as lines of text."""
    named = found["name"] or found["endpoint_id"]
    yield f"{named}, {found['url']}" if named else found["url"]
    for step in found["steps"]:
        level = click.style(f"{step['level']:<7}", fg=_COLOURS.get(step["level"]))
        yield folded(f"  {level}  {step['step']:<9}  ", step["text"])
        if step["do"]:
            yield folded(f"{'':22}-> ", step["do"])
    levels = [step["level"] for step in found["steps"]]
    counts = [counted(count, name) for name in ("problem", "warning") if (count := levels.count(name))]
    yield f"  {', '.join(counts) or 'nothing is wrong on the way'}"
