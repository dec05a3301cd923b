"""Per-event callbacks inside the daemon: who may be called, which lane it stands in, retries, crashes."""

import json

import pytest
from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer
from tests.store.kit import check_invariants, rows

from ringback.core.egress import EgressPolicy, parse_policy
from ringback.core.model import Callback, DeliveryState, Event, Outcome, OutcomeKind, Rejection
from ringback.service.callbacks import MAX_LANES_A_TENANT, OVERFLOW, CallbackRules, Callbacks, Rules
from ringback.store.callbacks import CallbackLane
from ringback.store.history import HistoryReads
from ringback.store.views import DeliveryFilter

URL = "https://h.example/cb"
EVENT = Event("e", "acme", "stt.jobs.completed", b'{"a":1}', 0, b"d")


class Receivers:
    """The network's other side: what came, and what is answered by URL."""

    def __init__(self):
        self.requests = []
        self.answers = {}

    def __call__(self, request):
        self.requests.append(request)
        given = self.answers.get(request.url, 200)
        return given if isinstance(given, Outcome) else answer(given)


class Life:
    """A world in a directory, over its crashes."""

    def __init__(self, directory):
        self.receivers = Receivers()
        self.parts = (directory, FakeClock(), FakeChance(1), FakeNetwork(self.receivers))
        self.path = directory / "ringback.db"

    async def __aenter__(self):
        self.world = await World(*self.parts).start()
        return self

    async def __aexit__(self, *_):
        await self.world.stop()

    async def crash(self):
        await self.world.crash()
        self.world = await World(*self.parts).start()

    def emit(self, name, url=URL, **members):
        event = {"type": "stt.jobs.completed", "data": {"a": 1}, "tenant": "acme", "id": name}
        event |= {key: members.pop(key) for key in ("expires_at", "tenant") if key in members}
        self.world.emit(json.dumps(event | {"callback": {"url": url} | members}).encode())

    async def answers(self):
        await self.world.barrier()
        told = [json.loads(line) for line in self.world.answers]
        self.world.answers.clear()
        return told

    async def states(self):
        page = await HistoryReads(self.world.reader).list_deliveries(DeliveryFilter(), limit=5000)
        return {row.event_id: row for row in page.items}


async def test_it_is_delivered_besides_the_endpoints(tmp_path):
    """Both deliveries are counted and made; the callback's has the extras back and a lane that is no endpoint's."""
    async with Life(tmp_path) as life:
        made = await life.world.endpoints.create({"url": "https://sub.example/", "tenant": "acme", "secret": ""})
        life.emit("e1", extra="case:42,note:a:b")
        assert (await life.answers())[0]["deliveries"] == 2
        await life.world.settle()
        by_url = {request.url: request for request in life.receivers.requests}
        assert set(by_url) == {"https://sub.example/", URL}
        assert json.loads(by_url[URL].body) == {
            "status": "success", "a": 1, "request_id": "e1", "case": "42", "note": "a:b",
        }  # fmt: skip
        lanes = {row[0] for row in rows(life.path, "SELECT lane FROM delivery")}
        assert made.endpoint.lane in lanes
        assert len(lanes) == 2
        check_invariants(life.path)


async def test_without_callbacks_nothing_of_theirs_is_written(tmp_path):
    """An event that has none leaves no row of theirs."""
    async with Life(tmp_path) as life:
        life.world.emit(b'{"type":"a","data":{}}')
        await life.world.barrier()
        assert rows(life.path, "SELECT (SELECT count(*) FROM callback), (SELECT count(*) FROM callback_lane)") == [
            (0, 0)
        ]


async def test_one_origin_is_one_lane_until_it_is_drained(tmp_path):
    """URLs of one origin share a lane, tenants don't; drained lanes leave the memory, their numbers come back."""
    async with Life(tmp_path) as life:
        life.emit("e1")
        life.emit("e2", "https://H.example:443/other?x=1")
        life.emit("e3", tenant="other")
        life.emit("e4", "https://h.example:444/")
        assert all(told["ok"] for told in await life.answers())
        assert len(list(life.world.callbacks.lanes)) == 3
        await life.world.settle()
        assert list(life.world.callbacks.lanes) == []
        assert life.world.dispatch.board.lanes == {}
        before = rows(life.path, "SELECT lane, origin FROM callback_lane ORDER BY lane")
        assert len(before) == 3
        life.emit("e5")
        await life.world.settle()
        assert rows(life.path, "SELECT lane, origin FROM callback_lane ORDER BY lane") == before
        assert {row.state for row in (await life.states()).values()} == {DeliveryState.SUCCEEDED}
        assert rows(life.path, "SELECT count(*) FROM lane_health") == [(0,)]


