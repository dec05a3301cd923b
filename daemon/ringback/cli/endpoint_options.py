"""The settings of an endpoint as options of a command: for making one and for changing one.

Must not know: what is a good value; the daemon judges.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str] | None:
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


def _headers(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str] | None:
    """``NAME: VALUE`` each."""
    for text in texts:
        if ":" not in text:
            raise click.BadParameter(f"{text!r}: write it as 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in (text.partition(":") for text in texts)} or None


_OPTIONS = (
    click.option("--event", "-e", "events", multiple=True, metavar="PATTERN", help="Event types it gets; repeatable."),
    click.option("--description", help="A word for people."),
    click.option("--secret", help="Its signing secret (whsec_…), - to read it from stdin."),
    click.option("--unsigned", is_flag=True, help="Sign nothing."),
    click.option("--concurrency", type=int, help="Requests in flight to it at most."),
    click.option("--timeout-s", type=float, help="Seconds for a whole request."),
    click.option(
        "--rate-limit", metavar="N/SECONDS", callback=_rate_limit, help="At most N requests in any so many seconds."
    ),
    click.option(
        "--handshake",
        help="How it proves itself before it gets anything: azure-speech, graph, cloudevents, websub, zoom, none…",
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        callback=_headers,
        help="Sent with each request; repeatable.",
    ),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_pairs,
        help="A setting of its dialect (ringback dialects); repeatable.",
    ),
)


def setting_options(function: F) -> F:
    """The options themselves, in the order help shows them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def settings(given: Mapping[str, Any]) -> dict[str, object]:
    """What was given of them, as members of the API's body. Raises UsageError where two exclude each other."""
    body = {name: value for name, value in given.items() if value is not None and name not in ("events", "unsigned")}
    secret = body.get("secret")
    if given["unsigned"] and secret is not None:
        raise click.UsageError("--secret and --unsigned exclude each other")
    if given["unsigned"]:
        body["secret"] = ""
    elif secret == "-":  # noqa: S105 - a dash, not a secret
        body["secret"] = sys.stdin.readline().strip()
    if given["events"]:
        body["events"] = list(given["events"])
    return body
