"""The calls under ``/api/v1/db``: who may make them, what they answer, and that one works at a time."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest
from tests.api.parts import Parts
from tests.api.test_openapi import SCHEMAS, faults
from tests.harness.unix_http import UnixConnection

from ringback.service import maintenance
from ringback.store.backup import copy_alone, look
from ringback.store.keyring import KEYRING_NAME, Keyring, Masters
from ringback.store.restore import restore

CALLS = [
    ("POST", "/api/v1/db/backup"),
    ("POST", "/api/v1/db/keyring"),
    ("POST", "/api/v1/db/check"),
    ("POST", "/api/v1/db/prune"),
    ("GET", "/api/v1/db/restored"),
    ("POST", "/api/v1/db/restored/resume"),
]


def download(parts: Parts, what: str = "backup") -> tuple[int, http.client.HTTPMessage, bytes]:
    """A copy as bytes."""
    connection = UnixConnection(parts.control, 20)
    try:
        connection.request("POST", f"/api/v1/db/{what}")
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_they_are_the_operators_on_the_control_socket(parts: Parts, method: str, path: str) -> None:
    """No token opens them over TCP, and none of a tenant's opens them at all."""
    assert parts.tcp(method, path, token=parts.token())[0] == 403
    assert parts.tcp(method, path, token=parts.token("acme"))[0] == 403
    assert parts.call_as(parts.token("acme"), method, path)[0] == 403


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_what_they_do_not_take_is_refused(parts: Parts, method: str, path: str) -> None:
    """Unknown parameters, and a body where none belongs."""
    assert parts.call(method, f"{path}?x=1")[0] == 422
    if method == "POST":
        assert parts.call(method, path, {"x": 1})[0] in (400, 422)


def test_a_backup_comes_as_bytes_and_leaves_nothing_behind(parts: Parts, tmp_path: Path) -> None:
    """As many as announced; a database with what was accepted."""
    parts.event(id="e1")
    status, headers, raw = download(parts)
    assert (status, headers["Content-Type"]) == (200, "application/vnd.sqlite3")
    assert int(headers["Content-Length"]) == len(raw)
    (tmp_path / "copy").write_bytes(raw)
    assert look(tmp_path / "copy").counts["events"] == 1
    assert not list((parts.folder / "state").glob("*.part"))


def test_a_copy_of_the_keyring_comes_as_bytes(parts: Parts, tmp_path: Path) -> None:
    """It opens as the keyring of the same database."""
    status, headers, raw = download(parts, "keyring")
    assert (status, headers["Content-Type"]) == (200, "application/vnd.sqlite3")
    (tmp_path / "copy").write_bytes(raw)
    theirs = Keyring(parts.folder / "state" / KEYRING_NAME, Masters(), lambda: 0)
    with closing(Keyring(tmp_path / "copy", Masters(), lambda: 0)) as ring, closing(theirs) as other:
        assert ring.id == other.id


