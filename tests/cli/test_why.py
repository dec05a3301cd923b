"""``ringback why``: by id and by name, for people and for programs."""

import json


def test_it_takes_whatever_people_have_at_hand(cli, parts) -> None:
    """An event's id, a delivery's, an endpoint's, an endpoint's name."""
    endpoint = parts.endpoint(name="crm")
    parts.endpoint(name="other", events=["x"])
    parts.event(id="e1", type="a.b")
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    shown = cli("why", "e1")
    assert shown.exit_code == 0
    assert f"{row['id']}  endpoint crm: is about to be sent" in shown.stdout
    assert "did not go to:\n    other: its filter (x) does not match a.b" in shown.stdout
    assert "next attempt:" in cli("why", row["id"]).stdout
    by_name = cli("why", "crm").stdout
    assert by_name == cli("why", endpoint["id"]).stdout
    assert "active; it is owed 1 delivery" in by_name
    assert json.loads(cli("why", "e1", "--json").stdout)["kind"] == "event"


def test_an_endpoint_that_is_stopped_is_told_as_such(cli, parts) -> None:
    """For people: what holds it back, and the command that ends it."""
    parts.endpoint(name="crm")
    cli("endpoint", "pause", "crm")
    shown = cli("why", "crm").stdout
    assert "what holds it back:\n    it is paused by hand; resume lets it go" in shown


def test_what_is_unknown_ends_with_4(cli) -> None:
    """The daemon's words, and the exit code for not found."""
    done = cli("why", "nothing")
    assert done.exit_code == 4
    assert "nothing" in done.stderr


def test_what_another_tenant_has_is_a_flag_away(cli, parts) -> None:
    """Who names no tenant is told how one is named; who does isn't."""
    parts.event(id="e1", type="a.b", tenant="acme")
    for command in (["why"], ["event", "show"], ["event", "erase", "--yes"]):
        done = cli(*command, "e1")
        assert (done.exit_code, "--tenant NAME" in done.stderr) == (4, True)
        done = cli(*command, "e2", "--tenant", "acme")
        assert (done.exit_code, "--tenant" in done.stderr) == (4, False)
