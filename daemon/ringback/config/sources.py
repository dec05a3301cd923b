"""Where settings come from: the file, the environment and the default paths, made one value or a list of problems.

Rules: precedence is environment key > file > ``$STATE_DIRECTORY`` and its kin > default. All problems are told at once,
each with its dotted key.
Must not know: who uses a setting, or how.
"""

import contextlib
import grp
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ringback.config.declarations import Declaration, read_declarations, there, without_waiting
from ringback.config.master_key import MasterKeys, read_master_keys
from ringback.config.settings import Delivery, Egress, EndpointDefaults, Ingest, Settings
from ringback.config.words import TOML, meant, words

ETC_FILE = "/etc/ringback/ringback.toml"
STATE, SPOOL = "/var/lib/ringback", "/var/spool/ringback"
MAX_FILE_BYTES = 1_048_576
MAX_GID = 2**32 - 2
MAX_SHOWN = 60  # of a wrong value, in a problem's text
ENV_PREFIX = "RINGBACK_"
SECRET_KEYS = frozenset({"egress.proxy"})  # whatever stands there may hold a password

Toml: TypeAlias = dict[str, Any]
Problem: TypeAlias = tuple[str, str]


class ConfigError(Exception):
    """The configuration can't be used. ``problems``: every (dotted key, message); the key of a file is its path.

    ``rest``: what could be read all the same, so that the declared endpoints can be judged, too.
    """

    def __init__(self, problems: list[Problem], rest: "Loaded | None" = None) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in problems))
        self.problems = problems
        self.rest = rest


def _at(merged: Toml, dotted: str) -> object:
    value: object = merged
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cross_checks(merged: Toml) -> list[Problem]:
    """Problems between keys; on the raw values, so that they are told together with the single keys' own."""
    problems = []
    if _at(merged, "ingest.socket.path") == _at(merged, "api.socket"):
        problems.append(("api.socket", "must not be the same path as ingest.socket.path"))
    folders = [_at(merged, key) or "" for key in ("ingest.spool.path", "daemon.state_dir")]
    spool, state = (os.path.normpath(folder) if isinstance(folder, str) and folder else "" for folder in folders)
    if spool == state != "":
        problems.append(("ingest.spool.path", "must not be the state directory: producers write there"))
    event = _at(merged, "ingest.max_event_bytes") or Ingest.model_fields["max_event_bytes"].default
    budget = (
        _at(merged, "delivery.max_body_bytes_in_flight") or Delivery.model_fields["max_body_bytes_in_flight"].default
    )
    if isinstance(event, int) and isinstance(budget, int) and budget < event:
        problems.append(
            ("delivery.max_body_bytes_in_flight", f"must hold one event: ingest.max_event_bytes is {event}")
        )
    return problems


def find_file(path: str | None, env: Mapping[str, str]) -> str | None:
    """The file to read: ``path``, else ``$RINGBACK_CONFIG``, else the one in /etc if it is there, else None."""
    named = path or env.get("RINGBACK_CONFIG")
    return named or (ETC_FILE if there(Path(ETC_FILE)) else None)


def _read(file: str) -> tuple[Toml, list[Problem]]:
    handed = os.fspath(file).startswith("/dev/")  # what a shell hands over may be a pipe, and has a writer
    try:
        with open(file, "rb", opener=None if handed else without_waiting) as stream:
            if not handed and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                return {}, [(file, "is a pipe, which a reload might wait for in vain")]
            raw = stream.read(MAX_FILE_BYTES + 1)
        if raw is None:  # read without waiting; not what its type says
            return {}, [(file, "is a device that has nothing to read")]
        if len(raw) > MAX_FILE_BYTES:
            return {}, [(file, f"is larger than {MAX_FILE_BYTES} bytes")]
        return tomllib.loads(raw.decode()), []
    except OSError as problem:
        return {}, [(file, f"can't be read: {problem.strerror}")]
    except (ValueError, RecursionError) as problem:  # not TOML, not UTF-8, or brackets without end
        return {}, [(file, f"is not TOML: {problem}")]


def _field_type(dotted: list[str]) -> object:
    """The annotation of a key, None if there is no such key."""
    model: object = Settings
    for key in dotted:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[key].annotation if key in model.model_fields else None
        else:
            model = get_args(model)[-1] if get_args(model)[:1] else None  # of a table whose keys are anybody's
    return model


