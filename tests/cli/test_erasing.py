"""``ringback event erase`` and ``ringback tenant``: against a running API, and against a directory without a daemon."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.api.parts import Parts
from tests.store.kit import NOW_MS, accept, opened

from ringback.cli import erasing, main
from ringback.cli.client import Api, CommandError, Unreachable
from ringback.store.erasure_reads import ErasureReads
from ringback.store.errors import QueryTimeout

Cli = Callable[..., Result]
WORD = "xyzzy-plugh"


def test_an_event_is_erased(cli: Cli, parts: Parts) -> None:
    """What is shown afterwards says so; of another tenant it takes the option; an unknown one is exit 4."""
    parts.event(id="e1", data={"said": WORD})
    parts.event(id="e1", tenant="acme", data={"kept": WORD})
    done = cli("event", "erase", "e1")
    assert (done.exit_code, done.stdout[:14]) == (0, "e1 is erased, ")
    shown = cli("event", "show", "e1").stdout
    assert "erased at" in shown
    assert WORD not in shown
    assert "(erased)" in cli("event", "list", "--tenant", "default").stdout
    assert "(erased)" not in cli("event", "list", "--tenant", "acme").stdout
    assert cli("event", "erase", "e1", "--tenant", "acme", "--yes").exit_code == 0
    assert json.loads(cli("event", "erase", "e1", "--json").stdout).keys() == {"id", "tenant", "erased_at"}
    assert cli("event", "erase", "e2").exit_code == 4


def test_an_erased_delivery_is_refused_a_retry(cli: Cli, parts: Parts) -> None:
    """Exit 5, in words."""
    parts.endpoint()
    parts.event(id="e1")
    cli("event", "erase", "e1")
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    told = cli("delivery", "retry", row["id"])
    assert told.exit_code == 5
    assert "erased" in told.stderr
    assert "erased_at" in cli("delivery", "show", row["id"]).stdout
    assert "erased" in cli("why", row["id"]).stdout


def test_a_tenant_is_erased(cli: Cli, parts: Parts) -> None:
    """The command returns when it is done, and says how much it was."""
    parts.endpoint(tenant="acme")
    for n in range(300):
        parts.event(id=f"e{n}", tenant="acme", data={"said": WORD})
    done = cli("tenant", "erase", "acme", "--yes")
    assert (done.exit_code, done.stdout) == (0, "tenant acme is erased: 1 endpoint, 300 events\n")
    shown = json.loads(cli("tenant", "show", "acme", "--json").stdout)
    gone = {"endpoints": 0, "tokens": 0, "owed": 0, "erasing": False, "left": 0}
    assert shown == {"tenant": "acme", "events": 300, **gone}
    sheet = cli("tenant", "show", "acme").stdout
    assert "endpoints" in sheet
    assert "left" not in sheet
    assert parts.call("GET", "/api/v1/events/e299?tenant=acme")[1]["data"] is None
    assert cli("tenant", "erase", "nobody").exit_code == 4
    assert cli("tenant", "show", "nobody").exit_code == 4


@pytest.mark.parametrize(("problem", "code"), [(Unreachable("it broke off"), 3), (CommandError("too much"), 1)])
def test_an_erasure_that_can_not_be_watched_goes_on(
    cli: Cli, parts: Parts, monkeypatch: pytest.MonkeyPatch, problem: CommandError, code: int
) -> None:
    """Whoever asked learns that it is begun, and where he sees its end: it has not failed."""
    parts.event(id="e1", tenant="acme")

    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(Api, "get", fail)
    told = cli("tenant", "erase", "acme", "--yes")
    assert told.exit_code == code
    assert f"{problem.message}; the erasure is begun" in told.stderr
    assert "ringback tenant show acme" in told.stderr


def test_on_a_terminal_it_is_asked_with_what_would_go(cli: Cli, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no leaves all as it was, a yes erases; who isn't known is said before anything is asked."""
    monkeypatch.setattr(erasing, "on_a_terminal", lambda: True)
    parts.endpoint(tenant="acme")
    parts.token("acme")
    for n in range(3):
        parts.event(id=f"e{n}", tenant="acme")
    told = cli("tenant", "erase", "acme", stdin="n\n")
    assert told.exit_code == 1
    assert (
        "Tenant acme has 1 endpoint, 1 token, 3 events; 3 deliveries are still owed. Erase everything?" in told.stderr
    )
    assert json.loads(cli("tenant", "show", "acme", "--json").stdout)["endpoints"] == 1
    assert cli("tenant", "erase", "acme", stdin="y\n").exit_code == 0
    told = cli("tenant", "erase", "nobody", stdin="y\n")
    assert (told.exit_code, told.stderr) == (4, "ringback: there is no tenant nobody\n")


