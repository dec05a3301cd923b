"""Reload: the configuration is read again, judged whole, and what can change does, without dropping a request.

Role: on SIGHUP, from the files to settings in force. A bad configuration changes nothing and every problem is logged
(``config.rejected``); a good one is applied as far as a running process can, what needs a restart is named
(``config.reloaded``).
Rules: one reload at a time, those asked for meanwhile are one more; the service manager hears when it begins and ends.
Must not know: what a setting does; who applies it is handed in.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ringback.config import ConfigError, Loaded, Settings
from ringback.core.egress import EgressPolicy, parse_policy
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.service.declared import Declared, Problem, Reconciled, Wanted, judge
from ringback.service.watchdog import Notify, StatusLine

#: Problems in one line of the log; the rest is a count, and ``ringback config check`` shows all.
MAX_LOGGED = 50
#: How long a start or a reload waits for declarations to be written, should the disk be full.
RECONCILE_TIMEOUT_S = 60.0
#: What to do about files of secrets that lie open.
EXPOSED_NEXT = "chmod o-rwx: everybody on this machine may read these secrets"

_log = get_logger()


class Live(NamedTuple):
    """Settings that can change at run time. ``keys``: dotted keys, or whole sections ending in a dot."""

    keys: tuple[str, ...]
    apply: Callable[[Settings], None]


def policy_of(settings: Settings) -> EgressPolicy:
    """The egress policy of these settings."""
    egress = settings.egress
    return parse_policy(egress.allow_http, egress.allow_networks, egress.deny_networks)


def judge_all(loaded: Loaded) -> list[Wanted]:
    """The declared endpoints, judged under their own settings.

    Raises:
        ConfigError: with every problem.
    """
    wanted, problems = _judged(loaded)
    if problems:
        raise ConfigError(sorted(problems))
    return wanted


def problems_of(loaded: Loaded) -> list[Problem]:
    """What is wrong with the declared endpoints, though the settings may be wrong, too (``ConfigError.rest``)."""
    return _judged(loaded)[1]


def _judged(loaded: Loaded) -> tuple[list[Wanted], list[Problem]]:
    settings = loaded.settings
    return judge(loaded.declarations, settings.endpoint_defaults.dialect, policy_of(settings))


class Reload:
    """Waits until ``asked`` is set. ``load`` reads everything anew and raises ConfigError."""

    def __init__(
        self,
        *,
        load: Callable[[], Loaded],
        settings: Settings,
        live: Sequence[Live],
        declared: Declared,
        asked: asyncio.Event,
        status: StatusLine,
        notify: Notify,
        clock: Clock,
    ) -> None:
        self._load = load
        self._in_force = _flat(settings)
        self._live = live
        self._declared = declared
        self._status = status
        self._notify = notify
        self._clock = clock
        self._asked = asked

    async def start(self, loaded: Loaded) -> None:
        """Bring the endpoints to what is declared, before anything is accepted.

        Raises:
            ConfigError: a declaration doesn't fit the endpoint of its name.
        """
        wanted = await self._fitting(loaded, judge_all(loaded))
        counts = await self._reconcile(wanted)
        if wanted or counts.get("endpoints_undeclared"):
            _log.info("config.declared", declared=len(wanted), **counts)
        self._warn(loaded, wanted)

    async def run(self) -> None:
        """Reload as often as asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            # MONOTONIC_USEC is for managers from 253 on; 252 takes the two states alone.
            usec = int(self._clock.monotonic() * 1_000_000)
            self._notify(f"RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading")
            await self.reload()  # called off by a stop: the manager knows of that, and must not hear READY after it
            self._notify(f"READY=1\nSTATUS={self._status.line()}")

    async def reload(self) -> None:
        """Read, judge, apply."""
        try:
            loaded, judged = await asyncio.to_thread(self._read)
            wanted = await self._fitting(loaded, judged)
        except ConfigError as wrong:
            self._reject(wrong.problems)
            return
        changed, needs_restart = self._apply(loaded.settings)
        counts = await self._reconcile(wanted)
        self._status.note = f"restart needed for {', '.join(needs_restart)}" if needs_restart else ""
        _log.info(
            "config.reloaded",
            changed=changed,
            needs_restart=needs_restart,
            declared=len(wanted),
            **counts,
        )
        self._warn(loaded, wanted)

    def _warn(self, loaded: Loaded, wanted: Sequence[Wanted]) -> None:
        """What is good, and yet hardly what was meant."""
        exposed = sorted({one.exposed for one in loaded.declarations if one.exposed})
        if exposed:
            _log.warning("endpoint.secret_exposed", count=len(exposed), files=exposed[:MAX_LOGGED], next=EXPOSED_NEXT)
        default = loaded.settings.endpoint_defaults.dialect
        kept = self._declared.kept_dialects(wanted, default)
        if kept:
            _log.warning("endpoint.dialect_kept", count=len(kept), names=kept[:MAX_LOGGED], default=default)

    def _read(self) -> tuple[Loaded, list[Wanted]]:
        """In a thread: thousands of declarations take a while to judge."""
        loaded = self._load()
        return loaded, judge_all(loaded)

    async def _fitting(self, loaded: Loaded, wanted: list[Wanted]) -> list[Wanted]:
        """The declarations, if they fit the endpoints there are. Raises ConfigError."""
        conflicts = await self._declared.conflicts(wanted, policy_of(loaded.settings))
        if conflicts:
            raise ConfigError(sorted(conflicts))
        return wanted

    async def _reconcile(self, wanted: Sequence[Wanted]) -> dict[str, int]:
        """What it came to, for the log; nothing if the disk took too long, and the next reload goes on."""
        try:
            async with asyncio.timeout(RECONCILE_TIMEOUT_S):
                return _counts(await self._declared.reconcile(wanted))
        except TimeoutError:
            _log.error("config.declarations_late", declared=len(wanted), timeout_s=RECONCILE_TIMEOUT_S)
            return {}

    def _reject(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        self._status.note = f"reload refused, {count} problem{'s' if count > 1 else ''}: see config.rejected in the log"
        shown = [f"{key}: {message}" for key, message in problems[:MAX_LOGGED]]
        _log.error("config.rejected", count=count, problems=shown)

    def _apply(self, settings: Settings) -> tuple[list[str], list[str]]:
        """The keys that took effect, and those that wait for a restart (told again at each reload until then)."""
        new = _flat(settings)
        differing = {key for key in new.keys() | self._in_force.keys() if new.get(key) != self._in_force.get(key)}
        changed: set[str] = set()
        for live in self._live:
            own = {key for key in differing if _is_of(key, live.keys)}
            if own:
                live.apply(settings)
                changed |= own
        for key in changed:
            self._in_force[key] = new.get(key)
        return sorted(changed), sorted(differing - changed)


def _is_of(key: str, keys: tuple[str, ...]) -> bool:
    return any(key.startswith(one) if one.endswith(".") else key == one for one in keys)


def _flat(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(table: dict[str, Any], prefix: str) -> None:
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value

    walk(settings.model_dump(), "")
    return found


def _counts(done: Reconciled) -> dict[str, int]:
    return {
        "endpoints_created": done.created,
        "endpoints_changed": done.changed,
        "endpoints_undeclared": done.undeclared,
        "endpoints_refused": done.refused,
    }
