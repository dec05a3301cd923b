"""Events: every field rule of the contract, each refusal under its name, the digest, and the answers."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.events import EventLimits, encode_error, encode_ok, parse_line
from ringback.core.model import Event, Rejection

LIMITS = EventLimits()
NOW_MS = 1_795_255_200_000
FRESH = "fresh-id"


def parse(line: bytes, limits: EventLimits = LIMITS) -> Event | Rejection:
    """One line as the daemon would judge it."""
    return parse_line(line, limits, NOW_MS, FRESH)


def accepted(line: bytes) -> Event:
    """The event a line must become."""
    event = parse(line)
    assert isinstance(event, Event), event
    return event


def refused(line: bytes, limits: EventLimits = LIMITS) -> Rejection:
    """The refusal a line must meet."""
    rejection = parse(line, limits)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def with_data(data: bytes) -> bytes:
    """An event with this data."""
    return b'{"type":"a","data":' + data + b"}"


def with_member(name: str, value: str) -> bytes:
    """A sound event with one member more."""
    return f'{{"type":"a","data":{{}},{json.dumps(name)}:{value}}}'.encode()


def test_a_minimal_event_gets_the_defaults() -> None:
    """What the producer leaves out is filled in from the arguments."""
    event = accepted(b'{"type":"stt.jobs.completed","data":{"job_id":"1"}}')
    assert (event.id, event.id_given, event.tenant) == (FRESH, False, "default")
    assert (event.type, event.data) == ("stt.jobs.completed", b'{"job_id":"1"}')
    assert (event.created_at_ms, event.deliver_after_ms, event.expires_at_ms) == (NOW_MS, None, None)


def test_a_full_event_keeps_what_was_given() -> None:
    """Every member of this version arrives in its place."""
    event = accepted(
        b'{"id":"e-1_X","tenant":"acme","type":"a.b","created_at":"2026-11-21T10:00:00.123456Z",'
        b'"deliver_after":"2026-11-21T11:00:00+01:00","expires_at":"2026-11-21T10:00:00.001Z","data":{}}'
    )
    assert (event.id, event.id_given, event.tenant, event.type) == ("e-1_X", True, "acme", "a.b")
    assert event.created_at_ms == 1_795_255_200_123
    assert event.deliver_after_ms == 1_795_255_200_000
    assert event.expires_at_ms == 1_795_255_200_001


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{ "a" :\t1 }',
        b'{"n":18446744073709551616,"e":1e400,"f":1E2,"z":-0.0}',
        b'{"k":1,"k":2}',
        b'{"type":"b","data":{},"id":7,"x":"a:b{[\\"}"}',
        '{"u":"é😀","s":"\\ud83d\\ude00","n":"\\u0000"}'.encode(),
        rb'{"s":"\\ud800 is text","t":"\/\b\f\n\r\t"}',
        b'{"x":"\x7f\xc2\x80\xef\xbb\xbf"}',
        b'{"a":[' + b"[]," * 500 + b'{"b":"]]]]"}]}',
    ],
)
def test_data_is_the_exact_slice(data: bytes) -> None:
    """Not a byte of data changes, whatever spacing, numbers, escapes or doubled keys it has."""
    assert accepted(with_data(data)).data == data
    assert accepted(b' \t{ "data" : ' + data + b' , "type" : "a" } \r').data == data


def test_unknown_members_come_before_field_rules() -> None:
    """A wrong field beside an unknown member is told as the unknown member."""
    assert refused(b'{"type":7,"foo":1}').code == "unknown_field"


@pytest.mark.parametrize("name", ["order_key"])
@pytest.mark.parametrize("value", ['"k"', "null", "{}"])
def test_what_is_not_built_is_refused_by_name(name: str, value: str) -> None:
    """A member of a later version is never silently ignored."""
    rejection = refused(with_member(name, value))
    assert (rejection.code, rejection.field) == ("not_supported", name)


@pytest.mark.parametrize("field", ["type", "data"])
def test_required_fields_are_required(field: str) -> None:
    """Type and data have no default."""
    members = {"type": '"a"', "data": "{}"}
    del members[field]
    line = "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"
    rejection = refused(line.encode())
    assert (rejection.code, rejection.field) == ("invalid_event", field)
    assert "required" in rejection.message


WRONG = {
    "type": [
        "null", "1", "{}", '""', '"."', '"a."', '".a"', '"a..b"', '"a b"', '"é"', '"a\\n"', '"a.*"',
        json.dumps("a" * 256), '"ringback.test"', '"\\u0072ingback.test"',
    ],
    "data": ["null", "1", '"{}"', "[]", "true", "[{}]"],
    "id": ["null", "1", '""', '"a.b"', '"a b"', '"é"', '"a\\n"', json.dumps("a" * 129), "[]"],
    "tenant": ["null", "1", '""', '"a.b"', '"a/b"', '"é"', json.dumps("a" * 65)],
    "created_at": ["null", "1", '""', '"2026-11-21"', '"2026-11-21T10:00:00"', '"now"', '"2026-02-30T10:00:00Z"'],
    "deliver_after": ["null", "1795255200", '"2026-11-21T10:00:60Z"', '"2026-11-21T24:00:00Z"'],
    "expires_at": ["null", "1795255200", '"1969-12-31T23:59:59Z"', '"2026-11-21 10:00:00Z"', "{}"],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_by_its_field(field: str, value: str) -> None:
    """Each field rule of the contract refuses with invalid_event and the field's name; null is not absent."""
    members = {"type": '"a"', "data": "{}", field: value}
    line = "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"
    for _ in range(2):  # a remembered value must not change the answer
        rejection = refused(line.encode())
        assert (rejection.code, rejection.field) == ("invalid_event", field)
        assert rejection.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "a" * 255),
        ("type", "A-Z_0.1"),
        ("id", "a" * 128),
        ("id", "-"),
        ("tenant", "_" * 64),
        ("type", "ringback"),
    ],
)
def test_values_at_the_edge_pass(field: str, value: str) -> None:
    """The longest and oddest allowed values are allowed."""
    members = {"type": "a", "data": {}, field: value}
    assert getattr(accepted(json.dumps(members).encode()), field) == value


