"""``ringback doctor``: for people and for programs, with a daemon and without."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.harness.hostile_ports import refusing_port

from ringback.cli import main


def test_an_endpoint_by_name_and_by_id(cli, parts) -> None:
    """The same lines for both; a problem ends with 1, and each that isn't ok has an arrow with what to do."""
    with refusing_port() as port:
        made = parts.endpoint(url=f"http://127.0.0.1:{port}/", name="crm")
        done = cli("doctor", "crm")
        assert cli("doctor", made["id"]).stdout == done.stdout
    assert done.exit_code == 1
    assert f"crm, http://127.0.0.1:{port}/" in done.stdout
    assert "  problem  tcp        cannot connect to" in done.stdout
    assert "-> nothing listens on that port" in done.stdout
    assert done.stdout.endswith("1 problem\n")


def test_a_url_for_programs(cli) -> None:
    """The API's JSON as it is."""
    done = cli("doctor", "http://10.0.0.1/?key=PLANTED", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["ok"], told["url"]) == (False, "http://10.0.0.1/")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nobody",), 4, "a URL begins with https://"),
        (("https://a.example.com/", "--send"), 2, "--send and --tenant are for an endpoint"),
        (("https://a.example.com/", "--tenant", "x"), 2, "--send and --tenant are for an endpoint"),
    ],
)
def test_what_it_refuses(cli, args, code, words) -> None:
    """By the exit codes every command has."""
    done = cli("doctor", *args)
    assert done.exit_code == code
    assert words in done.stderr


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration whose daemon doesn't run."""
    monkeypatch.delenv("RINGBACK_SOCKET", raising=False)
    file = tmp_path / "ringback.toml"
    file.write_text(
        f'[daemon]\nstate_dir = "{tmp_path}/s"\n[api]\nsocket = "{tmp_path}/c.sock"\n'
        f'[ingest.socket]\npath = "{tmp_path}/e.sock"\n[egress]\nallow_networks = ["127.0.0.0/8"]\n'
        '[delivery]\ndivert_to = "https://staging.example.com/in?key=PLANTED"\n'
    )
    return str(file)


def test_without_a_daemon_a_url_is_looked_at_from_here(tmp_path, monkeypatch) -> None:
    """By the rules of the configuration; an endpoint is the daemon's alone."""
    config = configured(tmp_path, monkeypatch)
    with refusing_port() as port:
        done = CliRunner().invoke(main, ["doctor", f"http://127.0.0.1:{port}/", "--config", config])
    assert done.exit_code == 1, done.output
    assert "Looked at from here" in done.stderr
    assert "connection refused" in done.stdout
    assert "sends everything to https://staging.example.com/in instead" in done.stdout
    forbidden = CliRunner().invoke(main, ["doctor", "https://10.0.0.1/", "--config", config])
    assert "10.0.0.1 is not a public address" in forbidden.stdout
    assert CliRunner().invoke(main, ["doctor", "crm", "--config", config]).exit_code == 3


def test_a_daemon_named_by_its_socket_is_never_worked_around(tmp_path, monkeypatch) -> None:
    """Whoever names a socket means that daemon's view."""
    monkeypatch.setenv("RINGBACK_SOCKET", str(tmp_path / "c.sock"))
    assert CliRunner().invoke(main, ["doctor", "https://10.0.0.1/"]).exit_code == 3
