"""What the erasing commands share: asking first, and erasing in the state directory while no daemon runs.

Rules: a terminal is asked, unless ``--yes``. A daemon that is named by its socket is never worked around; with none
running the directory's lock is taken for each step, so a daemon that starts meanwhile goes on with what is begun.
Must not know: what erasing does.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ringback.cli.client import CommandError, NotFound, Refused, Unreachable
from ringback.cli.context import alone_in, load_all

#: Events erased in one transaction while no daemon runs.
ALONE_ROWS = 4096

T = TypeVar("T")


def yes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option not to be asked."""
    return click.option("--yes", is_flag=True, help="Don't ask.")(function)


def sure(question: Callable[[], str], *, yes: bool) -> None:
    """Ask on a terminal; ends the command on a no."""
    if not yes and on_a_terminal():
        click.confirm(question(), abort=True, err=True)


def on_a_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def event_alone(config_path: str | None, socket_path: str | None, tenant: str, event_id: str) -> dict[str, Any]:
    """As the API's call, without a daemon."""
    from ringback.core.times import rfc3339  # noqa: PLC0415 - slow to import, and seldom needed
    from ringback.store.erase import erase_event  # noqa: PLC0415 - as above

    now_ms = _now_ms()
    done = _run(_directory(config_path, socket_path), erase_event(tenant, event_id, now_ms), now_ms)
    if done is None:
        raise NotFound(f"tenant {tenant} has no event {event_id}")
    return {"id": event_id, "tenant": tenant, "erased_at": rfc3339(done.erased_at_ms)}


def look_alone(config_path: str | None, socket_path: str | None, name: str) -> dict[str, Any]:
    """How much there is of a tenant, as the API's call, without a daemon."""
    from ringback.store.erasure_reads import look  # noqa: PLC0415 - slow to import, and seldom needed

    found = _run(_directory(config_path, socket_path), look(name), _now_ms())
    if found is None:
        raise NotFound(f"there is no tenant {name}")
    return {"tenant": name, **found._asdict()}


def tenant_alone(
    config_path: str | None, socket_path: str | None, name: str, left: Callable[[int], None]
) -> dict[str, Any]:
    """As the API's call, and all that follows from it, without a daemon. ``left(events)`` is told of each step."""
    from ringback.core.model import DEFAULT_TENANT  # noqa: PLC0415 - slow to import, and seldom needed
    from ringback.store import erase  # noqa: PLC0415 - as above

    directory, now_ms = _directory(config_path, socket_path), _now_ms()
    for declared in load_all(config_path).declarations:
        if declared.fields.get("tenant", DEFAULT_TENANT) == name:
            words = (
                f"{declared.key} declares an endpoint of tenant {name}, which would come back: remove it there first"
            )
            raise Refused(words)
    begun = _run(directory, erase.begin_erasure(name, now_ms), now_ms)
    if begun is None:
        raise NotFound(f"there is no tenant {name}")
    _run(directory, erase.destroy_keys(name), now_ms)
    step, done = erase.Step(0, 0, more=True), 0
    while step.more:
        step = _run(directory, erase.erase_next(name, ALONE_ROWS, now_ms, step.hour), now_ms)
        done += step.events
        left(max(0, begun.events - done))
    return {"tenant": name, "events": begun.events, "endpoints": begun.endpoints}


def _directory(config_path: str | None, socket_path: str | None) -> Path:
    directory = Path(alone_in(config_path, socket_path))
    try:
        there = directory.exists()
    except OSError as problem:  # it may not be looked at: it is another account's
        words = f"no daemon answers, and {directory} can't be used: {problem.strerror}; do it as the daemon's account"
        raise Unreachable(words) from None
    if not there:
        raise Unreachable(f"no daemon runs, and there is no state directory {directory}")
    return directory


def _run(directory: Path, task: Any, now_ms: int) -> Any:
    from ringback.store.alone import run_alone  # noqa: PLC0415 - slow to import, and seldom needed
    from ringback.store.errors import StateError, StateLocked  # noqa: PLC0415 - as above

    try:
        return run_alone(directory, task, now_ms)
    except StateLocked as problem:
        raise Refused(f"{problem}; a daemon goes on with an erasure that was begun") from None
    except StateError as problem:
        raise CommandError(str(problem)) from None
    except OSError as problem:
        raise CommandError(f"can't use {directory}: {problem.strerror}; do it as the daemon's account") from None


def _now_ms() -> int:
    from ringback.kit.clock import SystemClock  # noqa: PLC0415 - as above

    return SystemClock().now_ms()
