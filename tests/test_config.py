"""Settings: precedence, every problem at once, and the shipped file equal to the model."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ringback.config import ConfigError, Settings, find_file, load

SHIPPED = Path(__file__).parent.parent / "config" / "ringback.toml"
HOME = {"HOME": "/home/ada"}


def problems(path: Path | None, env: dict[str, str] | None = None) -> dict[str, str]:
    """Load what must fail; {key: message}."""
    with pytest.raises(ConfigError) as caught:
        load(str(path) if path else None, {**HOME, **(env or {})}, 1000)
    return dict(caught.value.problems)


def write(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    file = folder / "ringback.toml"
    file.write_text(text)
    return file


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of the model with its field."""
    found = {}
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= leaves(field.annotation, f"{prefix}{key}.")
        else:
            found[prefix + key] = field
    return found


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a table with its value."""
    found = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return found


def uncommented() -> str:
    """The shipped file with every key uncommented."""
    return re.sub(r"(?m)^# (?=[a-z_]+ = )", "", SHIPPED.read_text())


def test_the_shipped_file_changes_nothing_as_it_is():
    """Using the shipped file unchanged must be the same as using none."""
    assert load(str(SHIPPED), HOME, 0) == load("/dev/null", HOME, 0)


def test_the_shipped_file_names_every_key_with_its_default():
    """Uncommented, the shipped file must hold exactly the model's keys, each with root's default."""
    shown = tomllib.loads(uncommented())
    assert set(flat(shown)) == set(leaves(Settings))
    assert flat(load("/dev/null", {}, 0).model_dump(mode="json")) == flat(shown)


def test_the_shipped_file_tells_every_range():
    """The comment above a number must tell the very minimum and maximum that are enforced."""
    text = SHIPPED.read_text()
    for dotted, field in leaves(Settings).items():
        bounds = {type(part).__name__: part for part in field.metadata}
        if "Ge" not in bounds:
            continue
        section = text[text.index(f"[{dotted.rsplit('.', 1)[0]}]") :]
        comment = section.split(f"\n# {dotted.split('.')[-1]} = ")[0].rsplit("\n\n", 1)[-1]
        assert f"{bounds['Ge'].ge}–{bounds['Le'].le}" in comment, dotted


def test_defaults_of_root():
    """Root's paths are the system's."""
    settings = load(None, {"RINGBACK_CONFIG": "/dev/null"}, 0)
    assert settings.daemon.state_dir == "/var/lib/ringback"
    assert settings.ingest.socket.path == "/run/ringback/events.sock"
    assert settings.api.socket == "/run/ringback/control.sock"
    assert settings.ingest.spool.path == "/var/spool/ringback"


def test_the_spool_follows_a_state_directory_that_was_moved(tmp_path):
    """Two daemons with state directories of their own don't meet in one spool unless told to; "" is off."""
    assert load(write(tmp_path, '[daemon]\nstate_dir = "/srv/rb"'), {}, 0).ingest.spool.path == "/srv/rb/spool"
    named = load(write(tmp_path, '[daemon]\nstate_dir = "/srv/rb"\n[ingest.spool]\npath = "/srv/in"'), {}, 0)
    assert named.ingest.spool.path == "/srv/in"
    assert load(write(tmp_path, '[ingest.spool]\npath = ""'), {}, 0).ingest.spool.path == ""
    assert load("/dev/null", HOME, 1000).ingest.spool.path.endswith("/.local/state/ringback/spool")
    assert load("/dev/null", {"STATE_DIRECTORY": "/srv/s"}, 1000).ingest.spool.path == "/var/spool/ringback"
    assert "ingest.spool.path" in problems(write(tmp_path, '[ingest.spool]\npath = "spool"'))
    shared = '[daemon]\nstate_dir = "/srv/rb"\n[ingest.spool]\npath = "/srv/rb"'
    assert "ingest.spool.path" in problems(write(tmp_path, shared))


