"""``ringback endpoint ping|test|rotate-secret``."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from tests.api.parts import Parts

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
