"""The client commands against a real API: what they print, and how they end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.api.parts import Parts

from ringback.cli import COMMANDS, main
from ringback.cli.client import CommandError
from ringback.core.ids import parse_delivery_id
from ringback.core.lifecycle import dead

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_add_shows_the_secret_once(cli) -> None:
    """The secret stands on stdout, the advice to keep it on stderr."""
    done = cli(
        "endpoint", "add", "https://a.example.com/", "--name", "crm", "-e", "a.*", "-e", "b", "--header", "X-A: 1"
    )
    assert done.exit_code == 0
    assert "whsec_" in done.stdout
    assert "…" not in done.stdout
    assert "endpoint show crm --reveal" in done.stderr
    shown = json.loads(cli("endpoint", "show", "crm", "--json").stdout)
    assert (shown["events"], shown["headers"]) == (["a.*", "b"], {"X-A": "1"})
    assert "whsec_…" in cli("endpoint", "show", "crm").stdout
    assert "whsec_…" not in cli("endpoint", "show", "crm", "--reveal").stdout


def test_add_takes_a_secret_from_stdin_or_none(cli) -> None:
    """A secret needn't stand on the command line; --unsigned makes none."""
    made = json.loads(
        cli("endpoint", "add", "https://a.example.com/", "--secret", "-", "--json", stdin=SECRET + "\n").stdout
    )
    assert made["secret"] == SECRET
    made = json.loads(cli("endpoint", "add", "https://a.example.com/", "--unsigned", "--json").stdout)
    assert made["secret"] == ""
    both = cli("endpoint", "add", "https://a.example.com/", "--unsigned", "--secret", SECRET)
    assert both.exit_code == 2


