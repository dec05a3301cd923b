"""The doctor's words: each fact of the way is ok, a warning or a problem, and what isn't ok says what to do."""

import msgspec
import pytest

from ringback import dialects
from ringback.core.handshake import Phase
from ringback.core.model import (
    DeliveryState,
    Endpoint,
    EndpointStatus,
    Outcome,
    OutcomeKind,
    Proof,
    Secret,
)
from ringback.service import diagnosis, diagnosis_endpoint
from ringback.service.diagnosis import Level
from ringback.service.diagnosis_endpoint import Standing
from ringback.service.lane_facts import LaneFacts
from ringback.service.proofs import Trying
from ringback.store.views import DeliveryRow
from ringback.transports.probe import Certificate, Knock, Lookup, Shake

NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
DAY = 86_400_000
CERTIFICATE = Certificate("crm", "Test CA", ("a.example.com",), NOW - DAY, NOW + 90 * DAY, self_issued=False)
SHAKE = Shake(None, 9, "TLSv1.3", "TLS_AES_128_GCM_SHA256", CERTIFICATE)


def whole(step):
    """A step is well-formed: whatever isn't ok says what to do."""
    assert (step.do is None) == (step.level is Level.OK)
    return step.level, step.text


@pytest.mark.parametrize(
    ("lookup", "nameservers", "level", "words"),
    [
        (
            Lookup(("1.2.3.4", "::5"), None, 3, asked=True),
            (),
            "ok",
            "h is 1.2.3.4, ::5 (asked the system's name servers",
        ),
        (Lookup(("1.2.3.4",), None, 0, asked=False), (), "ok", "remembered from a look-up"),
        (Lookup(("1.2.3.4",), None, 2500, asked=True), ("9.9.9.9",), "warning", "delivery.nameservers (9.9.9.9)"),
        (Lookup((), "no such name", 3, asked=True), (), "problem", "h has no address: no such name"),
    ],
)
def test_names(lookup, nameservers, level, words):
    """All addresses, by whom, how long; an answer out of memory says so."""
    found, text = whole(diagnosis.found(lookup, "h", nameservers))
    assert found == level
    assert words in text


@pytest.mark.parametrize(
    ("refused", "level", "do"),
    [
        ([None, None], "ok", None),
        (["10.0.0.1 is not a public address (private, 10.0.0.0/8)", None], "warning", '["10.0.0.1/32"]'),
        (["fd00::1 is not a public address"], "problem", '["fd00::1/128"]'),
        (["10.0.0.1 is in deny_networks"], "problem", "egress.deny_networks"),
        (["plain http to 1.2.3.4, which is outside allow_networks; use https"], "problem", "use https"),
    ],
)
def test_the_egress_rules(refused, level, do):
    """Which rule refuses which address, and the very line that would allow it."""
    knocks = [Knock((text or "1.2.3.4").split()[0], text, None, 0) for text in refused]
    step = diagnosis.allowed(knocks)
    assert whole(step)[0] == level
    assert all(text in step.text for text in refused if text)
    assert do is None or do in step.do


@pytest.mark.parametrize(
    ("error", "others", "level", "do"),
    [
        (None, False, "ok", None),
        ("connection refused", False, "problem", "nothing listens"),
        ("no answer within 5 s", False, "problem", "a firewall drops"),
        ("network is unreachable", False, "problem", "no route"),
        ("protocol not available", False, "problem", "network"),
        ("connection refused", True, "warning", "next address"),
    ],
)
def test_connections(error, others, level, do):
    """One line an address; a closed one beside an open one is only a warning."""
    step = diagnosis.connected(Knock("::5", None, error, 4), 443, others=others)
    assert whole(step)[0] == level
    assert "[::5]:443" in step.text
    assert do is None or do in step.do


@pytest.mark.parametrize(
    ("changes", "certificate", "verify", "level", "words"),
    [
        ({}, {}, True, "ok", "a.example.com by Test CA, expires on 2027-04-15, in 90 days"),
        ({}, {"not_after_ms": NOW + DAY}, True, "warning", "in 1 day"),
        ({}, {}, False, "warning", "not verified"),
        ({"error": "TLS handshake failed: expired", "verify_code": 10}, {"not_after_ms": NOW - DAY}, True,
         "problem", "expired on 2027-01-14"),
        ({"error": "TLS handshake failed: Hostname mismatch", "verify_code": 62}, {"names": ("x",) * 5}, True,
         "problem", "name asked for: h; certificate for x, x, x and 2 more"),
        ({"error": "TLS handshake failed: x", "verify_code": 9}, {"not_before_ms": NOW + DAY}, True,
         "problem", "not valid before 2027-01-16"),
        ({"error": "no complete handshake within 5 s", "certificate": None}, {}, True, "problem", "within 5 s"),
    ],
)  # fmt: skip
def test_encryption(changes, certificate, verify, level, words):
    """Protocol, for whom, by whom, until when; a chain's trouble has words of its own."""
    seen = msgspec.structs.replace(CERTIFICATE, **certificate)
    shake = msgspec.structs.replace(SHAKE, **({"certificate": seen} | changes))
    found, text = whole(diagnosis.encrypted(shake, "h", NOW, verify=verify))
    assert found == level
    assert words in text