async def test_its_numbers_are_never_an_endpoint_s(tmp_path):
    """Endpoints and callbacks take their lanes from one sequence, over restarts."""
    async with Life(tmp_path) as life:
        lanes = []
        for n in range(3):
            life.emit(f"e{n}", f"https://h{n}.example/")
            await life.world.settle()
            made = await life.world.endpoints.create({"url": "https://sub.example/", "tenant": "x", "secret": ""})
            lanes.append(made.endpoint.lane)
            await life.crash()
        called = [row[0] for row in rows(life.path, "SELECT lane FROM callback_lane")]
        assert len({*lanes, *called}) == 6


@pytest.mark.parametrize("status", [500, 503, 408, 429])
async def test_failures_are_tried_again_as_its_dialect_says(tmp_path, status):
    """Pulse comes back after about a second, and the lane stays until then."""
    async with Life(tmp_path) as life:
        life.receivers.answers[URL] = status
        life.emit("e1")
        await life.world.settle()
        assert len(life.receivers.requests) == 1
        assert len(list(life.world.callbacks.lanes)) == 1
        del life.receivers.answers[URL]
        life.parts[1].advance(2)
        await life.world.settle()
        assert len(life.receivers.requests) == 2
        assert (await life.states())["e1"].state is DeliveryState.SUCCEEDED
        assert list(life.world.callbacks.lanes) == []


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_final_answer_ends_it_and_disables_nothing(tmp_path, status):
    """4xx is dead at once; 410 has no endpoint to disable, and the next event is sent."""
    async with Life(tmp_path) as life:
        life.receivers.answers[URL] = status
        life.emit("e1")
        await life.world.settle()
        life.emit("e2")
        await life.world.settle()
        assert len(life.receivers.requests) == 2
        assert {row.state for row in (await life.states()).values()} == {DeliveryState.DEAD}


async def test_a_crash_forgets_nothing(tmp_path):
    """What was owed at a crash is sent after it, with its extras, method and secret; the store is whole."""
    async with Life(tmp_path) as life:
        life.receivers.answers[URL] = Outcome(OutcomeKind.CONNECT_FAILED, maybe_sent=False)
        life.emit("e1", method="GET", extra={"k": [1, 2.5]}, secret="s3cret")
        life.emit("e2", "https://two.example/", dialect="standard", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        await life.world.barrier()
        await life.crash()
        assert len(list(life.world.callbacks.lanes)) == 2
        await life.world.settle()
        asked = {request.url.partition("?")[0]: request for request in life.receivers.requests}
        assert (asked[URL].method, asked[URL].body) == ("GET", b"")
        assert "k=%5B1%2C2.5%5D" in asked[URL].url
        assert "x-signature" in dict(asked[URL].headers)
        assert dict(asked["https://two.example/"].headers)["webhook-id"] == "e2"
        assert {row.state for row in (await life.states()).values()} == {DeliveryState.SUCCEEDED}
        check_invariants(life.path)


async def test_duplicates_and_conflicts_count_the_callback(tmp_path):
    """The same event again is a duplicate with the first's count; with another callback it is a conflict."""
    async with Life(tmp_path) as life:
        life.emit("e1")
        life.emit("e1")
        life.emit("e1", "https://other.example/")
        told = await life.answers()
        await life.world.settle()
        life.emit("e1")
        life.emit("e1", "https://third.example/")
        told += await life.answers()
        assert [one.get("deliveries", one.get("error", {}).get("code")) for one in told] == [
            1, 1, "conflict", 1, "conflict",
        ]  # fmt: skip
        await life.world.settle()
        assert len(life.receivers.requests) == 1
        assert list(life.world.callbacks.lanes) == []
        assert life.world.callbacks._places == {}


async def test_beyond_the_limit_origins_share_a_lane(tmp_path):
    """The thousandth and first origin goes to the overflow lane; all are delivered and all lanes are dropped."""
    async with Life(tmp_path) as life:
        for n in range(MAX_LANES_A_TENANT + 200):
            life.emit(f"e{n}", f"https://h{n}.example/")
        life.emit("other", "https://h.example/", tenant="other")
        assert all(told["ok"] for told in await life.answers())
        lanes = rows(life.path, "SELECT t.name, l.origin = '' FROM callback_lane l JOIN tenant t ON t.no = l.tenant")
        assert len(lanes) == MAX_LANES_A_TENANT + 2
        assert [name for name, overflow in lanes if overflow] == ["acme"]
        assert rows(life.path, "SELECT max(n) FROM (SELECT count(*) AS n FROM owed GROUP BY lane)") == [(200,)]
        for _ in range(5):
            await life.world.settle()
            life.parts[1].advance(31)
        assert list(life.world.callbacks.lanes) == []
        assert len(life.receivers.requests) == MAX_LANES_A_TENANT + 201
        assert {row.state for row in (await life.states()).values()} == {DeliveryState.SUCCEEDED}


async def test_an_expired_one_frees_its_lane(tmp_path):
    """A lane whose last delivery expired without an attempt is dropped at the next look."""
    async with Life(tmp_path) as life:
        life.receivers.answers[URL] = 500
        life.emit("e1", expires_at="2027-01-15T08:00:01Z")
        await life.world.settle()
        life.parts[1].advance(3600)
        await life.world.settle()
        life.parts[1].advance(31)
        await life.world.settle()
        assert (await life.states())["e1"].state is DeliveryState.EXPIRED
        assert list(life.world.callbacks.lanes) == []


# -- who may be called, without a world ------------------------------------------------------------


def judged(callback, rules=None, event=EVENT, policy=None):
    """What the judge says."""
    return Callbacks(policy or EgressPolicy(), rules).judge(event, callback)


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"url": "https://10.0.0.1/"}, "forbidden", "callback.url"),
        ({"url": "https://localhost/"}, "forbidden", "callback.url"),
        ({"url": "http://h.example/"}, "forbidden", "callback.url"),
        ({"dialect": "nope"}, "invalid_event", "callback.dialect"),
        ({"dialect": "speechlive"}, "invalid_event", "callback.dialect"),
        ({"dialect": "azure-speech"}, "invalid_event", "callback.dialect"),
        ({"dialect": "standard", "method": "GET"}, "invalid_event", "callback.method"),
        ({"dialect": "standard", "extra": b'{"a":1}'}, "invalid_event", "callback.extra"),
        ({"dialect": "standard", "secret": "short"}, "invalid_event", "callback.secret"),
    ],
)
def test_what_may_not_be_called_is_named(members, code, field):
    """The policy's word is forbidden, what no dialect can make is invalid_event."""
    found = judged(Callback(**({"url": URL} | members)))
    assert isinstance(found, Rejection)
    assert (found.code, found.field) == (code, field)


