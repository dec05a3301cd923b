"""Lines as JSON: what is refused before any field is looked at, and what hostile lines cost."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core import events
from ringback.core.events import EventLimits, parse_line
from ringback.core.model import Event, Rejection

LIMITS = EventLimits()


def parse(line: bytes, limits: EventLimits = LIMITS) -> Event | Rejection:
    """One line as the daemon would judge it."""
    return parse_line(line, limits, 0, "fresh")


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


def test_size_is_judged_first() -> None:
    """A line over the limit is too_large whatever else is wrong with it, one at the limit is not."""
    limits = EventLimits(max_event_bytes=40)
    assert refused(b"\xff" * 41, limits).code == "too_large"
    fits = with_data(b'{"a":"' + b"x" * 12 + b'"}')
    assert len(fits) == 40
    assert isinstance(parse(fits, limits), Event)
    assert refused(fits + b" ", limits).code == "too_large"


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"a","data":{"x":"\xff"}}',
        b'{"type":"a","data":{"x":"\xc0\x80"}}',
        b'{"type":"a","data":{"x":"\xed\xa0\x80"}}',
        b'{"type":"a","data":{"x":"\xf4\x90\x80\x80"}}',
        b'{"type":"a","data":{"x":"\xe2\x82"}}',
        b'{"type":"\xff","data":{}}',
        b'{"\xff":1}',
        b"\xfe\xff\x00{",
    ],
)
def test_only_strict_utf8_is_json(line: bytes) -> None:
    """Bytes that are no UTF-8 are refused wherever they stand, inside data too."""
    rejection = refused(line)
    assert rejection.code == "invalid_json"
    assert "UTF-8" in rejection.message


def nested(levels: int, brackets: str = "{[") -> bytes:
    """Data that nests that deep, objects and arrays in turn or of one kind."""
    if brackets == "{":
        return b'{"a":' * levels + b"1" + b"}" * levels
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize("brackets", ["{", "{["])
@pytest.mark.parametrize("noise", [b"", b'"[[[[{{{{\\"[[[[\\\\",', b'"\\\\","[",' * 40, b"[],{}," * 50])
def test_nesting_is_cut_at_the_limit(brackets: str, noise: bytes) -> None:
    """Data 64 deep passes and 65 deep doesn't, however many brackets stand in strings or side by side."""
    for levels, code in ((64, None), (65, "invalid_json"), (66, "invalid_json"), (5000, "invalid_json")):
        line = with_data(b'{"n":[' + noise + b'1],"d":' + nested(levels - 1, brackets) + b"}")
        result = parse(line)
        assert getattr(result, "code", None) == code, levels


def test_deep_nesting_outside_data_is_refused_too() -> None:
    """A member nobody knows can't smuggle depth past the check."""
    assert refused(with_member("x", "[" * 200_000 + "]" * 200_000)).code == "invalid_json"
    assert refused(b"[" * 300_000).code == "invalid_json"


def test_a_limit_beyond_the_interpreter_is_still_a_refusal() -> None:
    """If an operator allows more depth than the interpreter bears, the line is refused, not the daemon harmed."""
    deep = EventLimits(max_depth=1_000_000)
    assert refused(with_data(nested(100_000)), deep).code == "invalid_json"
    assert refused(with_member("x", "[" * 100_000 + "]" * 100_000), deep).code == "invalid_json"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"nonsense",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"type":"a","data":{}',
        b'{"type":"a","data":{},}',
        b'{"type":"a","data":{}} x',
        b'{"type":"a""data":{}}',
        b'{type:"a","data":{}}',
        b"{'type':'a','data':{}}",
        b'{"type":"a\n","data":{}}',
        b'{"type":"a","data":{"x":NaN}}',
        b'{"type":"a","data":{"x":Infinity}}',
        b'{"type":"a","data":{"x":-Infinity}}',
        b'{"type":"a","data":{"x":01}}',
        b'{"type":"a","data":{"x":-}}',
        b'{"type":"a","data":{"x":1.}}',
        b'{"type":"a","data":{"x":.5}}',
        b'{"type":"a","data":{"x":+1}}',
        b'{"type":"a","data":{"x":0x1}}',
        b'{"type":"a","data":{"x":tru}}',
        b'{"type":"a","data":{"x":[1,]}}',
        b'{"type":"a","data":{"x":"\x01"}}',
        b'{"type":"a","data":{"x":"\\x"}}',
        b'{"type":"a","data":{"x":"\\u12g4"}}',
        b'{"type":"a","data":{"x":/**/1}}',
        b'{"type":"a","data":{"x":1}]',
        b'[{"type":"a"',
        b'{"type":"a","data":{}}\x00',
    ],
)
def test_what_is_no_json_is_refused(line: bytes) -> None:
    """Each departure from RFC 8259 is invalid_json."""
    assert refused(line).code == "invalid_json"


