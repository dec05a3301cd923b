"""Sentences on a screen."""

import click
import pytest

from ringback.cli.words import NARROW, counted, fold, folded, plain_lines

SENTENCE = "nothing listens on that port, or a firewall refuses: is the receiver running, and the port right?"


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_sentence_is_folded_between_words_under_its_own_beginning(width):
    """No line is wider than the terminal, no word is cut, and further lines begin where the first one's text did."""
    head = click.style("  problem  ", fg="red")
    lines = fold(head, SENTENCE, width).splitlines()
    assert all(len(click.unstyle(line)) <= width for line in lines)
    assert [line[:11] for line in lines[1:]] == [" " * 11] * (len(lines) - 1)
    assert click.unstyle(" ".join(line.strip() for line in lines)).split() == ["problem", *SENTENCE.split()]


@pytest.mark.parametrize("width", [None, 11 + NARROW - 1])
def test_a_pipe_and_a_very_narrow_terminal_get_the_sentence_as_it_is(width):
    """Where there is no terminal, or no room beside the head, a sentence stays one line."""
    assert fold("  problem  ", SENTENCE, width) == f"  problem  {SENTENCE}"


def test_a_long_id_stays_whole():
    """An id or URL that fits no line is not broken: it can still be copied."""
    word = "x" * 100
    assert word in fold("  ", f"see {word} there", 40)


def test_what_could_steer_a_terminal_is_replaced():
    """Control characters of somebody else's text never reach the screen."""
    assert folded("  ", "red \x1b[31m") == "  red \ufffd[31m"


@pytest.mark.parametrize(("count", "words"), [(0, "0 events"), (1, "1 event"), (1000, "1,000 events")])
def test_things_are_counted_as_people_do(count, words):
    """One of a thing is singular, thousands have a comma."""
    assert counted(count, "event") == words


def test_a_body_keeps_its_lines_and_nothing_that_steers_a_terminal():
    """Ends of lines and tabs are kept as such, the blanks at its end are not; any other control is made visible."""
    assert plain_lines('{\r\n\t"a": 1\n}\n\n') == '{\n    "a": 1\n}'
    assert plain_lines("thank you\n") == "thank you"
    assert plain_lines("a\x1b[2J\nb") == "a�[2J\nb"