def test_defaults_of_a_user():
    """A user's paths are the XDG folders, and the runtime folder lies in the state folder where XDG names none."""
    settings = load("/dev/null", {**HOME, "XDG_RUNTIME_DIR": "/run/user/1000"}, 1000)
    assert settings.daemon.state_dir == "/home/ada/.local/state/ringback"
    assert settings.api.socket == "/run/user/1000/ringback/control.sock"
    settings = load("/dev/null", {**HOME, "XDG_STATE_HOME": "/data"}, 1000)
    assert settings.daemon.state_dir == "/data/ringback"
    assert settings.ingest.socket.path == "/data/ringback/run/events.sock"


def test_the_runtime_folder_follows_a_state_dir_that_is_set(tmp_path):
    """With no runtime folder of the system's, the sockets go below the state directory in force, not its default."""
    settings = load(str(write(tmp_path, '[daemon]\nstate_dir = "/srv/rb"\n')), HOME, 1000)
    assert settings.api.socket == "/srv/rb/run/control.sock"


def test_systemd_folders_win_over_defaults_and_lose_to_the_file(tmp_path):
    """$STATE_DIRECTORY and $RUNTIME_DIRECTORY stand between the file and the defaults; the first of a list counts."""
    env = {"STATE_DIRECTORY": "/var/lib/rb:/var/lib/other", "RUNTIME_DIRECTORY": "/run/rb"}
    settings = load("/dev/null", env, 998)
    assert (settings.daemon.state_dir, settings.api.socket) == ("/var/lib/rb", "/run/rb/control.sock")
    settings = load(str(write(tmp_path, '[daemon]\nstate_dir = "/srv/rb"\n')), env, 998)
    assert settings.daemon.state_dir == "/srv/rb"


def test_an_environment_key_wins_over_the_file(tmp_path):
    """RINGBACK_SECTION__KEY beats the file, at every depth, and is read as TOML where it is TOML."""
    file = write(tmp_path, '[delivery]\ntimeout_s = 3\n[ingest.socket]\nmode = "0600"\n')
    env = {
        **HOME,
        "RINGBACK_DELIVERY__TIMEOUT_S": "10",
        "RINGBACK_INGEST__SOCKET__MODE": "0666",
        "RINGBACK_INGEST__SOCKET__GROUP": "1000",
        "RINGBACK_EGRESS__ALLOW_NETWORKS": '["127.0.0.0/8", "::1/128"]',
        "RINGBACK_EGRESS__ALLOW_HTTP": "true",
        "RINGBACK_LOG__LEVEL": "debug",
        "RINGBACK_DAEMON__STATE_DIR": '"/quoted/too"',
        "RINGBACK_SOCKET": "/not/a/key",
    }
    settings = load(str(file), env, 1000)
    assert settings.delivery.timeout_s == 10
    assert (settings.ingest.socket.mode, settings.ingest.socket.group) == ("0666", "1000")
    assert settings.egress.allow_networks == ("127.0.0.0/8", "::1/128")
    assert settings.egress.allow_http is True
    assert settings.log.level == "debug"
    assert settings.daemon.state_dir == "/quoted/too"


def test_settings_are_frozen():
    """Nobody may change a setting in place."""
    settings = load("/dev/null", HOME, 1000)
    with pytest.raises(ValueError, match="frozen"):
        settings.log.level = "debug"


def test_every_problem_is_told_at_once_with_its_key(tmp_path):
    """A configuration with many faults must name each of them in one go."""
    file = write(
        tmp_path,
        """
        colour = "red"
        log = 3
        [delivery]
        concurency = 5
        concurrency = 0
        timeout_s = "fast"
        nameservers = ["dns.example"]
        divert_to = "ftp://x/"
        [daemon]
        state_dir = "state"
        shutdown_grace_s = inf
        [ingest]
        max_event_bytes = 1.5
        [egress]
        allow_networks = ["10.0.0.1/8"]
        allow_http = 1
        [endpoint_defaults]
        dialect = "morse"
        """,
    )
    told = problems(file, {"RINGBACK_RETENTION__EVENTS_DAYS": "9999", "RINGBACK_NO__SUCH": "1"})
    assert set(told) == {
        "colour", "log", "no", "delivery.concurency", "delivery.concurrency", "delivery.timeout_s",
        "delivery.nameservers.0", "delivery.divert_to", "daemon.state_dir", "daemon.shutdown_grace_s",
        "ingest.max_event_bytes", "egress.allow_networks.0", "egress.allow_http", "retention.events_days",
        "endpoint_defaults.dialect",
    }  # fmt: skip
    assert told["delivery.concurrency"] == "must be a whole number from 1 to 16384, not 0"
    assert told["delivery.concurency"] == "unknown key; did you mean concurrency?"
    assert told["retention.events_days"] == (
        "must be a whole number from 1 to 3650, not 9999 (set by $RINGBACK_RETENTION__EVENTS_DAYS)"
    )
    assert told["log"] == "must be a table"