def test_add_warns_on_stderr(cli) -> None:
    """A name that doesn't resolve is no failure, but it is said."""
    done = cli("endpoint", "add", "https://nowhere.test/")
    assert done.exit_code == 0
    assert "warning: nowhere.test" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("endpoint", "add", "https://10.0.0.1/"), 5, "10.0.0.1"),
        (("endpoint", "add", "https://a.example.com/", "--dialect", "morse"), 5, "no dialect"),
        (("endpoint", "add", "https://a.example.com/", "--header", "nonsense"), 2, "NAME: VALUE"),
        (("endpoint", "show", "nobody"), 4, "nobody"),
        (("endpoint", "show", "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"), 4, "there is no endpoint"),
        (("endpoint", "pause", "nobody"), 4, "nobody"),
        (("endpoint", "remove", "nobody"), 4, "nobody"),
        (("endpoint", "list", "--status", "asleep"), 2, "asleep"),
        (("endpoint", "list", "--limit", "0"), 2, "limit"),
        (("delivery", "show", "x/../y"), 4, "no delivery"),
        (("delivery", "retry", "x"), 4, "no delivery"),
        (("delivery", "list", "--since", "yesterday"), 5, "ringback: since: must be a time as in RFC 3339"),
        (("event", "show", "nothing"), 4, "nothing"),
        (("nonsense",), 2, "nonsense"),
        (("emit",), 2, "TYPE"),
        (("emit", "a", "--ndjson", "x"), 2, "TYPE"),
        (("emit", "a", "--rate", "5"), 2, "--ndjson"),
        (("emit", "--ndjson", "/no/such/file"), 2, "can't be read"),
        (("emit", "--ndjson", "-", "--tenant", "x"), 2, "each line"),
        (("emit", "a", "--data", "{"), 2, "not JSON"),
        (("emit", "a", "--data", "[]"), 2, "object"),
        (("emit", "a", "--data", "@/no/such/file"), 2, "can't be read"),
        (("emit", "a b"), 5, "invalid_event"),
        (("emit", "ringback.test"), 5, "invalid_event"),
    ],
    ids=str,
)
def test_failures_end_with_their_exit_code_and_one_sentence(cli, args: tuple[str, ...], code: int, words: str) -> None:
    """Usage 2, not found 4, refused 5; the sentence is on stderr and no trace is shown."""
    done = cli(*args)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize(
    "args", [("endpoint", "list"), ("event", "list"), ("delivery", "list"), ("emit", "a"), ("endpoint", "pause", "x")]
)
def test_without_a_daemon_it_is_3(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Not reachable is told apart from refused, with the path that was tried."""
    done = CliRunner().invoke(main, [*args, "--socket", str(tmp_path / "none.sock")])
    assert done.exit_code == 3
    assert "none.sock" in done.stderr


def test_names_in_two_tenants_need_the_tenant(cli) -> None:
    """An ambiguous name is a usage error that says how to go on."""
    for tenant in ("a", "b"):
        cli("endpoint", "add", "https://a.example.com/", "--name", "crm", "--tenant", tenant)
    assert cli("endpoint", "show", "crm").exit_code == 2
    assert json.loads(cli("endpoint", "show", "crm", "--tenant", "b", "--json").stdout)["tenant"] == "b"


def test_a_handshake_and_a_rate_can_be_said_and_a_challenge_asked(cli) -> None:
    """--handshake makes it pending, challenge says what it is then; a rate that can't be read is a usage error."""
    made = cli("endpoint", "add", "https://a.example.com/", "--name", "crm", "--handshake", "graph",
               "--rate-limit", "100/60", "--json")  # fmt: skip
    told = json.loads(made.stdout)
    assert (told["status"], told["rate_limit"]) == ("pending", {"requests": 100, "per_s": 60.0})
    assert cli("endpoint", "challenge", "crm").stdout == "crm is pending\n"
    cli("endpoint", "add", "https://a.example.com/", "--name", "plain")
    assert cli("endpoint", "challenge", "plain").exit_code == 5
    assert cli("endpoint", "add", "https://a.example.com/", "--rate-limit", "fast").exit_code == 2


def test_pause_resume_remove(cli) -> None:
    """The verbs by name, each telling what is the case now."""
    cli("endpoint", "add", "https://a.example.com/", "--name", "crm")
    assert cli("endpoint", "pause", "crm").stdout == "crm is paused\n"
    assert json.loads(cli("endpoint", "resume", "crm", "--json").stdout)["status"] == "active"
    assert cli("endpoint", "remove", "crm").stdout == "crm removed\n"
    assert cli("endpoint", "list").stdout.startswith("No endpoints.")


def test_lists_are_whole_in_a_pipe(cli) -> None:
    """Into a pipe nothing is cut: ids and URLs can be grepped."""
    url = "https://a.example.com/" + "long/" * 60
    made = json.loads(cli("endpoint", "add", url, "--json").stdout)
    listed = cli("endpoint", "list").stdout
    assert made["id"] in listed
    assert url in listed


def test_markup_in_names_is_only_text(cli) -> None:
    """What an endpoint is described with must neither paint nor break the screen."""
    cli("endpoint", "add", "https://a.example.com/", "--name", "x", "--description", "[red]hi[/] \x1b[31m")
    shown = cli("endpoint", "show", "x").stdout
    assert "[red]hi[/]" in shown
    assert "\x1b" not in shown


def test_lists_follow_pages(cli, parts: Parts) -> None:
    """--limit beyond the API's page fetches as many pages as it takes."""
    parts.endpoint()
    lines = b"".join(b'{"type":"a","data":{}}\n' for _ in range(600))
    assert cli("emit", "--ndjson", "-", stdin=lines).exit_code == 0
    page = json.loads(cli("delivery", "list", "--limit", "550", "--json").stdout)
    assert len({one["id"] for one in page["data"]}) == 550
    assert page["next_cursor"] is not None
    assert len(json.loads(cli("event", "list", "--limit", "1000", "--json").stdout)["data"]) == 600


def test_emit_one(cli, parts: Parts) -> None:
    """The answer's facts on one line; a duplicate says so; --json prints the daemon's own answer."""
    parts.endpoint(tenant="acme")
    done = cli("emit", "stt.done", "--data", '{"n": 18446744073709551616}', "--id", "e1", "--tenant", "acme")
    assert (done.exit_code, done.stdout) == (0, "e1 accepted, 1 delivery\n")
    again = cli("emit", "stt.done", "--data", '{"n": 18446744073709551616}', "--id", "e1", "--tenant", "acme")
    assert "duplicate" in again.stdout
    conflict = cli("emit", "stt.done", "--id", "e1", "--tenant", "acme")
    assert conflict.exit_code == 5
    assert "conflict" in conflict.stderr
    told = json.loads(cli("emit", "x", "--json").stdout)
    assert told["ok"] is True
    assert told["deliveries"] == 0
    assert (
        json.loads(cli("event", "show", "e1", "--tenant", "acme", "--json").stdout)["data"]["n"] == 18446744073709551616
    )


def test_emit_reads_data_from_file_and_stdin(cli, tmp_path: Path) -> None:
    """@FILE and - take pretty-printed JSON; it reaches the daemon as one line with the same values."""
    text = '{\r\n  "a": 1,\n  "b": "\\n"\n}\n'
    (tmp_path / "data.json").write_text(text)
    assert cli("emit", "x", "--id", "f", "--data", f"@{tmp_path / 'data.json'}").exit_code == 0
    assert cli("emit", "x", "--id", "s", "--data", "-", stdin=text).exit_code == 0
    for event in ("f", "s"):
        assert json.loads(cli("event", "show", event, "--json").stdout)["data"] == {"a": 1, "b": "\n"}


def test_emit_a_file_counts_and_names_bad_lines(cli, tmp_path: Path) -> None:
    """Every line is counted once, rejections with their line numbers in the file, blank lines skipped but numbered."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(
        b'{"type":"a","data":{},"id":"1"}\n\n{bad\n{"type":"a","data":{},"id":"1"}\r\n{"type":"a b","data":{}}\n'
        b'{"type":"a","data":{},"id":"2"}'
    )
    done = cli("emit", "--ndjson", str(file))
    assert done.exit_code == 5
    assert done.stdout == "accepted 2, duplicate 1, rejected 2\n"
    assert [line.split(":")[:2] for line in done.stderr.splitlines()[:2]] == [
        ["line 3", " invalid_json"],
        ["line 5", " invalid_event"],
    ]
    assert "2 of 5 lines were rejected" in done.stderr


def test_emit_a_large_file(cli, parts: Parts, tmp_path: Path) -> None:
    """Far more lines than the window: each is answered, in JSON too."""
    parts.endpoint()
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"".join(b'{"type":"a","data":{"n":%d}}\n' % n for n in range(20_000)))
    done = cli("emit", "--ndjson", str(file), "--json")
    assert done.exit_code == 0
    counts = {"accepted": 20_000, "duplicate": 0, "rejected": 0, "deliveries": 20_000, "unanswered": 0}
    assert json.loads(done.stdout) == counts


def test_emit_at_a_rate(cli) -> None:
    """A rate slows it down, and nothing is lost over it."""
    done = cli("emit", "--ndjson", "-", "--rate", "200", stdin=b'{"type":"a","data":{}}\n' * 40)
    assert (done.exit_code, done.stdout) == (0, "accepted 40\n")


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a": "\xff"}'])
def test_emit_takes_utf_8_alone(tmp_path: Path, data: bytes) -> None:
    """Another encoding or a byte order mark is named before anything is sent; the daemon couldn't say which file."""
    (tmp_path / "data.json").write_bytes(data)
    done = CliRunner().invoke(main, ["emit", "a", "--data", f"@{tmp_path}/data.json", "--socket", "/nowhere"])
    assert done.exit_code == 2
    assert "--data is not JSON" in done.stderr


def test_deliveries(cli, parts: Parts) -> None:
    """List, show, retry and cancel, for people and as JSON."""
    cli("endpoint", "add", "https://a.example.com/", "--name", "crm")
    cli("emit", "stt.done", "--id", "e1")
    (one,) = json.loads(cli("delivery", "list", "--endpoint", "crm", "--event", "e1", "--json").stdout)["data"]
    seq, lane = parse_delivery_id(one["id"])[1:]
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=500, error="HTTP 500")
    listed = cli("delivery", "list", "--status", "dead").stdout
    assert one["id"] in listed
    assert "dead" in listed
    shown = cli("delivery", "show", one["id"]).stdout
    for words in ("attempt 1", "POST https://a.example.com/", "HTTP 500", "webhook-id", '"type":"stt.done"'):
        assert words in shown
    assert cli("delivery", "cancel", one["id"]).exit_code == 5
    assert cli("delivery", "retry", one["id"]).stdout == f"{one['id']} is sent now\n"
    assert json.loads(cli("delivery", "cancel", one["id"], "--json").stdout)["status"] == "cancelled"


