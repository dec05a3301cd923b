"""``ringback token`` against a running API, and against a directory without a daemon."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.api.parts import Parts

from ringback.cli import main

Cli = Callable[..., Result]


def test_a_token_is_made_listed_and_removed(cli: Cli, parts: Parts) -> None:
    """It opens the TCP listener until it is removed; the list doesn't show it."""
    made = json.loads(cli("token", "add", "--tenant", "acme", "--json").stdout)
    assert made.keys() == {"id", "token", "tenant"}
    assert parts.tcp("GET", "/api/v1/events", token=made["token"])[0] == 200
    listed = cli("token", "list")
    assert made["id"] in listed.stdout
    assert made["token"] not in listed.stdout
    assert cli("token", "remove", made["id"]).exit_code == 0
    assert parts.tcp("GET", "/api/v1/events", token=made["token"])[0] == 401
    assert cli("token", "remove", made["id"]).exit_code == 4


def test_people_get_the_token_alone_on_stdout(cli: Cli, parts: Parts) -> None:
    """So that it can be piped; what it is stands on stderr."""
    told = cli("token", "add")
    assert parts.tcp("GET", "/api/v1/tokens", token=told.stdout.strip())[0] == 403
    assert "the operator's" in told.stderr


def test_a_bad_tenant_is_refused(cli: Cli) -> None:
    """Exit 5 and the reason."""
    told = cli("token", "add", "--tenant", "a b")
    assert told.exit_code == 5
    assert "tenant" in told.stderr


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a configuration whose daemon doesn't run."""
    config = tmp_path / "ringback.toml"
    config.write_text(
        f'daemon.state_dir = "{tmp_path}/state"\napi.socket = "{tmp_path}/c.sock"\n'
        f'ingest.socket.path = "{tmp_path}/e.sock"\n'
    )
    monkeypatch.delenv("RINGBACK_SOCKET", raising=False)
    return lambda *args: CliRunner().invoke(main, [*args, "--config", str(config)])


def test_tokens_can_be_made_before_the_daemon_runs(alone: Cli, tmp_path: Path) -> None:
    """The directory is changed under its lock; the same verbs, the same answers."""
    made = json.loads(alone("token", "add", "--tenant", "acme", "--json").stdout)
    assert made.keys() == {"id", "token", "tenant"}
    listed = json.loads(alone("token", "list", "--json").stdout)["data"]
    assert [(row["id"], row["tenant"]) for row in listed] == [(made["id"], "acme")]
    database = (tmp_path / "state" / "ringback.db").read_bytes()
    assert made["token"].encode() not in database
    assert alone("token", "add", "--tenant", "a b").exit_code == 5
    assert alone("token", "remove", made["id"]).exit_code == 0
    assert alone("token", "remove", made["id"]).exit_code == 4
    assert json.loads(alone("token", "list", "--json").stdout)["data"] == []


def test_a_daemon_named_by_its_socket_is_not_worked_around(alone: Cli, tmp_path: Path) -> None:
    """Exit 3, and nothing is made."""
    told = alone("token", "add", "--socket", str(tmp_path / "c.sock"))
    assert told.exit_code == 3
    assert not (tmp_path / "state").exists()