def test_every_chain_trouble_says_what_to_do():
    """No two of OpenSSL's commonest complaints get the same advice by accident: each has its own entry."""
    for code in (9, 10, 18, 19, 20, 21, 62, 64):
        step = diagnosis.encrypted(Shake("TLS handshake failed: x", 1, verify_code=code), "h", NOW, verify=True)
        assert step.do != diagnosis.encrypted(Shake("x", 1, verify_code=1), "h", NOW, verify=True).do


@pytest.mark.parametrize(
    ("status", "headers", "level", "words"),
    [
        (204, (), "ok", "204"),
        (405, (("Allow", "GET, POST"),), "ok", "says it takes POST"),
        (200, (("allow", "GET"),), "ok", "POST is not in its Allow"),
        (501, (), "ok", "501"),
        (301, (), "warning", "a redirect"),
        (401, (), "warning", "401"),
        (404, (), "warning", "404"),
        (429, (), "warning", "429"),
        (502, (), "problem", "502"),
    ],
)
def test_answers(status, headers, level, words):
    """Any answer is HTTP; some may mean that a delivery isn't taken either."""
    outcome = Outcome(OutcomeKind.RESPONSE, status=status, headers=headers, elapsed_ms=5)
    found, text = whole(diagnosis.answered(outcome))
    assert found == level
    assert words in text


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind is not OutcomeKind.RESPONSE])
def test_no_answer_is_a_problem(kind):
    """Whatever kept it away, with its words."""
    found, text = whole(diagnosis.answered(Outcome(kind, error="these words")))
    assert found == "problem"
    assert "these words" in text


@pytest.mark.parametrize(
    ("date", "level", "words"),
    [
        ("Fri, 15 Jan 2027 08:00:01 GMT", "ok", "within 1 second"),
        ("Fri, 15 Jan 2027 07:58:00 GMT", "warning", "120 s behind ours"),
        ("Fri, 15 Jan 2027 08:10:00 GMT", "problem", "600 s ahead of ours"),
    ],
)
def test_clocks(date, level, words):
    """A minute apart is worth a warning, five are a problem: signatures are refused then."""
    step = diagnosis.clocks(Outcome(OutcomeKind.RESPONSE, status=200, headers=(("Date", date),)), NOW)
    assert whole(step)[0] == level
    assert words in step.text


def test_a_clock_that_is_not_told_is_no_step():
    """No Date, or one nobody can read, says nothing."""
    for headers in ((), (("date", "yesterday"),), (("date", "\u0663"),)):
        assert diagnosis.clocks(Outcome(OutcomeKind.RESPONSE, status=200, headers=headers), NOW) is None


URL = "https://a.example.com/hook?key=PLANTED"
SECRET = "whsec_PLANTEDPLANTED"
ENDPOINT = Endpoint(
    1, "e-1", "default", URL, "standard", NOW, NOW, name="crm", secrets=(Secret(SECRET, NOW),), headers={"X": "PLANTED"}
)


def row(state=DeliveryState.SUCCEEDED, status=200):
    """A delivery that was tried."""
    outcome = "delivered" if status == 200 else "bad_status"
    last = (NOW - 5, 3, status, outcome, None)
    return DeliveryRow(7, 1, state, 1, 1, None, *last, "ev-1", "default", "a.b", NOW - 10, NOW - 10)


def standing(*latest, owed=0, lane=None, trying=None, divert_to="", **changes):
    """The steps by name."""
    endpoint = msgspec.structs.replace(ENDPOINT, **changes)
    facts = Standing(
        endpoint=endpoint,
        dialect=dialects.get(endpoint.dialect),
        lane=lane or LaneFacts(allowed=8, cap=8, proved=True),
        owed=owed,
        capped=False,
        latest=latest,
        trying=trying,
        divert_to=divert_to,
        now_ms=NOW,
    )
    steps = diagnosis_endpoint.standing(facts)
    for step in steps:
        whole(step)
        assert "PLANTED" not in f"{step.text}{step.do}"
    return {step.name: step for step in steps}


def test_a_healthy_endpoint():
    """Nothing but ok, and no step about a handshake nobody asks for."""
    steps = standing(row(), row())
    assert list(steps) == ["endpoint", "filter", "secret", "owed", "lane", "attempts"]
    assert {step.level for step in steps.values()} == {Level.OK}
    assert "latest 2 deliveries ended with 200, 200" in steps["attempts"].text