def test_more_than_can_be_counted_is_asked_for_all_the_same(
    cli: Cli, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that takes too long keeps nobody from erasing; the question says so."""
    monkeypatch.setattr(erasing, "on_a_terminal", lambda: True)
    parts.event(id="e1", tenant="acme")

    async def too_long(*_: object) -> None:
        raise QueryTimeout("it took too long")

    with monkeypatch.context() as patch:
        patch.setattr(ErasureReads, "standing", too_long)
        told = cli("tenant", "erase", "acme", stdin="n\n")
    assert told.exit_code == 1
    assert "Erase everything of tenant acme? How much that is isn't known" in told.stderr


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


async def filled(tmp_path: Path) -> None:
    """A state directory with events of two tenants in it."""
    async with opened(tmp_path / "state") as store:
        for n in range(20):
            await store.run(accept(f"e{n}", 1, data=b'{"said":"%s"}' % WORD.encode()))
        await store.run(accept("e1", 2, tenant="default", data=b'{"kept":"%s"}' % WORD[::-1].encode(), at_ms=NOW_MS))


async def test_both_work_without_a_daemon(alone: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the directory's lock; the words are gone from its files when the command ends."""
    assert alone("tenant", "erase", "acme").exit_code == 3, "a directory that isn't there is not made"
    await filled(tmp_path)
    assert alone("event", "erase", "e2").exit_code == 4, "it is another tenant's"
    assert json.loads(alone("event", "erase", "e2", "--tenant", "acme", "--json").stdout)["id"] == "e2"
    assert alone("tenant", "erase", "nobody").exit_code == 4
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "on_a_terminal", lambda: True)
        told = alone("tenant", "erase", "acme")
        assert "Tenant acme has 0 endpoints, 0 tokens, 20 events;" in told.stderr
        assert alone("tenant", "erase", "nobody").exit_code == 4
    done = alone("tenant", "erase", "acme", "--json")
    assert json.loads(done.stdout) == {"tenant": "acme", "events": 20, "endpoints": 0}
    found = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir() if path.is_file())
    assert WORD.encode() not in found
    assert WORD[::-1].encode() in found


async def test_without_a_daemon_a_declared_endpoint_is_in_the_way_too(alone: Cli, tmp_path: Path) -> None:
    """Exit 5, and nothing is erased."""
    await filled(tmp_path)
    with (tmp_path / "ringback.toml").open("a") as config:
        config.write('[[endpoint]]\nname = "crm"\ntenant = "acme"\nurl = "https://a.example.com/"\n')
    told = alone("tenant", "erase", "acme")
    assert told.exit_code == 5
    assert "acme" in told.stderr
    assert WORD.encode() in (tmp_path / "state" / "ringback.db").read_bytes()


def test_a_directory_that_can_not_be_looked_at_is_said(tmp_path: Path) -> None:
    """In a sentence with exit 3, as where there is none: whoever may not use the socket may not enter it either."""
    config = tmp_path / "ringback.toml"
    config.write_text(f'api.socket = "{tmp_path}/c.sock"\ndaemon.state_dir = "{tmp_path}/{"x" * 300}"\n')
    for command in (["event", "erase", "e1"], ["tenant", "erase", "acme"]):
        told = CliRunner(env={"RINGBACK_SOCKET": None}).invoke(main, [*command, "--yes", "--config", str(config)])
        assert (told.exit_code, told.stderr.count("\n")) == (3, 1), told.output
        assert "as the daemon's account" in told.stderr


async def test_a_directory_in_use_is_refused(alone: Cli, tmp_path: Path) -> None:
    """Another process has the lock, and answers on no socket: exit 5."""
    async with opened(tmp_path / "state") as store:
        await store.run(accept("e1", 1))
        told = alone("event", "erase", "e1", "--tenant", "acme")
        assert told.exit_code == 5
        assert "in use" in told.stderr
