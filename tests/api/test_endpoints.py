"""The endpoints' calls over a real Unix socket."""

import pytest
from tests.api.parts import Parts

from ringback.service.endpoint_fields import MAX_TOLD

PATH = "/api/v1/endpoints"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_create_answers_the_endpoint_with_its_secret(parts: Parts) -> None:
    """201, the secret in full this once, and from then on masked unless revealed."""
    made = parts.endpoint(name="crm", secret=SECRET, events=["a.*"], headers={"X-Api-Key": "k", "X-Plain": "p"})
    assert made["secret"] == SECRET
    assert (made["status"], made["dialect"], made["events"], made["tenant"]) == (
        "active",
        "standard",
        ["a.*"],
        "default",
    )
    status, shown = parts.call("GET", f"{PATH}/{made['id']}")
    assert status == 200
    assert shown["secret"] == "whsec_…LaSw"
    assert shown["headers"] == {"X-Api-Key": "…", "X-Plain": "p"}
    _, revealed = parts.call("GET", f"{PATH}/{made['id']}?reveal=true")
    assert revealed["secret"] == SECRET
    assert revealed["headers"]["X-Api-Key"] == "k"
    _, listed = parts.call("GET", PATH)
    assert listed == {"data": [shown], "next_cursor": None}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"url":"https://a.example.com/","concurrency":1,"concurrency":2}', "'concurrency'"),
        (b'{"url":"https://a.example.com/","metadata":{"team":"a","te\\u0061m":"b"}}', "'team'"),
        (b'{"url":"https://a.example.com/","retry":{"delays_s":[1],"jitter":0,"delays_s":[2]}}', "'delays_s'"),
    ],
)
def test_a_member_given_twice_is_refused(parts: Parts, body: bytes, named: str) -> None:
    """As in an event: nobody knows which was meant, at whatever depth, by POST and PATCH."""
    made = parts.endpoint(concurrency=7)
    for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{made['id']}")):
        status, told = parts.call(method, path, body)
        assert (status, told["code"]) == (400, "invalid_json")
        assert named in told["detail"]
    assert [endpoint["concurrency"] for endpoint in parts.call("GET", PATH)[1]["data"]] == [7]


@pytest.mark.parametrize(("depth", "statuses"), [(300, {422}), (1000, {400, 422}), (100_000, {400})])
def test_depth_harms_nobody(parts: Parts, depth: int, statuses: set[int]) -> None:
    """What nests deeper than the parsers go is refused by name as anything else; how deep that is, Python decides."""
    assert parts.call("POST", PATH, b'{"url":' + b"[" * depth + b"]" * depth + b"}")[0] in statuses


def test_unset_members_are_null_and_effective_has_what_counts(parts: Parts) -> None:
    """A reader must see both what was set and what holds."""
    made = parts.endpoint(timeout_s=2)
    assert (made["concurrency"], made["retry"], made["timeout_s"]) == (None, None, 2)
    assert made["effective"]["concurrency"] == 8
    assert made["effective"]["timeout_s"] == 2
    assert made["effective"]["retry"]["delays_s"][0] == 5


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "https://a.example.com/", "ordering": "key"}, 422, "not_supported"),
        ({"url": "https://a.example.com/", "ordering": "strict"}, 422, "not_supported"),
        ({"url": "https://a.example.com/", "dialect": "morse"}, 422, "invalid_endpoint"),
        ({"url": "https://10.0.0.1/"}, 422, "forbidden"),
        ({"url": "https://a.example.com/", "colour": "red"}, 422, "invalid_endpoint"),
        ({}, 422, "invalid_endpoint"),
        ([], 422, "invalid_endpoint"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b'{"url": "' + b"x" * 300_000 + b'"}', 413, "too_large"),
    ],
)
def test_bad_bodies_are_problems(parts: Parts, body: object, status: int, code: str) -> None:
    """Each refusal is a problem document with its code, its status and the places at fault; nothing is made."""
    answered, told = parts.call("POST", PATH, body)
    assert (answered, told["status"], told["code"]) == (status, status, code)
    assert told["title"]
    assert told["detail"]
    assert parts.call("GET", PATH)[1]["data"] == []


def test_problems_say_where(parts: Parts) -> None:
    """Errors has one entry a fault, each with its way into the body."""
    body = {"url": "https://a.example.com/", "retry": {"delays_s": ["x"]}, "headers": {"Host": "h"}}
    told = parts.call("POST", PATH, body)[1]
    assert [error["loc"] for error in told["errors"]] == [["retry", "delays_s", 0]]
    told = parts.call("POST", PATH, {**body, "retry": None})[1]
    assert [error["loc"] for error in told["errors"]] == [["headers"]]