def test_events(cli) -> None:
    """List and show, for people and as JSON."""
    cli("emit", "stt.done", "--id", "e1", "--data", '{"job": "42"}')
    cli("emit", "stt.failed", "--id", "e2")
    listed = cli("event", "list", "--type", "stt.done").stdout
    assert "e1" in listed
    assert "e2" not in listed
    assert '{"job": "42"}' in cli("event", "show", "e1").stdout


def test_the_config_names_the_sockets(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config wins over $RINGBACK_SOCKET, --socket over both."""
    config = tmp_path / "ringback.toml"
    config.write_text(f'[api]\nsocket = "{parts.control}"\n[ingest.socket]\npath = "{parts.events_path}"\n')
    monkeypatch.setenv("RINGBACK_SOCKET", str(tmp_path / "none.sock"))
    assert CliRunner().invoke(main, ["event", "list", "--config", str(config)]).exit_code == 0
    assert CliRunner().invoke(main, ["emit", "a", "--config", str(config)]).exit_code == 0
    assert CliRunner().invoke(main, ["emit", "a", "--socket", parts.events_path]).exit_code == 0
    assert CliRunner().invoke(main, ["event", "list"]).exit_code == 3
    assert CliRunner().invoke(main, ["event", "list", "--socket", parts.control]).exit_code == 0


def test_where_no_daemon_answers_the_way_to_one_is_told(tmp_path: Path) -> None:
    """The socket that was tried, and how one elsewhere is found: a second terminal without the export is common."""
    done = CliRunner(env={"RINGBACK_SOCKET": None}).invoke(main, ["status", "--socket", str(tmp_path / "none.sock")])
    assert done.exit_code == 3
    assert str(tmp_path / "none.sock") in done.stderr
    assert "$RINGBACK_CONFIG or --config" in done.stderr


def test_an_error_is_folded_between_words_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """There no line is too wide and no word is cut; elsewhere it is one line."""
    error = CommandError("no daemon answers on /run/ringback/control.sock: " + "is it running? " * 5)
    error.show()
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    error.show()
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) > 1
    assert max(map(len, shown)) <= 60
    assert " ".join(" ".join(shown).split()) == f"ringback: {error.message.strip()}"


def test_config_check_tells_every_problem(tmp_path: Path) -> None:
    """Each problem on a line of its own with its key, exit 78; run says the same."""
    config = tmp_path / "ringback.toml"
    config.write_text("[delivery]\nconcurrency = 0\ntimeout_s = 'x'\n[log]\nlevel = 'loud'\n")
    for args in (["config", "check"], ["run"]):
        done = CliRunner().invoke(main, [*args, "--config", str(config)])
        assert done.exit_code == 78
        keys = [line.split(":")[0] for line in done.stderr.splitlines()]
        assert keys == ["delivery.concurrency", "delivery.timeout_s", "log.level", "ringback"]


def test_config_show_can_be_read_back(tmp_path: Path) -> None:
    """What is in force, printed as TOML, loads to the same settings."""
    config = tmp_path / "ringback.toml"
    acme = "[tenant.acme.callbacks]\nenabled = false\n"
    config.write_text(f'[egress]\nallow_networks = ["127.0.0.0/8"]\n[delivery]\ntimeout_s = 2.5\n{acme}')
    shown = CliRunner().invoke(main, ["config", "show", "--config", str(config)])
    before = CliRunner().invoke(main, ["config", "show", "--config", str(config), "--json"])
    config.write_text(shown.stdout)
    again = CliRunner().invoke(main, ["config", "show", "--config", str(config), "--json"])
    assert again.stdout == before.stdout
    assert json.loads(again.stdout)["delivery"]["timeout_s"] == 2.5
    assert CliRunner().invoke(main, ["config", "check", "--config", str(config)]).exit_code == 0


def test_config_show_masks_the_proxy_s_password(tmp_path: Path) -> None:
    """Its user and place are shown, its password never."""
    config = tmp_path / "ringback.toml"
    config.write_text('[egress]\nproxy = "http://joe:hunter2@proxy:3128"\n')
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(main, ["config", "show", "--config", str(config), *options])
        assert "http://joe:****@proxy:3128" in shown.stdout
        assert "hunter2" not in shown.output


def test_every_command_explains_itself() -> None:
    """Each command's help loads and has an example to copy."""
    assert set(COMMANDS) <= set(main.list_commands(None))
    for name in COMMANDS:
        command = main.get_command(None, name)
        for sub in getattr(command, "commands", {"": command}).values():
            assert "ringback " in sub.help, (name, sub.name)
            assert CliRunner().invoke(sub, ["--help"]).exit_code == 0


def test_as_a_process(parts: Parts) -> None:
    """Python -m ringback is the command, its exit code too, and a closed pipe is no error."""
    env = {**os.environ, "RINGBACK_SOCKET": parts.control}
    command = [sys.executable, "-m", "ringback"]
    done = subprocess.run([*command, "emit", "a.b"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accepted" in done.stdout
    done = subprocess.run([*command, "event", "show", "none"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("ringback: ")


def test_client_commands_start_without_the_daemon_s_weight(parts: Parts) -> None:
    """Emitting imports neither the server nor the loop nor pydantic: it may run once per job."""
    code = (
        "import sys; from ringback.cli import main; main(['emit', 'a.b'], standalone_mode=False);"
        "print([name for name in ('aiohttp', 'uvloop', 'pydantic', 'rich', 'asyncio') if name in sys.modules])"
    )
    env = {**os.environ, "RINGBACK_SOCKET": parts.control}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_tables_fit_a_hundred_columns(cli, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 100 columns no line is longer, ids and statuses are whole, and no column is empty."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    parts.endpoint(name="a-rather-long-name", url="https://a.example.com/" + "long/" * 30, tenant="some-tenant")
    parts.event("stt.jobs.completed.with.a.rather.long.type.indeed", tenant="some-tenant")
    for kind, words in [
        ("endpoint", ("active", "https://")),
        ("event", ("some-t",)),
        ("delivery", ("pending", "stt.jobs")),
    ]:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", cli(kind, "list").stdout).splitlines()
        assert max(map(len, lines)) <= 100
        row = lines[1]
        assert len(row.split()[0]) == 36
        for word in words:
            assert word in row, row


def test_every_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples are never folded by click, so they must be short enough to be read, and copied, as they stand."""
    monkeypatch.setenv("COLUMNS", "80")

    def wide(command: click.Command, words: list[str]) -> list[str]:
        shown = CliRunner().invoke(main, [*words, "--help"]).stdout.splitlines()
        found = [line for line in shown if len(line) > 80]
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found += wide(command.get_command(context, name) or command, [*words, name])
        return found

    assert wide(main, []) == []
