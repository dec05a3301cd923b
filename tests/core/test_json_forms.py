"""JSON in other programs' forms: what they would write, and nothing lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.json_forms import compact_form, dotnet_escapes, python_form

STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=12,
)
DATA = st.dictionaries(STRINGS, VALUES, max_size=4)


@given(DATA, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_pythons_form_is_what_dumps_writes(data, indent, ascii_only):
    """However a producer wrote it, what comes out is json.dumps of what it means."""
    written = json.dumps(data, indent=indent, ensure_ascii=ascii_only).encode()
    assert python_form(written) == json.dumps(data).encode()


@given(DATA, st.sampled_from([None, 1]), st.booleans())
def test_the_compact_form_is_what_stringify_writes(data, indent, ascii_only):
    """No blanks, raw UTF-8, the short escapes."""
    written = json.dumps(data, indent=indent, ensure_ascii=ascii_only).encode()
    assert compact_form(written) == json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


@given(DATA)
def test_dotnets_escapes_mean_the_same(data):
    """Escaped text is ASCII, has none of the characters .NET escapes, and reads back equal."""
    escaped = dotnet_escapes(json.dumps(data, ensure_ascii=False).encode())
    assert json.loads(escaped) == data
    assert not set(escaped.decode()) & set("<>&'`\x7f")
    assert escaped.isascii()


@pytest.mark.parametrize(
    ("text", "python", "compact"),
    [
        (b'{"n":18446744073709551616}', b'{"n": 18446744073709551616}', b'{"n":18446744073709551616}'),
        (b'{"n":1e400, "m":-0.0,"k":1E+2}', b'{"n": 1e400, "m": -0.0, "k": 1E+2}', b'{"n":1e400,"m":-0.0,"k":1E+2}'),
        (b'{"a":1,"a":2}', b'{"a": 1, "a": 2}', b'{"a":1,"a":2}'),
        (b"{ \r\n}", b"{}", b"{}"),
        (b'{"s":"\\/ \\u0041 a:b, c"}', b'{"s": "/ A a:b, c"}', b'{"s":"/ A a:b, c"}'),
        ('{"ü":"😀"}'.encode(), b'{"\\u00fc": "\\ud83d\\ude00"}', '{"ü":"😀"}'.encode()),
        (
            b'{"p":"\\ud83d\\ude00\\u00FC\\u001f\\n"}',
            b'{"p": "\\ud83d\\ude00\\u00fc\\u001f\\n"}',
            '{"p":"😀ü\\u001f\\n"}'.encode(),
        ),
        (b'{"d":"\x7f"}', b'{"d": "\\u007f"}', b'{"d":"\x7f"}'),
    ],
)
def test_what_a_parser_would_lose_stays(text, python, compact):
    """Big numbers, doubled members, escapes, umlauts, surrogate pairs, DEL: to the byte."""
    assert python_form(text) == python
    assert compact_form(text) == compact


def test_dotnet_writes_upper_case_hex():
    """The characters its default encoder treats as dangerous, and number tokens left alone."""
    text = '{"a+b":"<&>\'`\\"\\\\\\n é 😀","n":1E+2}'.encode()
    assert dotnet_escapes(text) == (
        b'{"a\\u002Bb":"\\u003C\\u0026\\u003E\\u0027\\u0060\\u0022\\\\\\n \\u00E9 \\uD83D\\uDE00","n":1E+2}'
    )


def test_dotnet_escapes_all_but_plain_ascii_and_does_it_alike_each_time():
    """Every character once and once more: only .NET's basic Latin without its dangerous ones stays as it is."""
    chars = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x10800)]))
    text = json.dumps(chars, ensure_ascii=False).encode()
    first = dotnet_escapes(text)
    assert json.loads(first) == chars
    assert first == dotnet_escapes(text)
    plain = {c for c in map(chr, range(0x20, 0x7F)) if dotnet_escapes(json.dumps(c).encode()) == f'"{c}"'.encode()}
    assert set(map(chr, range(0x20, 0x7F))) - plain == set("\"&'+<>\\`")