def test_the_operator_says_which_hosts():
    """Patterns hold for everybody, a tenant's own ones instead of them, and off is off."""
    rules = Rules(
        CallbackRules(hosts=("*.example",)),
        {"acme": CallbackRules(hosts=("only.test",)), "off": CallbackRules(enabled=False)},
    )
    verdicts = {}
    for tenant in ("acme", "off", "else"):
        for host in ("h.example", "only.test"):
            event = Event("e", tenant, "a", b"{}", 0, b"")
            found = judged(Callback(f"https://{host}/"), rules, event)
            verdicts[tenant, host] = found.code if isinstance(found, Rejection) else found
    assert verdicts == {
        ("acme", "h.example"): "forbidden",
        ("acme", "only.test"): "https://only.test:443",
        ("off", "h.example"): "forbidden",
        ("off", "only.test"): "forbidden",
        ("else", "h.example"): "https://h.example:443",
        ("else", "only.test"): "forbidden",
    }


def test_a_new_policy_holds_from_the_next_event():
    """What was forbidden is allowed after a reload, and the other way round."""
    callbacks = Callbacks(EgressPolicy())
    callback = Callback("http://127.0.0.1/")
    assert isinstance(callbacks.judge(EVENT, callback), Rejection)
    callbacks.reconfigure(parse_policy(False, ["127.0.0.0/8"], []), Rules())
    assert callbacks.judge(EVENT, callback) == "http://127.0.0.1:80"
    callbacks.reconfigure(parse_policy(False, ["127.0.0.0/8"], []), Rules(CallbackRules(enabled=False)))
    assert isinstance(callbacks.judge(EVENT, callback), Rejection)


def test_adopting_beyond_the_limit_is_refused():
    """A retry by hand can't make more lanes than there may be; one in use, and the overflow lane, always can."""
    callbacks = Callbacks(EgressPolicy())
    for number in range(MAX_LANES_A_TENANT):
        assert callbacks.adopt(CallbackLane(number, "acme", f"https://h{number}:443"))
    assert not callbacks.adopt(CallbackLane(5000, "acme", "https://one.more:443"))
    assert callbacks.adopt(CallbackLane(5001, "acme", OVERFLOW))
    assert callbacks.adopt(CallbackLane(3, "acme", "https://h3:443"))
    callbacks.release(3)
    assert callbacks.adopt(CallbackLane(5000, "acme", "https://one.more:443"))


def test_a_lane_s_number_may_change_while_it_is_in_use():
    """Retention took the row of an idle lane: its next event brings a new number, both are known until released."""
    callbacks = Callbacks(EgressPolicy())
    for number in (1, 2):
        assert callbacks.reserve("acme", "https://h:443") == "https://h:443"
        callbacks.written("acme", "https://h:443", number)
    assert set(callbacks.lanes) == {1, 2}
    callbacks.release(1)
    assert set(callbacks.lanes) == {2}
    callbacks.release(2)
    assert callbacks._places == {}


def test_an_idle_lane_takes_the_longest_retries_of_any_dialect():
    """What holds for a lane as a whole must not cut short what one of its events may wait."""
    callbacks = Callbacks(EgressPolicy())
    callbacks.adopt(CallbackLane(1, "acme", "https://h:443"))
    patient = callbacks.stand_in(1)
    assert patient is not None
    assert max(patient.retry.delays_s) >= 86_400
    assert callbacks.stand_in(2) is None