def _leaves(model: type[BaseModel], dotted: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that holds a value."""
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, (*dotted, key))
        else:
            yield (*dotted, key)


#: {a key's parts with single underscores between: its parts}, to know a variable that was meant to set one.
_BY_UNDERSCORES = {"_".join(dotted): dotted for dotted in _leaves(Settings)}


def _env_value(text: str, dotted: list[str]) -> object:
    """Read a variable as a TOML value; where a key takes text, a bare word stays text (mode 0660, group 1000)."""
    try:
        value = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if value.keys() != {"value"} or (_field_type(dotted) is str and not isinstance(value["value"], str)):
        return text
    return value["value"]


def _overlay(merged: Toml, env: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """Lay the environment's keys over ``merged``; returns {dotted key: variable}, and what can't be laid there.

    A variable without "__" is somebody else's, unless it spells a key but for its underscores.
    """
    sources: dict[str, str] = {}
    problems = []
    for variable in sorted(name for name in env if name.startswith(ENV_PREFIX)):
        dotted = variable.removeprefix(ENV_PREFIX).lower().split("__")
        key = _BY_UNDERSCORES.get(re.sub("_+", "_", "_".join(dotted)))
        if key is not None and [*key] != dotted:
            right = ENV_PREFIX + "__".join(key).upper()
            problems.append((".".join(key), f"is set by ${right}, not by ${variable}: tables end in two underscores"))
        elif dotted[0] == "endpoint" and len(dotted) > 1:
            problems.append(("endpoint", f"endpoints are declared in files, not by ${variable}"))
        elif len(dotted) > 1 and _put(merged, dotted, _env_value(env[variable], dotted)):
            sources[".".join(dotted)] = variable
    return sources, problems


def _put(merged: Toml, dotted: list[str], value: object) -> bool:
    """Set a key; False if there is a value where a table belongs, which is told as that key's problem."""
    table: object = merged
    for key in dotted[:-1]:
        table = table.setdefault(key, {}) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table[dotted[-1]] = value
    return isinstance(table, dict)


def _first(env: Mapping[str, str], name: str) -> str:
    """Under systemd it lists several directories with colons; ours is the first."""
    return env.get(name, "").split(":")[0]


def _xdg(env: Mapping[str, str], name: str, below_home: str) -> str:
    """A base folder; the XDG rules say to ignore a relative one."""
    named = env.get(name, "")
    if named.startswith("/"):
        return named
    return f"{env['HOME']}/{below_home}" if below_home and env.get("HOME", "").startswith("/") else ""


def _default_paths(merged: Toml, env: Mapping[str, str], euid: int) -> None:
    """Fill in the paths that neither file nor environment keys gave."""
    system = euid == 0 or bool(_first(env, "STATE_DIRECTORY") or _first(env, "RUNTIME_DIRECTORY"))
    state, run = (STATE, "/run/ringback") if system else ("", "")
    if not system and (base := _xdg(env, "XDG_STATE_HOME", ".local/state")):
        state = f"{base}/ringback"
    if not system and (base := _xdg(env, "XDG_RUNTIME_DIR", "")):
        run = f"{base}/ringback"
    moved = _at(merged, "daemon.state_dir")
    state = _default(merged, "daemon.state_dir", _first(env, "STATE_DIRECTORY") or state)
    # two daemons with state directories of their own must not meet in one spool that neither has named
    spool = SPOOL if system and moved in (None, STATE) else state and f"/{state.lstrip('/')}/spool"
    _default(merged, "ingest.spool.path", spool)
    # a relative state_dir is told as its own problem: no need for two more about the sockets below it
    run = _first(env, "RUNTIME_DIRECTORY") or run or (state and f"/{state.lstrip('/')}/run")
    _default(merged, "ingest.socket.path", run and f"{run}/events.sock")
    _default(merged, "api.socket", run and f"{run}/control.sock")


def _default(merged: Toml, dotted: str, default: str) -> str:
    """Set a missing key if there is a default; returns what is in force ("" if nothing usable)."""
    *tables, last = dotted.split(".")
    table: object = merged
    for key in tables:
        table = table.setdefault(key, {}) if isinstance(table, dict) else None
    if isinstance(table, dict) and default:
        table.setdefault(last, default)
    found = table.get(last) if isinstance(table, dict) else None
    return found if isinstance(found, str) else ""


_MISSING = "is missing, and neither HOME nor a systemd or XDG folder says where it could be"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    if len(location) == 1:
        return [*Settings.model_fields, "endpoint"]
    model = _field_type([str(key) for key in location[:-1]])
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _problem(error: ErrorDetails, sources: Mapping[str, str]) -> Problem:
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        message = f"unknown key{meant(str(error['loc'][-1]), _known_keys(error['loc']))}"
    elif error["type"] == "missing":
        message = _MISSING
    else:
        said = words(error, Settings, TOML)
        message = said or error["msg"].removeprefix("Value error, ")
        shown = repr(error["input"])
        if said and error["type"] != "model_type" and key not in SECRET_KEYS:
            message += f", not {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '…'}"
    inside = error["type"] == "extra_forbidden"  # an unknown table is there for the keys that were set in it
    by = next((name for at, name in sources.items() if at == key or (inside and at.startswith(f"{key}."))), None)
    return key, message + (f" (set by ${by})" if by else "")


class Loaded(NamedTuple):
    """Everything the files say. ``masters``: of encryption at rest."""

    settings: Settings
    declarations: list[Declaration]
    masters: MasterKeys = MasterKeys()


def load(path: str | None, env: Mapping[str, str], euid: int) -> Settings:
    """Read the settings alone, as a client of the daemon does: declarations, and their secrets, aren't its business.

    Raises:
        ConfigError: with every problem at once (see ``load_all``).
    """
    file = find_file(path, env)
    settings, problems, _ = _load(file, env, euid)
    if problems or settings is None:
        raise ConfigError(sorted(problems))
    return settings


def origins(path: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """Where each key that isn't left at its default was set: {dotted key: the file, or ``$VARIABLE``}."""
    file = find_file(path, env)
    said = dict.fromkeys(_dotted(_read(file)[0]), file) if file else {}
    return said | {key: f"${variable}" for key, variable in _overlay({}, env)[0].items()}


def _dotted(table: Toml, prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def load_all(path: str | None, env: Mapping[str, str], euid: int) -> Loaded:
    """Read the settings and the declared endpoints.

    Args:
        path: the file named on the command line, or None (see ``find_file``).
        env: the environment; ``RINGBACK_SECTION__KEY`` sets a key, its value read as TOML, else as text.
        euid: who runs the daemon: root's default paths differ from a user's.

    Raises:
        ConfigError: with every problem at once.
    """
    file = find_file(path, env)
    settings, problems, merged = _load(file, env, euid)
    declarations, more = read_declarations(file, merged, env)
    masters, unread = read_master_keys(*_key_files(merged), env)
    problems += more + unread + _groups(merged)
    if problems or settings is None:
        lost = any(key == file for key, _ in problems)
        judging = _for_judging(merged, unread=lost) if lost or settings is None else settings
        raise ConfigError(sorted(problems), Loaded(judging, declarations))
    return Loaded(settings, declarations, masters)


def _for_judging(merged: Toml, *, unread: bool) -> Settings:
    """The settings that declarations are judged by, though others are wrong. Holds nothing else.

    A section that is wrong itself forbids nothing: no problem may be told that is only another one's shadow.
    """
    everywhere = Egress(allow_http=True, allow_networks=("0.0.0.0/0", "::/0"))
    egress, defaults = everywhere, EndpointDefaults()
    with contextlib.suppress(ValidationError):
        defaults = EndpointDefaults.model_validate(merged.get("endpoint_defaults", {}))
    with contextlib.suppress(ValidationError):
        egress = egress if unread else Egress.model_validate(merged.get("egress", {}))
    return Settings.model_construct(egress=egress, endpoint_defaults=defaults)


def _groups(merged: Toml) -> list[Problem]:
    """Groups for the sockets that this machine doesn't have."""
    problems = []
    for dotted in ("ingest.socket.group", "api.group"):
        group = _at(merged, dotted)
        if isinstance(group, str) and group and not _is_group(group):
            problems.append((dotted, f"there is no group {group[:MAX_SHOWN]!r} here"))
    return problems


def _is_group(group: str) -> bool:
    if group.isascii() and group.isdecimal():
        return len(group) <= len(str(MAX_GID)) and int(group) <= MAX_GID
    try:
        grp.getgrnam(group)
    except (KeyError, ValueError):  # unknown, or a NUL
        return False
    return True


def _key_files(merged: Toml) -> tuple[str, str]:
    """The files of the master keys; none if what stands there is a problem of its own."""
    key, old = (_at(merged, f"encryption.{name}") or "" for name in ("key_file", "old_key_file"))
    if isinstance(key, str) and isinstance(old, str) and all(path == "" or path.startswith("/") for path in (key, old)):
        return key, old
    return "", ""


def _load(file: str | None, env: Mapping[str, str], euid: int) -> tuple[Settings | None, list[Problem], Toml]:
    """The settings if there is no problem, every problem, and the tables they come from."""
    merged, problems = _read(file) if file else ({}, [])
    unread = bool(problems) and not merged  # then the keys' own problems would only be noise
    sources, misnamed = _overlay(merged, env)
    _default_paths(merged, env, euid)
    problems += misnamed + _cross_checks(merged)
    try:
        return Settings.model_validate({k: v for k, v in merged.items() if k != "endpoint"}), problems, merged
    except ValidationError as failed:
        problems += [] if unread else [_problem(error, sources) for error in failed.errors(include_url=False)]
        return None, problems, merged
