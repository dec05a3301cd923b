"""The line splitter: any chunking of a stream gives the same lines, and nothing smuggles an event."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ringback.transports.lines import BLANK, MAX_BLANKS, TOO_LONG, LineBuffer

LIMIT = 12


def split(chunks, limit=LIMIT):
    """Feed chunks one by one, taking all there is after each; return lines (None for a too long one)."""
    buffer = LineBuffer(limit)
    lines = []
    for chunk in chunks:
        buffer.feed(chunk)
        while (line := buffer.take()) is not None:
            if line != BLANK:
                lines.append(None if line is TOO_LONG else line)
        assert len(buffer) <= limit
    return lines


def naive(stream, limit=LIMIT):
    """The rules of SEMANTICS, said plainly."""
    *lines, rest = stream.split(b"\n")
    shown = [None if len(line) > limit else line.removesuffix(b"\r") for line in lines]
    shown = [line for line in shown if line is None or line.strip(b" \t\n\r\v\f")]
    return [*shown, None] if len(rest) > limit else shown


def cut(stream, places):
    """The stream in chunks, cut at these places."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


streams = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b" ", b"\0", b"a", b"{}", b"\xff", b"x" * 7, b"y" * 13]), max_size=40
)


@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_chunking_gives_the_lines_of_the_naive_split(pieces, places):
    """However the bytes are cut, the lines are those of the whole stream split at LF."""
    stream = b"".join(pieces)
    assert split(cut(stream, places)) == naive(stream)


@given(streams)
def test_byte_by_byte_is_no_different(pieces):
    """A producer that writes single bytes gets the same lines."""
    stream = b"".join(pieces)
    assert split([stream[i : i + 1] for i in range(len(stream))]) == naive(stream)


@given(streams, st.lists(st.integers(1, 3), min_size=1))
def test_taking_late_loses_nothing(pieces, pauses):
    """Lines that wait in the buffer while more is fed come out whole and in order."""
    stream = b"".join(pieces)
    buffer, lines, at = LineBuffer(10_000), [], 0
    for step in pauses:
        buffer.feed(stream[at : at + 5 * step])
        at += 5 * step
        line = buffer.take()
        if line:
            lines.append(line)
    buffer.feed(stream[at:])
    while (line := buffer.take()) is not None:
        lines += [line] if line else []
    assert lines == naive(stream, 10_000)


def test_the_tail_of_a_too_long_line_is_never_a_line_wherever_it_is_cut():
    """No cut in two or three of an oversized line makes an event of its tail."""
    evil = b'{"id":"EVIL"}'
    stream = b"A" * 30 + evil + b"\n" + b"good\n"
    for first in range(len(stream)):
        for second in range(first, len(stream), 5):
            chunks = [stream[:first], stream[first:second], stream[second:]]
            assert split(chunks, limit=len(evil)) == [None, b"good"], (first, second)


def test_a_line_of_exactly_the_limit_passes_and_one_more_byte_does_not():
    """The limit counts the line without its LF."""
    assert split([b"x" * LIMIT + b"\n"]) == [b"x" * LIMIT]
    assert split([b"x" * (LIMIT + 1) + b"\n"]) == [None]


def test_an_endless_line_is_reported_once_and_not_stored():
    """A producer that never ends its line costs one report and no memory."""
    buffer = LineBuffer(LIMIT)
    reports = 0
    for _ in range(1000):
        buffer.feed(b"x" * 1000)
        assert len(buffer) <= LIMIT + 1000
        while (line := buffer.take()) is not None:
            assert line is TOO_LONG
            reports += 1
        assert len(buffer) == 0
    assert reports == 1


def test_a_long_line_in_crumbs_is_searched_once():
    """A megabyte in single bytes takes linear time: the search for LF never starts over."""
    buffer = LineBuffer(1 << 20)
    crumb = b"x" * 64
    for _ in range(1 << 14):
        buffer.feed(crumb)
        assert buffer.take() is None
    buffer.feed(b"\n")
    line = buffer.take()
    assert line is not None
    assert len(line) == 1 << 20


def test_a_flood_of_blank_lines_comes_in_small_portions():
    """Blank lines say nothing, yet whoever sends a hundred thousand must let others have their turn in between."""
    buffer = LineBuffer(LIMIT)
    buffer.feed(b"\n" * (10 * MAX_BLANKS) + b"a\n")
    taken = [buffer.take() for _ in range(12)]
    assert taken == [BLANK] * 10 + [b"a", None]
