"""``ringback endpoint ping|test|retry|rotate-secret``."""

import json
from collections.abc import Callable

import msgspec
import pytest
from click.testing import Result
from tests.api.parts import Parts

from ringback.cli.status import size
from ringback.core.lifecycle import retry_at
from ringback.core.model import EndpointStatus

Cli = Callable[..., Result]


@pytest.mark.parametrize("kind", ["ping", "test"])
def test_a_probe_says_where_to_look(cli: Cli, parts: Parts, kind: str) -> None:
    """The delivery it made, by name of the endpoint."""
    parts.endpoint(name="crm")
    told = json.loads(cli("endpoint", kind, "crm", "--json").stdout)
    assert parts.call("GET", f"/api/v1/deliveries/{told['delivery_id']}")[1]["type"] == "ringback.test"
    assert "ringback delivery show" in cli("endpoint", kind, "crm").stdout
    assert cli("endpoint", kind, "nobody").exit_code == 4


def test_a_backlog_is_retried_whole(cli: Cli, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks until there is no more, and says how many; nothing to do is said too, and is no failure."""
    monkeypatch.setattr("ringback.api.endpoint_verbs.RETRY_ROWS", 2)
    parts.endpoint(name="crm")
    for _ in range(5):
        parts.event()
    for seq, lane in parts.flights.owed:
        parts.attempt(seq, lane, retry_at(4_000_000_000_000), outcome="bad_status", status=503)
    assert cli("endpoint", "retry", "crm").stdout == "5 deliveries are due now\n"
    assert cli("endpoint", "retry", "crm").stdout == "nothing waits for a next try there\n"
    assert json.loads(cli("endpoint", "retry", "crm", "--json").stdout)["deliveries"] == 0
    parts.call("POST", f"/api/v1/endpoints/{parts.endpoints.by_lane(1).id}/pause")
    assert cli("endpoint", "retry", "crm").exit_code == 5


def test_a_retry_that_breaks_off_says_how_far_it_came(cli: Cli, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint was paused meanwhile: what is due already is told with the reason; the exit code is its own."""
    monkeypatch.setattr("ringback.api.endpoint_verbs.RETRY_ROWS", 2)
    made = parts.endpoint(name="crm")
    for _ in range(5):
        parts.event()
    for seq, lane in parts.flights.owed:
        parts.attempt(seq, lane, retry_at(4_000_000_000_000), outcome="bad_status", status=503)
    kick, calls = parts.flights.kick, []

    def pause_then(lane: int) -> None:
        kick(lane)
        calls.append(lane)
        if len(calls) == 2:
            parts.endpoints.install(
                msgspec.structs.replace(parts.endpoints.get(made["id"]), status=EndpointStatus.PAUSED)
            )

    monkeypatch.setattr(parts.flights, "kick", pause_then)
    told = cli("endpoint", "retry", "crm")
    assert told.exit_code == 5
    assert "4 deliveries are due now, the others not: the endpoint is paused by hand" in told.stderr


def test_a_new_secret_stands_alone_on_stdout(cli: Cli, parts: Parts) -> None:
    """So that it can be piped to where it is needed; how long the old one lives stands on stderr."""
    made = parts.endpoint(name="crm")
    told = cli("endpoint", "rotate-secret", "crm", "--grace-s", "60")
    new, old = parts.endpoints.get(made["id"]).secrets
    assert told.stdout == new.value + "\n"
    assert old.value == made["secret"]
    assert "until" in told.stderr
    assert told.stderr.endswith("ringback endpoint show crm --reveal\n")
    shown = " ".join(cli("endpoint", "show", "crm", "--reveal").stdout.split())
    assert f"previous_secrets {old.value}, signs until 20" in shown
    given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    told = cli("endpoint", "rotate-secret", "crm", "--grace-s", "0", "--secret", "-", stdin=given + "\n")
    assert told.exit_code == 0
    assert [secret.value for secret in parts.endpoints.get(made["id"]).secrets] == [given]
    assert "is gone" in told.stderr
    assert cli("endpoint", "rotate-secret", "crm", "--grace-s", "-1").exit_code == 5


def test_statistics_and_status_read_well(cli: Cli, parts: Parts) -> None:
    """One screen each for people, the API's JSON for programs."""
    made = parts.endpoint(name="crm")
    parts.event()
    told = cli("endpoint", "stats", "crm")
    assert made["id"] in told.stdout
    assert "1, the oldest accepted" in told.stdout
    assert json.loads(cli("endpoint", "stats", "crm", "--hours", "2", "--json").stdout)["queue"]["owed"] == 1
    assert cli("endpoint", "stats", "crm", "--hours", "0").exit_code == 5
    parts.deps.failing = lambda: 0
    assert "failing" not in cli("status").stdout
    parts.deps.failing = lambda: 2
    told = cli("status")
    assert "2; who: ringback top" in told.stdout
    assert told.exit_code == 0
    for word in ("ready", "1 active", "free"):
        assert word in told.stdout
    assert json.loads(cli("status", "--json").stdout)["endpoints"]["active"] == 1


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (52_428_800, "50 MiB"), (2**50, "1024 TiB")]
)
def test_sizes_for_people(count: int, shown: str) -> None:
    """Two digits are enough."""
    assert size(count) == shown


def test_what_is_named_changes_and_the_rest_stays(cli: Cli, parts: Parts) -> None:
    """Each setting alone, told by the endpoint's name; a reset one has its default again."""
    made = parts.endpoint(name="crm", events=["a.*"], concurrency=3, timeout_s=7)
    done = cli(
        "endpoint", "update", "crm", "--timeout-s", "60", "--header", "X-A: b", "--reset", "concurrency", "--json"
    )
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["timeout_s"], told["concurrency"], told["headers"]) == (60, None, {"X-A": "b"})
    assert (told["events"], told["url"], told["name"]) == (["a.*"], made["url"], "crm")
    told = json.loads(cli("endpoint", "update", "crm", "-e", "b.*", "--name", "billing", "--json").stdout)
    assert (told["events"], told["name"], told["timeout_s"]) == (["b.*"], "billing", 60)
    assert made["secret"] not in cli("endpoint", "update", "billing", "--description", "for bills").stdout


def test_a_new_secret_is_read_from_stdin(cli: Cli, parts: Parts) -> None:
    """So that it stands in no list of processes; it replaces the old one at once."""
    made, given = parts.endpoint(name="crm"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert cli("endpoint", "update", "crm", "--secret", "-", stdin=given + "\n").exit_code == 0
    assert [secret.value for secret in parts.endpoints.get(made["id"]).secrets] == [given]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("crm",), 2, "say what to change"),
        (("crm", "--rate-limit", "x"), 2, "N/SECONDS"),
        (("crm", "--unsigned", "--secret", "x"), 2, "exclude each other"),
        (("crm", "--reset", "dialect"), 5, "dialect"),
        (("crm", "--reset", "colour"), 5, "colour"),
        (("crm", "--url", "ftp://a.example.com/"), 5, "url"),
        (("nobody", "--timeout-s", "9"), 4, "nobody"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    cli: Cli, parts: Parts, args: tuple[str, ...], code: int, words: str
) -> None:
    """By name, and nothing is changed."""
    made = parts.endpoint(name="crm")
    done = cli("endpoint", "update", *args)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}")[1]["revision"] == made["revision"]
