"""``/metrics``: every name there is, bounded labels, for the operator alone."""

import http.client

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.api.parts import TIMEOUT_S, Parts
from tests.harness.unix_http import UnixConnection

from ringback.core.lifecycle import succeeded

#: CONTRACT's names: family to its labels.
NAMES = {
    "events_accepted": (),
    "events_rejected": ("code",),
    "deliveries": ("outcome",),
    "attempts": ("outcome",),
    "attempt_seconds": ("le",),
    "accept_to_attempt_seconds": ("le",),
    "in_flight": (),
    "pending": (),
    "oldest_pending_seconds": (),
    "commit_seconds": ("le",),
    "commit_rows": ("le",),
    "database_bytes": (),
    "database_budget_bytes": (),
    "endpoints": ("status",),
    "endpoints_failing": (),
    "log_dropped": (),
}
MAX_SERIES = 150


def scrape(connection, token=None):
    """Status and text."""
    try:
        connection.request("GET", "/metrics", headers={} if token is None else {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def text(parts: Parts) -> str:
    """A scrape of a daemon that has done something."""
    parts.endpoint(tenant="PLANTED")
    parts.event(tenant="PLANTED", type="PLANTED.type")
    parts.call("POST", "/api/v1/events", {"type": "a b", "data": {}})
    status, kind, told = scrape(UnixConnection(parts.control, TIMEOUT_S))
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    return told


def test_every_name_is_there_with_its_labels(text: str) -> None:
    """The names and labels of the contract, and no others; the whole answer is one a scraper reads."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {f"ringback_{name}" for name in NAMES}
    for name, labels in NAMES.items():
        found = {label for sample in families[f"ringback_{name}"].samples for label in sample.labels}
        assert found == set(labels)
    assert "ringback_log_dropped_total 0.0" in text


def test_what_happened_is_counted(text: str) -> None:
    """One event in, one refused by its code, one delivery owed."""
    for line in (
        "ringback_events_accepted_total 1.0",
        'ringback_events_rejected_total{code="invalid_event"} 1.0',
        'ringback_endpoints{status="active"} 1.0',
        "ringback_pending 1.0",
    ):
        assert line in text.splitlines()


def test_no_name_of_anybodys_is_a_label(text: str) -> None:
    """Neither tenant nor type nor url; and the number of series doesn't grow with use."""
    assert "PLANTED" not in text
    assert "example.com" not in text
    assert len([line for line in text.splitlines() if not line.startswith("#")]) < MAX_SERIES


def test_the_operators_token_opens_it_over_tcp(parts: Parts) -> None:
    """A scraper on another host sends a token; a tenant's is 403, none is 401."""

    def over_tcp(token: str | None) -> int:
        return scrape(http.client.HTTPConnection("127.0.0.1", parts.port, timeout=TIMEOUT_S), token)[0]

    assert over_tcp(parts.token()) == 200
    assert over_tcp(parts.token("acme")) == 403
    assert over_tcp(None) == 401


def test_a_cancellation_is_an_end(parts: Parts) -> None:
    """By hand, once; a retry by hand ends nothing."""
    parts.endpoint()
    parts.event()
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    assert parts.call("POST", f"/api/v1/deliveries/{row['id']}/cancel")[0] == 202
    assert parts.call("POST", f"/api/v1/deliveries/{row['id']}/retry")[0] == 202
    counted = parts.deps.metrics.deliveries.counts
    assert {name: n for name, n in counted.items() if n} == {"cancelled": 1}
    parts.attempt(*parts.flights.owed[-1], succeeded())