@pytest.mark.parametrize("value", ['"http://joe:hunter2@proxy"', '["http://joe:hunter2@proxy:3128"]', '"hunter2"'])
def test_a_wrong_proxy_is_told_without_its_password(tmp_path, value):
    """The problem names the key and the form, and repeats nothing of the value, whatever its type."""
    told = problems(write(tmp_path, f"[egress]\nproxy = {value}"))
    assert set(told) == {"egress.proxy"}
    assert "hunter2" not in told["egress.proxy"]


def test_a_proxy_s_password_is_in_no_representation():
    """Not even where a whole section ends up in a trace."""
    settings = load("/dev/null", {**HOME, "RINGBACK_EGRESS__PROXY": "http://joe:hunter2@proxy:3128"}, 1000)
    assert settings.egress.proxy == "http://joe:hunter2@proxy:3128"
    assert "hunter2" not in repr(settings)


def test_a_budget_is_none_or_one_that_leaves_room_to_work():
    """0 and 64 MiB are taken; a budget too small to hold anything is refused with the range."""
    for size in ("0", "67108864"):
        assert load("/dev/null", {**HOME, "RINGBACK_RETENTION__MAX_DATABASE_BYTES": size}, 1000)
    for size in ("67108863", "-1", "1e9", "70368744177665"):
        told = problems(None, {"RINGBACK_RETENTION__MAX_DATABASE_BYTES": size})
        assert set(told) == {"retention.max_database_bytes"}
    assert "from 67108864 to 70368744177664" in told["retention.max_database_bytes"]


def test_defaults_may_be_written_out(tmp_path):
    """The shipped file with every key uncommented must load."""
    assert load(str(write(tmp_path, uncommented())), HOME, 0) == load("/dev/null", HOME, 0)


def test_socket_paths_have_the_system_s_limit(tmp_path):
    """107 bytes fit, 108 are told with their number, counted in bytes."""
    for key in ("RINGBACK_API__SOCKET", "RINGBACK_INGEST__SOCKET__PATH"):
        assert load("/dev/null", {**HOME, key: "/" + "s" * 106}, 1000)
        told = problems(Path("/dev/null"), {key: "/" + "ü" * 54})
        assert "109 bytes" in next(iter(told.values()))


def test_the_two_sockets_must_differ():
    """One path can't be both sockets."""
    told = problems(None, {"RINGBACK_API__SOCKET": "/a.sock", "RINGBACK_INGEST__SOCKET__PATH": "/a.sock"})
    assert set(told) == {"api.socket"}


def test_the_body_budget_must_hold_one_event():
    """An event larger than the whole budget could never be sent."""
    told = problems(
        None, {"RINGBACK_INGEST__MAX_EVENT_BYTES": "2000000", "RINGBACK_DELIVERY__MAX_BODY_BYTES_IN_FLIGHT": "1500000"}
    )
    assert set(told) == {"delivery.max_body_bytes_in_flight"}


@pytest.mark.parametrize("mode", ["660", "0660"])
def test_modes_are_octal_text(mode):
    """Both usual spellings of a mode are taken."""
    assert load("/dev/null", {**HOME, "RINGBACK_API__MODE": mode}, 1000).api.mode_bits == 0o660


@pytest.mark.parametrize("mode", ["rw", "99", "0888", "01777", ""])
def test_bad_modes(mode):
    """What is no mode is told."""
    assert set(problems(None, {"RINGBACK_API__MODE": mode})) == {"api.mode"}


