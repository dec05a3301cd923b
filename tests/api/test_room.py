"""A disk on which nothing can be written: who asks for a change is told, who only looks is answered."""

import pytest
from tests.api.parts import Parts

from ringback.api.routes import ROUTES
from ringback.store.writer import Writer

ID = "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"
WRITING = [(route.method, route.path) for route in ROUTES if route.needs_room]


@pytest.fixture
def _stuck(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "stuck", True)


@pytest.mark.usefixtures("_stuck")
@pytest.mark.parametrize(("method", "path"), WRITING)
def test_a_change_is_refused_and_not_made_later(parts: Parts, method: str, path: str) -> None:
    """507 by name at once, whatever it was: nobody waits, and nothing happens behind anybody's back."""
    status, told = parts.call(method, path.format(id=ID, name="acme"), {"url": "https://a.example/"})
    assert (status, told["code"]) == (507, "storage_full")
    assert "free some space" in told["detail"]
    assert parts.call("GET", "/api/v1/endpoints")[1]["data"] == []


@pytest.mark.usefixtures("_stuck")
def test_what_changes_nothing_is_answered(parts: Parts) -> None:
    """Looking, checking and copying work; an event is for the writer to judge, and a stranger learns nothing."""
    assert parts.call("GET", "/api/v1/status")[0] == 200
    assert parts.call("POST", "/api/v1/db/check")[0] == 200
    assert parts.call("POST", "/api/v1/events", {"type": "a", "data": {}})[0] == 200
    assert parts.call("POST", "/api/v1/nothing", {})[0] == 404


def test_the_calls_that_write_are_the_ones_meant() -> None:
    """A new call is refused on a full disk unless it says that it needn't be."""
    other = {(route.method, route.path) for route in ROUTES if route.method != "GET"} - set(WRITING)
    assert {path for _, path in other} == {
        "/api/v1/events",
        "/api/v1/handshakes/{token}",
        "/api/v1/doctor",
        "/api/v1/db/backup",
        "/api/v1/db/keyring",
        "/api/v1/db/check",
    }
