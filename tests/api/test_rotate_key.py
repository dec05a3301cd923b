"""A new data key for a tenant, over the API."""

from pathlib import Path

import structlog
from tests.api.parts import Parts
from tests.store.kit import MASTERS, rows

CALL = ("POST", "/api/v1/tenants/acme/rotate-key")


def test_what_comes_after_is_sealed_with_a_new_key_and_all_stays_readable(tmp_path: Path) -> None:
    """The old key goes on opening what it sealed; another tenant's is not touched."""
    with Parts(tmp_path, masters=MASTERS) as parts:
        parts.event(id="e1", tenant="acme", data={"said": "before"})
        parts.event(id="e1", tenant="beta")
        with structlog.testing.capture_logs() as lines:
            status, told = parts.call(*CALL)
            assert (status, told["tenant"], told["events"]) == (200, "acme", 1)
        assert [line["event"] for line in lines] == ["encryption.key_rotated"]
        parts.event(id="e2", tenant="acme", data={"said": "after"})
        parts.event(id="e2", tenant="beta")
        said = [parts.call("GET", f"/api/v1/events/{name}?tenant=acme")[1]["data"]["said"] for name in ("e1", "e2")]
        assert said == ["before", "after"]
    used = rows(tmp_path / "state" / "ringback.db", "SELECT event, key_no FROM payload ORDER BY event")
    numbers = [number for _, number in used]
    assert numbers[1] == numbers[3]
    assert len({numbers[0], numbers[1], numbers[2]}) == 3


def test_without_a_key_or_a_tenant_it_is_refused(tmp_path: Path) -> None:
    """By name; and a tenant's own token doesn't reach it."""
    with Parts(tmp_path / "a") as plain:
        assert plain.call(*CALL)[0] == 409
    with Parts(tmp_path / "b", masters=MASTERS) as sealed:
        assert sealed.call(*CALL)[0] == 404
        assert sealed.tcp(*CALL, token=sealed.token("acme"))[0] == 403
        assert sealed.call("GET", "/api/v1/status")[1]["encryption"] == {
            "on": True,
            "in_the_clear": {"endpoints": 0, "events": 0},
        }
