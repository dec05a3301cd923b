"""Challenges and consents over a real Unix socket."""

from tests.api.parts import TIMEOUT_S, Parts
from tests.harness.unix_http import UnixConnection
from tests.harness.waiting import wait_until

PATH = "/api/v1/endpoints"


def test_creation_answers_pending_at_once_and_the_outcome_shows(parts: Parts) -> None:
    """The handshake runs beside the call; a receiver that only says 200 is failed by name."""
    made = parts.endpoint(handshake="graph", rate_limit={"requests": 5, "per_s": 2})
    assert (made["status"], made["proof"]) == ("pending", None)
    assert made["rate_limit"] == {"requests": 5, "per_s": 2.0}

    def shown() -> dict:
        return parts.call("GET", f"{PATH}/{made['id']}")[1]

    wait_until(lambda: shown()["status"] == "failed", 60, shown)
    assert shown()["status_reason"].startswith("wrong_type: ")
    status, told = parts.call("POST", f"{PATH}/{made['id']}/challenge")
    assert (status, told["status"]) == (202, "pending")
    wait_until(lambda: shown()["status"] == "failed" and len(parts.challenges) == 2, 60, shown)


def test_challenges_that_cannot_be(parts: Parts) -> None:
    """An endpoint that isn't there is 404, one whose handshake asks nothing 409."""
    made = parts.endpoint()
    assert parts.call("POST", f"{PATH}/{made['id']}/challenge")[0] == 409
    assert parts.call("POST", f"{PATH}/nobody/challenge")[0] == 404


def test_a_receiver_consents_by_its_token_alone(parts: Parts) -> None:
    """Any other token is 404, HEAD consents to nothing, GET does, once; the answer tells nothing of the endpoint."""
    made = parts.endpoint(handshake="cloudevents")
    where = f"{PATH}/{made['id']}"
    wait_until(lambda: parts.call("GET", where)[1]["proof"] is not None, 60, lambda: parts.call("GET", where))
    (asked,) = parts.challenges
    callback = dict(asked.headers)["WebHook-Request-Callback"].removeprefix("https://us.example.com")
    assert parts.call("GET", callback[:-1])[0] == 404
    assert parts.call("GET", "/api/v1/handshakes/%00%ff")[0] == 404
    assert parts.call("GET", where)[1]["status"] == "pending"
    assert parts.call("POST", callback) == (200, {"status": "consented"})
    told = parts.call("GET", where)[1]
    assert told["status"] == "active"
    assert told["proof"]["allowed_per_min"] is None
    assert told["proof"]["proved_at"] is not None
    assert parts.call("POST", callback)[0] == 404


def test_a_head_of_a_consent_says_what_is_taken(parts: Parts) -> None:
    """A 405 has its Allow, as every other one."""
    connection = UnixConnection(parts.control, TIMEOUT_S)
    connection.request("HEAD", "/api/v1/handshakes/anything")
    answer = connection.getresponse()
    connection.close()
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,POST")
