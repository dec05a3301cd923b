"""Judging received requests: what every dialect sends is right, and each way to spoil it has its name."""

import hashlib
import json

import pytest

from ringback import dialects
from ringback.cli.receiver.captured import Captured, Settings
from ringback.cli.receiver.checks import CHECKS, check, recognise

DIALECTS = [dialect for name in dialects.names() if (dialect := dialects.get(name))]
VECTORS = [pytest.param(d, v, id=f"{d.name}: {v.why}") for d in DIALECTS for v in d.vectors]
SIGNED = [pytest.param(d, v, id=f"{d.name}: {v.why}") for d in DIALECTS for v in d.vectors if v.secrets and d.signs]


def captured(dialect, vector, body=None):
    """The vector's request as its receiver has it."""
    headers = {name.lower(): value for name, value in vector.headers}
    body = vector.body if body is None else body
    url = dialect.target_url("https://receiver.example/hook", vector.shot, body)
    return Captured(headers, body, dialect.method(vector.shot), url)


def settings(vector, secrets=None):
    """Judge at the moment it was signed."""
    return Settings(vector.secrets if secrets is None else secrets, vector.now_ms // 1000, options=vector.shot.options)


def wrong(findings):
    """The parts that are not right."""
    return {finding.part for finding in findings if not finding.ok}


def test_there_is_a_check_for_every_dialect():
    """A dialect without one can't be verified by anybody who receives it."""
    assert set(CHECKS) == set(dialects.names())


@pytest.mark.parametrize(("dialect", "vector"), VECTORS)
def test_what_a_dialect_sends_is_right(dialect, vector):
    """Every known answer passes a check that shares no code with the sender."""
    assert wrong(check(dialect.name, captured(dialect, vector), settings(vector))) == set()


@pytest.mark.parametrize(("dialect", "vector"), SIGNED)
def test_another_secret_is_told(dialect, vector):
    """A signature made with another secret never passes."""
    other = dialect.new_secret(b"\x77" * dialect.secret_bytes)
    assert wrong(check(dialect.name, captured(dialect, vector), settings(vector, (other,))))


@pytest.mark.parametrize(("dialect", "vector"), SIGNED)
def test_a_changed_body_is_told(dialect, vector):
    """One byte of the body changed, and the request is not right."""
    spoilt = vector.body.replace(b'"', b"'", 1) if dialect.name != "deepva" else vector.body.replace(b"5f9b", b"6f9b")
    assert spoilt != vector.body
    assert wrong(check(dialect.name, captured(dialect, vector, spoilt), settings(vector)))


@pytest.mark.parametrize(("dialect", "vector"), VECTORS)
def test_a_request_is_recognised(dialect, vector):
    """The format can be left out: the request shows what it is."""
    assert recognise(captured(dialect, vector)) in {dialect.name, "standard"}


def standard_vector():
    """The first signed one."""
    dialect = dialects.get("standard")
    return dialect, next(v for v in dialect.vectors if v.secrets and v.secrets[0].startswith("whsec_"))


def test_an_old_request_is_told_with_its_age():
    """A replay, or a clock that is wrong: the age is in the words."""
    dialect, vector = standard_vector()
    late = Settings(vector.secrets, vector.now_ms // 1000 + 301)
    findings = check("standard", captured(dialect, vector), late)
    assert wrong(findings) == {"webhook-timestamp"}
    assert any("301 s ago" in f.said for f in findings)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda body: body + b"\n", "added on the way"),
        (lambda body: json.dumps(json.loads(body)).encode(), ""),
    ],
)
def test_a_lost_or_added_line_end_is_guessed(spoil, words):
    """The commonest mistakes are named when the digest proves them."""
    dialect, vector = standard_vector()
    findings = check("standard", captured(dialect, vector, spoil(vector.body)), settings(vector))
    signature = next(f for f in findings if f.part == "webhook-signature")
    assert not signature.ok
    assert words in (signature.hint or "")


def test_a_reserialised_body_is_guessed():
    """A framework that parsed and dumped the JSON is found out."""
    dialect, vector = dialects.get("prosa"), next(v for v in dialects.get("prosa").vectors if v.secrets)
    loose = json.dumps(json.loads(vector.body)).encode()
    findings = check("prosa", captured(dialect, vector, loose), settings(vector))
    assert any("parsed and written again" in (f.hint or "") for f in findings)


def test_a_secret_read_in_another_form_is_guessed():
    """A receiver that decodes a text secret, or the other way round, is told so."""
    text = "a35837907f71e9eaf52848b54ca11135"
    body = b'{"a":1}'
    digest = hashlib.sha256(bytes.fromhex(text) + b"." + body).hexdigest()
    headers = {"x-prosa-event": "e", "x-prosa-event-uuid": "u", "x-prosa-signature": f"t=100,v1={digest}"}
    findings = check("prosa", Captured(headers, body), Settings((text,), 100))
    assert any("hexadecimal" in (f.hint or "") for f in findings)


def test_a_missing_header_is_named():
    """A proxy that drops headers is found by the header's name."""
    findings = check("standard", Captured({}, b"{}"), Settings(("whsec_AAAA",), 0))  # without one it is unsigned
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= wrong(findings)


def test_a_signature_without_a_secret_to_check_it_is_not_right():
    """Nothing is called right that wasn't checked."""
    dialect, vector = standard_vector()
    assert wrong(check("standard", captured(dialect, vector), settings(vector, ()))) == {"webhook-signature"}


@pytest.mark.parametrize("name", sorted(CHECKS))
@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b'{"data":{}}', b"null", b'{"hmac_signature":1}'])
def test_garbage_is_judged_not_raised(name, body):
    """Whatever arrives, the answer is findings."""
    headers = {
        "webhook-id": "x",
        "webhook-timestamp": "²",
        "webhook-signature": "v1,%%% v1a,é",
        "x-prosa-signature": "t=,v1=zz,=",
        "x-microsoftspeechservices-signature": "ß",
        "x-trouble-request-hash": "\x00",
        "x-signature": "nothex",
    }
    assert wrong(check(name, Captured(headers, body), Settings(("whsec_x", "whpk_AAAA", "é"), 10**10)))