LONE = [
    r"\ud800",
    r"\udc00",
    r"\ud800\u0041",
    r"\ud800x",
    r"\ud800\n",
    r"\ud800\ud800",
    r"\udfff\ud800",
    r"\\\ud800",
    r"\uD800",
]


PLACES = [
    '"data":{"x":"%s"}',
    '"data":{"%s":1}',
    '"data":{"a":["%s"]}',
    '"unknown":"%s","data":{}',
    '"%s":1,"data":{}',
    '"id":"%s","data":{}',
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("escape", LONE)
def test_a_lone_surrogate_is_refused_everywhere(place: str, escape: str) -> None:
    """Half a character can't be passed on, in a value, a name, or a member we would skip."""
    line = ('{"type":"a",' + place.replace("%s", escape) + "}").encode()
    assert refused(line).code == "invalid_json"


@pytest.mark.parametrize("line", [b"[1]", b"null", b"1", b'"text"', b"true", b"[]", b'[{"type":"a","data":{}}]'])
def test_json_that_is_no_object_is_no_event(line: bytes) -> None:
    """Sound JSON of another kind is invalid_event: the producer's JSON is fine, its event isn't."""
    assert refused(line).code == "invalid_event"


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"a","type":"b","data":{}}',
        b'{"type":"a","type":"a","data":{}}',
        b'{"type":"a","data":{},"data":{"x":1}}',
        b'{"type":"a","data":{"x":1},"data":{}}',
        b'{"type":"a","data":{},"\\u0074ype":"a"}',
        b'{"type":"a","data":{},"id":1,"id":12}',
        b'{"type":"a","data":{},"id":null,"id":"x"}',
        b'{"type":"a","data":{},"x":1,"x":2}',
        b'{"type":"a","data":{},"x":1,"y":{"z":1},"y":1}',
        b'{"type":"a","data":{},"a\\u003a":1,"a:":2}',
        b'{"type":"a","data":{},"a\\u003A":1,"a:":2,"b":"\\\\u003a"}',
        b'{"x":1,"type":"a","type":"b"}',
        b'{"":1,"":1}',
    ],
)
def test_a_member_given_twice_is_refused(line: bytes) -> None:
    """Nobody may rely on which of two wins, not even where a member is unknown or spelt with escapes."""
    rejection = refused(line)
    assert (rejection.code, rejection.field) == ("invalid_json", None)
    assert "twice" in rejection.message


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("foo", "foo"),
        ("Type", "Type"),
        ("", ""),
        ("a:b", "a:b"),
        (":::", ":::"),
        ("data ", "data "),
        ("é", "é"),
        ("a\\b", "a\\b"),
        ("x" * 500, "x" * 64 + "…"),
    ],
)
def test_an_unknown_member_is_named(name: str, shown: str) -> None:
    """The producer is told which member it is, a long name cut short."""
    rejection = refused(with_member(name, '{"a":"b:c"}'))
    assert (rejection.code, rejection.field) == ("unknown_field", shown)