@pytest.mark.parametrize(
    ("status", "do"),
    [
        (EndpointStatus.PAUSED, "ringback endpoint resume crm"),
        (EndpointStatus.DISABLED, "ringback endpoint resume crm"),
        (EndpointStatus.FAILED, "ringback endpoint challenge crm"),
        (EndpointStatus.PENDING, "handshake"),
    ],
)
def test_an_endpoint_that_is_not_active_gets_nothing(status, do):
    """A problem with the very command that ends it; its lane isn't told, for it stands still anyway."""
    steps = standing(status=status)
    assert steps["endpoint"].level is Level.PROBLEM
    assert do in steps["endpoint"].do
    assert "lane" not in steps


@pytest.mark.parametrize(
    ("trying", "changes", "words"),
    [
        (Trying(Phase.READY, 2, NOW - 9000, "late: x", NOW + 1000), {}, "challenge 2 at 2027-01-15T07:59:51"),
        (Trying(Phase.READY, 2, NOW - 9000, "late: x", NOW + 1000), {}, "asked again at 2027-01-15T08:00:01"),
        (Trying(Phase.ASKED, 2, NOW, "late: x"), {}, "not answered yet; the one before failed (late: x)"),
        (Trying(Phase.CONSENTING, 1, NOW, None, NOW + DAY), {}, "by calling back until 2027-01-16"),
        (Trying(Phase.READY, 0), {}, "as soon as there is a place"),
        (None, {"status": EndpointStatus.FAILED, "status_reason": "wrong_echo: x"}, "wrong_echo: x"),
    ],
)  # fmt: skip
def test_a_handshake_that_is_not_done_is_told(trying, changes, words):
    """The last try, its answer, and the next."""
    steps = standing(trying=trying, **{"handshake": "graph", "status": EndpointStatus.PENDING} | changes)
    assert steps["handshake"].level is Level.PROBLEM
    assert words in steps["handshake"].text


def test_a_proof_is_told():
    """Since when, and when it is asked again."""
    steps = standing(handshake="websub", proof=Proof(NOW, NOW + DAY))
    assert steps["handshake"].level is Level.OK
    assert "asked again at 2027-01-16" in steps["handshake"].text


def test_secrets():
    """None where the format signs is a warning; one that still signs beside the newest is told."""
    assert standing(secrets=())["secret"].level is Level.WARNING
    assert standing(secrets=(), dialect="pulse")["secret"].text == "its dialect signs nothing"
    assert "1 older" in standing(secrets=(Secret(SECRET, NOW), Secret(SECRET, NOW, NOW + DAY)))["secret"].text


def test_a_failing_lane_and_its_next_retry():
    """Why it is slow, when it goes on, and what the latest attempts ended with."""
    lane = LaneFacts(failing=True, failures=3, next_due_ms=NOW + DAY)
    steps = standing(row(DeliveryState.PENDING, 503), row(), owed=4, lane=lane)
    assert steps["lane"].level is steps["attempts"].level is Level.WARNING
    assert "latest 3 attempts failed" in steps["lane"].text
    assert "next retry is due at 2027-01-16" in steps["lane"].text
    assert steps["lane"].do.endswith("once it is mended, ringback endpoint retry crm sends what waits")
    assert "503, 200" in steps["attempts"].text
    assert steps["owed"].text == "it is owed 4 deliveries"


@pytest.mark.parametrize(
    ("status", "outcome", "words"),
    [
        (302, "bad_status", "redirects are not followed: ringback endpoint update crm --url URL; "),
        (401, "bad_status", "another secret than ours"),
        (404, "bad_status", "is the path right?"),
        (429, "bad_status", "ringback endpoint update crm --concurrency 1"),
        (503, "bad_status", "its own log says why"),
        (None, OutcomeKind.TIMEOUT, "ringback endpoint update crm --timeout-s SECONDS"),
        (None, OutcomeKind.CONNECT_FAILED, "ringback delivery list --endpoint crm; delivery show has the answers"),
    ],
)
def test_the_latest_answer_says_what_to_do(status, outcome, words):
    """Its cause where the way doesn't show it, and where to look, in commands that can be pasted."""
    latest = msgspec.structs.replace(row(DeliveryState.PENDING, status), outcome=outcome)
    do = standing(latest)["attempts"].do
    assert words in do
    assert do.endswith("ringback delivery list --endpoint crm; delivery show has the answers")


@pytest.mark.parametrize(
    ("name", "tenant", "called"),
    [("crm", "default", "crm"), ("my crm", "acme", "'my crm' --tenant acme"), (None, "acme", "e-1")],
)
def test_commands_name_the_endpoint_as_a_shell_takes_it(name, tenant, called):
    """By its name, with its tenant unless that is the default one; by its id only if it has no name."""
    step = standing(name=name, tenant=tenant, status=EndpointStatus.PAUSED)["endpoint"]
    assert step.do == f"ringback endpoint resume {called}"


def test_what_is_diverted_says_where_to():
    """Without the query of the URL it goes to."""
    step = standing(divert_to="https://s.example.com/in?key=PLANTED")["divert"]
    assert step.level is Level.WARNING
    assert "https://s.example.com/in instead" in step.text