def test_a_warning_for_a_name_without_address(parts: Parts) -> None:
    """It is accepted, and the answer says what is the matter."""
    made = parts.endpoint(url="https://nowhere.test/")
    assert "nowhere.test" in made["warnings"][0]


def test_a_taken_name_is_a_conflict(parts: Parts) -> None:
    """409 with the member at fault."""
    parts.endpoint(name="crm")
    status, told = parts.call("POST", PATH, {"url": "https://a.example.com/", "name": "crm"})
    assert (status, told["code"], told["errors"][0]["loc"]) == (409, "conflict", ["name"])


def test_patch_pause_resume_delete(parts: Parts) -> None:
    """The life of an endpoint by its calls, with CONTRACT's statuses."""
    path = f"{PATH}/{parts.endpoint()['id']}"
    status, changed = parts.call("PATCH", path, {"events": ["x"], "metadata": {"a": "b"}})
    assert (status, changed["events"], changed["metadata"]) == (200, ["x"], {"a": "b"})
    assert changed["secret"].startswith("whsec_…")
    assert parts.call("PATCH", path, {"secret": SECRET})[1]["secret"] == SECRET
    assert parts.call("PATCH", path, {"secret": ""})[1]["secret"] == ""
    assert parts.call("PATCH", path, {"tenant": "x"})[0] == 422
    assert [parts.call("POST", f"{path}/pause")[0], parts.call("GET", path)[1]["status"]] == [202, "paused"]
    assert [parts.call("POST", f"{path}/resume")[0], parts.call("GET", path)[1]["status"]] == [202, "active"]
    assert parts.call("DELETE", path) == (204, None)
    for method, suffix in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")]:
        status, told = parts.call(method, path + suffix, {} if method == "PATCH" else None)
        assert (status, told["code"]) == (404, "not_found")


def test_lists_page_newest_first(parts: Parts) -> None:
    """Following the cursor shows each endpoint once, the newest first."""
    made = [parts.endpoint(tenant="t" if n % 2 else "u")["id"] for n in range(7)]
    seen, cursor = [], ""
    for _ in range(4):
        page = parts.call("GET", f"{PATH}?limit=2{cursor}")[1]
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted(made, reverse=True)
    only = parts.call("GET", f"{PATH}?tenant=t&limit=3")[1]
    assert [one["id"] for one in only["data"]] == sorted(made[1::2], reverse=True)
    assert only["next_cursor"] is None


def test_lists_filter(parts: Parts) -> None:
    """By tenant, status, dialect and name."""
    one, two = parts.endpoint(name="one"), parts.endpoint(name="two", tenant="acme")
    parts.call("POST", f"{PATH}/{two['id']}/pause")
    for query, wanted in [
        ("status=paused", [two]),
        ("status=active", [one]),
        ("tenant=acme", [two]),
        ("name=one", [one]),
        ("dialect=standard", [two, one]),
        ("dialect=standard&tenant=nobody", []),
    ]:
        assert [e["id"] for e in parts.call("GET", f"{PATH}?{query}")[1]["data"]] == [e["id"] for e in wanted], query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=251", "limit=x", "limit=", "limit=-1", "colour=red", "status=asleep", "tenant=",
        "tenant=a&tenant=b", "cursor=xx", "cursor=%FF", "cursor=ZXZlbnQ6MQ", "cursor=" + "A" * 200, "reveal=1",
    ],
)  # fmt: skip
def test_bad_queries_are_422(parts: Parts, query: str) -> None:
    """Unknown, repeated and unreadable parameters are told by name, never ignored."""
    status, told = parts.call("GET", f"{PATH}?{query}")
    assert (status, told["code"]) == (422, "invalid_query")
    assert told["errors"][0]["loc"] == ["query", query.split("=", maxsplit=1)[0]]


@pytest.mark.parametrize(
    "wrong",
    [{"events": [1] * 1000}, {"options": {f"o{n}": "x" for n in range(1000)}}, {f"member{n}": 1 for n in range(1000)}],
)
def test_of_a_thousand_wrong_members_a_hundred_are_told(parts: Parts, wrong: dict) -> None:
    """An answer is bounded however much is wrong; what it tells has its place."""
    status, told = parts.call("POST", PATH, {"url": "https://a.example.com/", **wrong})
    assert (status, len(told["errors"])) == (422, MAX_TOLD)
    assert all(error["loc"] and error["msg"] for error in told["errors"])


def test_of_a_thousand_unknown_parameters_a_hundred_are_told(parts: Parts) -> None:
    """The same for a query."""
    status, told = parts.call("GET", PATH + "?" + "&".join(f"p{n}=1" for n in range(1000)))
    assert (status, len(told["errors"])) == (422, MAX_TOLD)