def test_an_unknown_name_written_with_escapes_is_shown_decoded() -> None:
    """Escapes in a name change neither the verdict nor the name shown."""
    line = b'{"type":"a","data":{},"\\u003a\\u003A\\\\u003a":1,"\\\\\\u003a":2}'
    assert refused(line).field == "::\\u003a"


def test_a_known_name_written_with_escapes_is_known() -> None:
    """JSON gives a name many spellings; all of them mean it."""
    event = accepted(rb'{"\u0074ype":"\u0061.b","d\u0061ta":{},"i\u0064":"\u0078"}')
    assert (event.type, event.id) == ("a.b", "x")


def reference(line: bytes) -> str:
    """What the standard library's parser, made strict, says of a line: ``ok`` or the code of the first problem."""

    def no_constant(_name: str) -> None:
        raise ValueError

    try:
        pairs = json.loads(line.decode(), object_pairs_hook=lambda p: p, parse_constant=no_constant)
        json.dumps(pairs, ensure_ascii=False).encode()
    except ValueError:
        return "invalid_json"
    if not line.lstrip(b" \t\r\n").startswith(b"{"):
        return "invalid_event"
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        return "invalid_json"
    return "ok" if set(names) <= {"type", "data", "id"} else "unknown_field"


PIECES = [
    "{", "}", "[", "]", ",", ":", '"', "\\", " ", "\t", "1", "0", "-", ".", "e", "true", "null", "é", "\\\\",
    '"type"', '"data"', '"id"', '"a"', '"type":"a"', '"data":{}', '"id":"x"', ',"x":1', '"x:"', '"x\\u003a"',
    r"\u0041", r"\ud800", r"\udc00", r"\u003a",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_the_parser_agrees_with_a_strict_reference(pieces: list[str]) -> None:
    """On any soup of tokens, what is JSON, what is doubled and what is unknown are judged as a slow parser would."""
    for text in (
        "".join(pieces),
        '{"type":"a","data":{}' + "".join(pieces) + "}",
        '{"type":"a","data":{"x":' + "".join(pieces) + "}}",
    ):
        line = text.encode()
        result, expected = parse(line), reference(line)
        code = result.code if isinstance(result, Rejection) else "ok"
        if expected == "ok":
            assert code in {"ok", "invalid_event"}, (line, result)
        else:
            assert code == expected, (line, result)


@given(st.binary(max_size=200))
def test_garbage_never_raises(line: bytes) -> None:
    """Any bytes get an answer."""
    assert isinstance(parse(line), Rejection)


@pytest.mark.parametrize(
    "unit",
    [
        b"[],", b'"",[],', b'"\\"",', b'"a",', b'"[",', b"[" * 64 + b"]" * 64 + b",", b'"\\\\",', b'":",', b"[",
    ],
)  # fmt: skip
def test_a_hostile_megabyte_takes_no_step_per_byte(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full-size line of any pattern is answered, and the parsers get it at most three times over."""
    seen = 0

    class Counting:
        def __init__(self, inner: msgspec.json.Decoder) -> None:
            self.inner = inner

        def decode(self, line: bytes) -> object:
            nonlocal seen
            seen += len(line)
            return self.inner.decode(line)

    for name in ("_members_decoder", "_every_member_decoder", "_anything_decoder"):
        monkeypatch.setattr(events, name, Counting(getattr(events, name)))
    body = (unit * (LIMITS.max_event_bytes // len(unit)))[: LIMITS.max_event_bytes - 64]
    line = with_data(b'{"a":[' + body[: body.rindex(unit) + len(unit)].rstrip(b",") + b"]}")
    assert isinstance(parse(line), Event | Rejection)
    assert seen <= 3 * len(line)


def test_many_unknown_members_are_one_refusal() -> None:
    """An envelope of tens of thousands of members is refused by the first it shouldn't have."""
    many = b",".join(b'"k%d":1' % n for n in range(50_000))
    assert refused(b'{"type":"a","data":{},' + many + b"}").field == "k0"
    assert refused(b'{"type":"a","data":{},' + many + b',"k7":1}').code == "invalid_json"