def test_a_backup_that_could_fill_the_disk_is_refused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, before anything is written."""
    monkeypatch.setattr(maintenance, "SPARE_BYTES", 1 << 60)
    status, told = parts.call("POST", "/api/v1/db/backup")
    assert (status, told["code"]) == (507, "storage_full")


def test_one_backup_or_check_at_a_time(parts: Parts) -> None:
    """A second is told to wait; after the end of the first there is room again."""

    async def during() -> tuple[object, object]:
        async with parts.deps.maintenance.backup() as first:
            return first, await parts.deps.maintenance.check()

    first, second = parts.run(during())
    assert isinstance(first, tuple)
    assert second.code == "conflict"  # type: ignore[attr-defined]
    assert parts.call("POST", "/api/v1/db/check")[1]["ok"]


def test_a_stop_calls_off_what_runs(parts: Parts) -> None:
    """And nothing begins any more."""
    parts.run(parts.deps.maintenance.stop())
    assert parts.call("POST", "/api/v1/db/backup")[0] == 503
    assert parts.call("POST", "/api/v1/db/check")[0] == 503


def test_a_check_tells_what_the_document_says(parts: Parts) -> None:
    """Sound, counted, and nothing undescribed."""
    parts.event(id="e1")
    status, told = parts.call("POST", "/api/v1/db/check")
    assert status == 200
    assert faults(SCHEMAS["DbChecked"], told) == []
    assert (told["ok"], told["counts"]["events"], told["lost_events"]) == (True, 1, 0)


def test_pruning_takes_days_or_the_settings(parts: Parts) -> None:
    """The settings keep a fresh event, nought days don't; what is wrong is named."""
    parts.event(id="e1")
    assert parts.call("POST", "/api/v1/db/prune")[1] == {"events": 0, "attempts": 0, "more": False}
    gone = 0
    for _ in range(5):
        status, told = parts.call("POST", "/api/v1/db/prune", {"events_days": 0})
        assert (status, faults(SCHEMAS["DbPruned"], told)) == (200, [])
        gone += told["events"]
    assert gone == 1
    for body in ({"days": 1}, {"events_days": -1}, {"events_days": True}, {"events_days": 1.5}, [1]):
        status, told = parts.call("POST", "/api/v1/db/prune", body)
        assert (status, told["code"]) == (422, "invalid_request")


def test_nothing_is_held_where_nothing_was_restored(parts: Parts) -> None:
    """The answer says so, and resuming changes nothing that was paused by hand."""
    made = parts.endpoint()
    parts.call("POST", f"/api/v1/endpoints/{made['id']}/pause")
    status, told = parts.call("GET", "/api/v1/db/restored")
    assert (status, faults(SCHEMAS["DbRestored"], told)) == (200, [])
    assert (told["restored_at"], told["owed"]) == (None, 0)
    assert parts.call("POST", "/api/v1/db/restored/resume") == (202, {"resumed": 0})
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}")[1]["status"] == "paused"


def test_what_a_restore_paused_is_held_until_it_is_moved(tmp_path: Path) -> None:
    """One by one or all at once; what was paused by hand before, or after, stays so."""
    (tmp_path / "old").mkdir()
    with Parts(tmp_path / "old") as old:
        by_name = {name: old.endpoint(name=name)["id"] for name in ("a", "b", "c", "d")}
        old.call("POST", f"/api/v1/endpoints/{by_name['d']}/pause")
        old.event(id="e1")
        old.event(id="e2")
    copy_alone(tmp_path / "old" / "state", tmp_path / "backup", 5)
    (tmp_path / "new").mkdir()
    restore(tmp_path / "backup", tmp_path / "new" / "state", 7)
    with Parts(tmp_path / "new") as new:
        told = new.call("GET", "/api/v1/db/restored")[1]
        assert faults(SCHEMAS["DbRestored"], told) == []
        assert (told["taken_at"], told["restored_at"]) == ("1970-01-01T00:00:00.005Z", "1970-01-01T00:00:00.007Z")
        assert (told["endpoints"], told["owed"]) == (3, 6)
        assert sorted(one["name"] for one in told["owed_to"]) == ["a", "b", "c"]
        assert new.held_callbacks == [True]
        new.call("POST", f"/api/v1/endpoints/{by_name['a']}/resume")
        new.call("POST", f"/api/v1/endpoints/{by_name['b']}/resume")
        new.call("POST", f"/api/v1/endpoints/{by_name['b']}/pause")
    with Parts(tmp_path / "new") as new:
        told = new.call("GET", "/api/v1/db/restored")[1]
        assert [one["name"] for one in told["owed_to"]] == ["c"]
        assert new.call("POST", "/api/v1/db/restored/resume") == (202, {"resumed": 1})
        assert new.held_callbacks == [True, False]
        found = {name: new.call("GET", f"/api/v1/endpoints/{id_}")[1]["status"] for name, id_ in by_name.items()}
        assert found == {"a": "active", "b": "paused", "c": "active", "d": "paused"}
    with Parts(tmp_path / "new") as new:
        assert new.call("GET", "/api/v1/db/restored")[1]["restored_at"] is None
        assert new.held_callbacks == []