@pytest.mark.parametrize(("after", "ok"), [("10:00:00.000", False), ("10:00:00.001", False), ("09:59:59.999", True)])
def test_an_event_must_be_deliverable_at_some_moment(after: str, ok: bool) -> None:
    """expires_at at or before deliver_after could never be sent, so it is refused; just after is fine."""
    line = with_data(b'{},"deliver_after":"2026-11-21T%bZ","expires_at":"2026-11-21T10:00:00Z"' % after.encode())
    result = parse(line)
    if ok:
        assert isinstance(result, Event)
    else:
        assert isinstance(result, Rejection)
        assert (result.code, result.field) == ("invalid_event", "expires_at")


def test_an_expiry_in_the_past_is_accepted() -> None:
    """It is a delivery that expires, not a mistake in the line."""
    assert accepted(with_member("expires_at", '"1999-01-01T00:00:00Z"')).expires_at_ms == 915_148_800_000


def digest(line: bytes) -> bytes:
    """The digest of an accepted line."""
    return accepted(line).digest


def test_the_digest_covers_what_was_given_and_no_more() -> None:
    """Same type, data and times: same digest, whatever the id, tenant, order or spacing."""
    base = digest(b'{"type":"a","data":{"x":1},"created_at":"2026-11-21T10:00:00Z"}')
    same = b'{ "created_at" :"2026-11-21T10:00:00Z","id":"7","tenant":"t","data":{"x":1},"type":"\\u0061"}'
    assert digest(same) == base
    assert len(base) == hashlib.sha256().digest_size


def test_the_digest_tells_every_difference() -> None:
    """Any other type, data byte or time, given or not, makes another digest."""
    lines = [
        b'{"type":"a","data":{}}',
        b'{"type":"b","data":{}}',
        b'{"type":"a","data":{ }}',
        b'{"type":"a","data":{"x":1}}',
        b'{"type":"a","data":{},"created_at":"2026-11-21T10:00:00Z"}',
        b'{"type":"a","data":{},"created_at":"2026-11-21T10:00:00.0Z"}',
        b'{"type":"a","data":{},"deliver_after":"2026-11-21T10:00:00Z"}',
        b'{"type":"a","data":{},"expires_at":"2026-11-21T10:00:00Z"}',
        b'{"type":"a","data":{},"expires_at":"2026-11-21T10:00:00Z","created_at":"2026-11-21T10:00:00Z"}',
    ]
    assert len({digest(line) for line in lines}) == len(lines)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_any_json_object_passes_as_data(data: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    """Whatever a JSON library writes is accepted and kept to the byte."""
    text = json.dumps(data, ensure_ascii=ascii_only, indent=indent).encode()
    assert accepted(with_data(text)).data == text


def test_answers_are_as_the_contract_shows_them() -> None:
    """The answer lines match the contract to the byte."""
    assert encode_ok("019a", 2, duplicate=False) == b'{"ok":true,"id":"019a","deliveries":2}\n'
    assert encode_ok("e", 0, duplicate=True) == b'{"ok":true,"id":"e","deliveries":0,"duplicate":true}\n'
    rejection = Rejection("invalid_event", "type must be …", "type")
    expected = '{"ok":false,"error":{"code":"invalid_event","message":"type must be …","field":"type"}}\n'
    assert encode_error(rejection) == expected.encode()
    assert (
        encode_error(Rejection("overloaded", "later"))
        == b'{"ok":false,"error":{"code":"overloaded","message":"later"}}\n'
    )


@given(st.text(), st.none() | st.text())
def test_an_error_answer_is_always_one_line_of_json(message: str, field: str | None) -> None:
    """Whatever a refusal quotes, its answer stays one line that parses back."""
    line = encode_error(Rejection("c", message, field))
    assert line.count(b"\n") == 1
    error = json.loads(line)["error"]
    assert (error["message"], error.get("field")) == (message, field)
