"""``ringback endpoint ping|test|rotate-secret``."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from tests.api.parts import Parts

from ringback.cli.status import size

Cli = Callable[..., Result]


@pytest.mark.parametrize("kind", ["ping", "test"])
def test_a_probe_says_where_to_look(cli: Cli, parts: Parts, kind: str) -> None:
    """The delivery it made, by name of the endpoint."""
    parts.endpoint(name="crm")
    told = json.loads(cli("endpoint", kind, "crm", "--json").stdout)
    assert parts.call("GET", f"/api/v1/deliveries/{told['delivery_id']}")[1]["type"] == "ringback.test"
    assert "ringback delivery show" in cli("endpoint", kind, "crm").stdout
    assert cli("endpoint", kind, "nobody").exit_code == 4


def test_a_new_secret_stands_alone_on_stdout(cli: Cli, parts: Parts) -> None:
    """So that it can be piped to where it is needed; how long the old one lives stands on stderr."""
    made = parts.endpoint(name="crm")
    told = cli("endpoint", "rotate-secret", "crm", "--grace-s", "60")
    new, old = parts.endpoints.get(made["id"]).secrets
    assert told.stdout == new.value + "\n"
    assert old.value == made["secret"]
    assert "until" in told.stderr
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
    told = cli("status")
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
