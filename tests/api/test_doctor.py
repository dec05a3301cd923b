"""``/api/v1/doctor``: what is gathered of an endpoint, the test event, and what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.api.parts import Parts
from tests.harness.hostile_ports import refusing_port
from tests.harness.waiting import wait_until

from ringback.core.lifecycle import retry_at, succeeded

PATH = "/api/v1/doctor"


def steps(told):
    """Level by step."""
    return {step["step"]: step["level"] for step in told["steps"]}


def test_a_url_and_an_endpoint(parts: Parts) -> None:
    """Both tell the way; the endpoint's has its own facts first, and neither a query nor a secret."""
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}/hook?key=PLANTED"
        made = parts.endpoint(url=url, name="crm", headers={"X-Gateway": "PLANTED"})
        status, of_url = parts.call("POST", PATH, {"url": url})
        also, of_endpoint = parts.call("POST", PATH, {"endpoint": made["id"]})
    assert (status, also) == (200, 200)
    assert steps(of_url) == {"url": "ok", "egress": "ok", "tcp": "problem"}
    assert (of_url["ok"], of_url["url"], of_url["endpoint_id"]) == (False, f"http://127.0.0.1:{port}/hook", None)
    assert list(steps(of_endpoint))[:2] == ["endpoint", "filter"]
    assert steps(of_endpoint)["tcp"] == "problem"
    assert (of_endpoint["name"], of_endpoint["endpoint_id"]) == ("crm", made["id"])
    for told in (of_url, of_endpoint):
        assert "PLANTED" not in json.dumps(told)
        assert made["secret"] not in json.dumps(told)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "either a url or an endpoint"),
        ({"url": "https://a.example.com/", "endpoint": "x"}, 422, "either a url or an endpoint"),
        ({"url": "https://a.example.com/", "send": True}, 422, "only an endpoint"),
        ({"url": 7}, 422, "url"),
        ({"url": "https://a.example.com/", "method": "POST"}, 422, "method"),
        ([], 422, "object"),
        ({"endpoint": "nobody"}, 404, "nobody"),
    ],
)
def test_what_it_refuses(parts: Parts, body, status, words) -> None:
    """Each by its own words."""
    found, told = parts.call("POST", PATH, body)
    assert found == status, told
    assert words in told["detail"]


def test_it_is_the_operators(parts: Parts) -> None:
    """A tenant must not have the daemon connect to where it likes."""
    body = {"url": "http://127.0.0.9/"}
    assert parts.tcp("POST", PATH, body, token=parts.token("acme"))[0] == 403
    assert parts.tcp("POST", PATH, body, token=parts.token(None))[0] == 200


def finish(parts: Parts, made: dict[str, str], transition, **attempt) -> dict[str, object]:
    """Ask for a test event, and make its one attempt come to this meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(parts.call, "POST", PATH, {"endpoint": made["id"], "send": True})
        wait_until(lambda: parts.flights.owed, 60, lambda: "no test event was owed")
        parts.attempt(*parts.flights.owed[-1], transition, **attempt)
        status, told = asked.result(60)
    assert status == 200
    return next(step for step in told["steps"] if step["step"] == "test")


def test_a_test_event_is_waited_for(parts: Parts) -> None:
    """What its first attempt came to is the last step."""
    with refusing_port() as port:
        made = parts.endpoint(url=f"http://127.0.0.1:{port}/")
        step = finish(parts, made, succeeded())
    assert (step["level"], step["do"]) == ("ok", None)
    assert "the receiver answered 200" in step["text"]


def test_a_test_event_that_fails_is_a_problem(parts: Parts) -> None:
    """With the receiver's answer, and where to read on."""
    with refusing_port() as port:
        made = parts.endpoint(url=f"http://127.0.0.1:{port}/")
        due = parts.deps.clock.now_ms() + 600_000
        step = finish(parts, made, retry_at(due), outcome="bad_status", status=503)
    assert step["level"] == "problem"
    assert "the receiver answered 503" in step["text"]
    assert "ringback delivery show" in step["do"]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/api/v1/endpoints/{}/pause", "its endpoint is paused by hand"),
        ("DELETE", "/api/v1/endpoints/{}", "its endpoint was deleted"),
        ("POST", "/api/v1/deliveries/{}/cancel", "it was cancelled"),
    ],
)
def test_a_test_event_that_nobody_will_send_is_waited_for_no_longer(
    parts: Parts, method: str, path: str, said: str
) -> None:
    """Its endpoint stops, or it is called off, while its first attempt is waited for: half a minute would be wasted."""
    with refusing_port() as port, ThreadPoolExecutor(1) as pool:
        made = parts.endpoint(url=f"http://127.0.0.1:{port}/", timeout_s=600)
        asked = pool.submit(parts.call, "POST", PATH, {"endpoint": made["id"], "send": True})
        wait_until(lambda: parts.flights.owed, 60, lambda: "no test event was owed")
        one = parts.call("GET", "/api/v1/deliveries")[1]["data"][0]["id"]
        assert parts.call(method, path.format(one if "deliveries" in path else made["id"]))[0] in (202, 204)
        told = asked.result(60)[1]
    step = told["steps"][-1]
    assert (step["step"], step["level"]) == ("test", "problem")
    assert said in step["text"]