@pytest.mark.parametrize("server", ["127.0.0.1", "::1", "127.0.0.1:5353", "[::1]:5353"])
def test_name_servers(server):
    """Addresses of both families, with and without a port."""
    assert load("/dev/null", {**HOME, "RINGBACK_DELIVERY__NAMESERVERS": f'["{server}"]'}, 0).delivery.nameservers == (
        server,
    )


@pytest.mark.parametrize("server", ["", "dns", "127.0.0.1:0", "127.0.0.1:70000", "1.2.3:53", "[::1", "::1:x"])
def test_bad_name_servers(server):
    """A name server by name could never be looked up."""
    assert set(problems(None, {"RINGBACK_DELIVERY__NAMESERVERS": f'["{server}"]'})) == {"delivery.nameservers.0"}


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "//h/x",
        "http://u:p@h/",
        "http://h/#f",
        "http://h:99999/",
        "http://[::1/",
        "http://h/ x",
        "http://h/ü",
    ],
)
def test_bad_divert_urls(url):
    """A diversion that could never be sent is told at start, not at the first delivery."""
    assert set(problems(None, {"RINGBACK_DELIVERY__DIVERT_TO": url})) == {"delivery.divert_to"}


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path):
    """A missing, broken or foreign file is told by its path, without noise about the keys it might have had."""
    assert set(problems(tmp_path / "none.toml")) == {str(tmp_path / "none.toml")}
    told = problems(write(tmp_path, "[delivery\n"))
    assert "line 1" in told[str(tmp_path / "ringback.toml")]
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    assert "not TOML" in problems(tmp_path / "latin.toml")[str(tmp_path / "latin.toml")]


def test_no_home_and_no_folders_is_a_problem_not_a_guess():
    """Without any hint where state could live, the daemon must not invent a place."""
    with pytest.raises(ConfigError) as caught:
        load("/dev/null", {}, 1000)
    assert dict(caught.value.problems).keys() == {"daemon.state_dir", "ingest.socket.path", "api.socket"}


def test_which_file_is_read():
    """The command line's file wins over $RINGBACK_CONFIG."""
    assert find_file("/a", {"RINGBACK_CONFIG": "/b"}) == "/a"
    assert find_file(None, {"RINGBACK_CONFIG": "/b"}) == "/b"


def test_aliases_name_types_of_the_table(tmp_path):
    """Another name for a known type is taken; one that is no type, known already or the daemon's own is a problem."""
    good = load(write(tmp_path, '[aliases]\n"asr.done" = "stt.jobs.completed"'), HOME, 0)
    assert good.aliases == {"asr.done": "stt.jobs.completed"}
    for line in ('"a b" = "x"', '"stt.jobs.failed" = "x"', '"ringback.x" = "y"', '"x" = "ringback.test"', '"x" = 1'):
        told = problems(write(tmp_path, f"[aliases]\n{line}"))
        assert told
        assert all(key.startswith("aliases") for key in told)


@pytest.mark.parametrize(
    ("listen", "where"),
    [("", None), ("127.0.0.1:8650", ("127.0.0.1", 8650)), ("[::1]:0", ("::1", 0)), ("0.0.0.0:80", ("0.0.0.0", 80))],
)
def test_where_the_api_listens(tmp_path: Path, listen: str, where: tuple[str, int] | None) -> None:
    """An address and a port, IPv6 in brackets; empty is nowhere."""
    loaded = load(str(write(tmp_path, f'[api]\nlisten = "{listen}"')), HOME, 0)
    assert loaded.api.listen_at == where


@pytest.mark.parametrize(
    "listen", ["8650", ":8650", "localhost:8650", "127.0.0.1", "127.0.0.1:65536", "::1:8650", "[127.0.0.1]:80", "[::1]"]
)
def test_the_api_listens_on_addresses_alone(tmp_path: Path, listen: str) -> None:
    """A name, a lone port, or an IPv6 address without brackets is a problem of that key."""
    assert list(problems(write(tmp_path, f'[api]\nlisten = "{listen}"'))) == ["api.listen"]
