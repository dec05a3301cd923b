"""``ringback top``: one look, and the rates between two."""

import json
from io import StringIO

import pytest
from rich.console import Console
from tests.api.parts import Parts

from ringback.cli import tables
from ringback.cli.top import _screen, _status, headline
from ringback.service.lane_facts import LaneFacts


def test_one_look(cli, parts: Parts) -> None:
    """Each lane a line, by its endpoint's name; a lane whose endpoint is gone is shown too."""
    parts.endpoint(name="crm")
    lane = parts.deps.endpoints.get(parts.call("GET", "/api/v1/endpoints")[1]["data"][0]["id"]).lane
    parts.deps.busiest = lambda limit: [(lane, LaneFacts(in_flight=3, failures=5, failing=True)), (999, LaneFacts())][
        :limit
    ]
    shown = cli("top")
    assert shown.exit_code == 0
    assert "since the start: 0 events" in shown.stdout
    assert next(line for line in shown.stdout.splitlines() if line.startswith(" crm")).split()[2:6] == [
        "failing",
        "3",
        "1",
        "0",
    ]
    told = json.loads(cli("top", "--json", "--limit", "1").stdout)
    assert [(one["name"], one["in_flight"]) for one in told["data"]] == [("crm", 3)]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "active"),
        ({"rate_wait_s": 60.0}, "active"),
        ({"rate_wait_s": 60.0, "waiting": 2}, "rate limit"),
        ({"rate_wait_s": 60.0, "waiting": 2, "failing": True}, "failing"),
        ({"failing": True, "status": "paused"}, "paused"),
    ],
)
def test_the_status_says_what_keeps_an_endpoint_back(facts: dict[str, object], status: str) -> None:
    """Its own if it isn't active; else that it fails, or waits for its rate limit with something to send."""
    lane = {"status": "active", "failing": False, "waiting": 0, "rate_wait_s": 0.0} | facts
    assert _status(lane) == status


def test_rates_are_differences() -> None:
    """Of two looks, by the seconds between them."""
    before = {"attempts": {"delivered": 10, "timeout": 5}, "events_accepted": 7}
    now = {"attempts": {"delivered": 30, "timeout": 5, "reset": 2}, "events_accepted": 17}
    assert headline(now, before, 2.0) == "5.0 events/s, 11.0 attempts/s, 10.0 delivered/s"


def test_a_restart_between_two_looks_makes_no_rates_below_nothing() -> None:
    """The counts began anew: they are told as such."""
    before = {"attempts": {"delivered": 10}, "events_accepted": 7}
    now = {"attempts": {"delivered": 2}, "events_accepted": 1}
    assert headline(now, before, 2.0) == "since the start: 1 events, 2 attempts, 2 delivered"


def test_a_narrow_terminal_keeps_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns the endpoint's name is cut, and status, numbers and the time of the next retry are whole."""
    narrow = Console(width=80, file=StringIO())
    monkeypatch.setattr(tables, "console", lambda: narrow)
    lane = {"name": "a-name-that-is-much-longer-than-there-is-room-for", "endpoint_id": "1", "tenant": "default"}
    lane |= {"status": "active", "failing": True, "in_flight": 512, "window": 1024, "waiting": 1000, "failures": 1234}
    now = {"attempts": {}, "events_accepted": 0, "data": [lane | {"next_due_at": "2026-11-21T20:12:17.000Z"}]}
    narrow.print(_screen(now, None, 2.0))
    shown = narrow.file.getvalue().splitlines()[-1].split()
    assert shown[0].endswith("…")
    assert shown[1:] == ["failing", "512", "1024", "1000", "1234", "11-21", "20:12:17Z"]