@pytest.mark.parametrize("deleted", [True, False])
def test_an_endpoint_that_changes_while_the_way_is_walked(parts: Parts, deleted: bool, monkeypatch) -> None:
    """It is told as it is after that: gone, or paused in all that is said of it."""
    made = parts.endpoint(url="http://127.0.0.1:9/")
    walk = parts.deps.doctor.walk

    async def walk_slowly(asked: object) -> object:
        change = parts.endpoints.delete if deleted else parts.endpoints.pause
        await change(made["id"])
        return await walk(asked)

    monkeypatch.setattr(parts.deps.doctor, "walk", walk_slowly)
    status, told = parts.call("POST", PATH, {"endpoint": made["id"], "send": True})
    if deleted:
        assert (status, told["code"]) == (404, "not_found")
    else:
        assert steps(told)["endpoint"] == "problem"
        assert steps(told)["test"] == "warning"


def test_no_test_event_is_left_with_a_paused_endpoint(parts: Parts) -> None:
    """It would only be held."""
    made = parts.endpoint(url="http://127.0.0.1:9/")
    parts.call("POST", f"/api/v1/endpoints/{made['id']}/pause")
    told = parts.call("POST", PATH, {"endpoint": made["id"], "send": True})[1]
    assert steps(told)["test"] == "warning"
    assert parts.call("GET", "/api/v1/deliveries")[1]["data"] == []


def test_what_is_diverted_is_looked_at_where_it_goes(tmp_path: Path) -> None:
    """A staging daemon doesn't touch the receiver of an endpoint; the endpoint's own headers stay here, too."""
    with refusing_port() as port, Parts(tmp_path, divert_to=f"http://127.0.0.1:{port}/in?key=PLANTED") as parts:
        made = parts.endpoint(url="https://a.example.com/")
        told = parts.call("POST", PATH, {"endpoint": made["id"]})[1]
        of_url = parts.call("POST", PATH, {"url": f"http://127.0.0.1:{port}/x"})[1]
    assert told["url"] == f"http://127.0.0.1:{port}/in"
    assert steps(told)["divert"] == steps(of_url)["divert"] == "warning"
    assert of_url["url"].endswith("/x")
    assert "PLANTED" not in json.dumps(told)


def test_an_endpoint_that_is_being_asked_to_prove_itself(parts: Parts) -> None:
    """How far the handshake has come stands in the endpoint, in why and here."""
    made = parts.endpoint(url="http://127.0.0.1:9/", handshake="graph")
    parts.event(id="e1")
    shown = parts.call("GET", f"/api/v1/endpoints/{made['id']}")[1]
    assert shown["status"] in {"pending", "failed"}
    told = parts.call("POST", PATH, {"endpoint": made["id"]})[1]
    assert steps(told)["handshake"] == steps(told)["endpoint"] == "problem"
