"""What the listing commands share: following pages, and telling an endpoint by its name.

Must not know: what is listed.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import click

from ringback.cli.client import Api, NotFound, segment

F = TypeVar("F", bound=Callable[..., Any])

PAGE = 250  # the most the API answers at once
DEFAULT_LIMIT = 50
MAX_LIMIT = 100_000


def limit_option(function: F) -> F:
    """The option that says how many to show."""
    return click.option(
        "--limit",
        type=click.IntRange(1, MAX_LIMIT),
        default=DEFAULT_LIMIT,
        show_default=True,
        help="How many at most, newest first.",
    )(function)


def time_options(function: F) -> F:
    """The options that say from when to when."""
    function = click.option("--until", metavar="TIME", help="Created before this time.")(function)
    return click.option("--since", metavar="TIME", help="Created at or after, e.g. 2026-11-21T09:30:00Z.")(function)


def fetch(api: Api, path: str, params: Mapping[str, object], limit: int) -> dict[str, Any]:
    """A list of up to ``limit``, page after page; shaped as one page of the API."""
    found: list[Any] = []
    cursor = None
    while True:
        page = api.get(path, {**params, "limit": min(PAGE, limit - len(found)), "cursor": cursor})
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None or len(found) >= limit:
            return {"data": found, "next_cursor": cursor}


def endpoint_id(api: Api, text: str, tenant: str | None = None) -> str:
    """The id of an endpoint told by id or by name. Raises NotFound, or a UsageError if the name is ambiguous."""
    if is_id(text):
        return text
    found = api.get("/api/v1/endpoints", {"name": text, "tenant": tenant})["data"]
    if not found:
        raise NotFound(f"there is no endpoint named {text!r}")
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} tenants have an endpoint named {text!r}: say --tenant, or give its id")
    return str(found[0]["id"])


def endpoint_path(api: Api, text: str, tenant: str | None = None) -> str:
    """Where the API has an endpoint told by id or by name. Raises as ``endpoint_id``."""
    return f"/api/v1/endpoints/{segment(endpoint_id(api, text, tenant))}"


def is_id(text: str) -> bool:
    """Whether it is written like an endpoint's or a delivery's id."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
