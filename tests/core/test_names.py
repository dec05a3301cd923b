"""The table of type names: who says what how, and which filters ask for it."""

import pytest

from ringback import dialects
from ringback.core.matching import Matcher, Route
from ringback.core.names import TEST_TYPE, Names, check_aliases

NAMES = dialects.vocabulary({"asr.done": "TranscriptionCompletion"})


@pytest.mark.parametrize(
    ("dialect", "type_", "word"),
    [
        ("azure-speech", "stt.jobs.completed", "TranscriptionCompletion"),
        ("azure-speech", "stt.jobs.failed", "TranscriptionCompletion"),
        ("azure-speech", "deepva.transcript.on_created", "TranscriptionCompletion"),
        ("azure-speech", "ModelDeletion", "ModelDeletion"),
        ("azure-speech", TEST_TYPE, "Ping"),
        ("prosa", "TranscriptionCompletion", "stt.jobs.completed"),
        ("prosa", "stt.job.failed", "stt.jobs.failed"),
        ("prosa", "asr.done", "stt.jobs.completed"),
        ("prosa", "any.thing", "any.thing"),
        ("deepva", "stt.jobs.completed", "deepva.transcript.on_created"),
        ("deepva", "stt.jobs.failed", "stt.jobs.failed"),
        ("pulse", "stt.jobs.failed", "asr.failed"),
        ("standard", "TranscriptionCompletion", "TranscriptionCompletion"),
        ("speechlive", "dictation.created", "dictation.created"),
    ],
)
def test_a_type_in_a_dialects_words(dialect, type_, word):
    """Names translate through the common one; what has no word stays as it is."""
    assert NAMES.own(dialect, type_) == word


def test_other_names_of_a_type():
    """Each name leads to all the others; the daemon's own types have none."""
    assert set(NAMES.also("asr.done")) == set(NAMES.also("stt.jobs.completed")) - {"asr.done"} | {"stt.jobs.completed"}
    assert "TranscriptionCompletion" in NAMES.also("stt.jobs.failed")
    assert "stt.jobs.failed" not in NAMES.also("stt.jobs.completed")
    assert NAMES.also(TEST_TYPE) == NAMES.also("Ping") == NAMES.also("x") == ()


def match(pattern, type_):
    """Whether an endpoint with this filter gets that type."""
    return Matcher([Route(1, "t", (pattern,), lambda _: True)], NAMES.also).match("t", type_) == (1,)


@pytest.mark.parametrize(
    ("pattern", "type_", "wanted"),
    [
        ("TranscriptionCompletion", "stt.jobs.completed", True),
        ("stt.jobs.completed", "TranscriptionCompletion", True),
        ("stt.job.completed", "stt.jobs.completed", True),
        ("stt.job.*", "stt.jobs.failed", True),
        ("stt.jobs.*", "TranscriptionCompletion", True),
        ("asr.done", "deepva.transcript.on_created", True),
        ("stt.jobs.completed", "stt.jobs.failed", False),
        ("*", "stt.jobs.completed", False),
        ("*.completed", "stt.jobs.completed", False),
        ("**.on_created", "stt.jobs.completed", False),
        ("*", "TranscriptionCompletion", True),
    ],
)
def test_a_filter_accepts_either_name(pattern, type_, wanted):
    """Any name of a type asks for it, but a pattern that begins with a wildcard counts segments of the given name."""
    assert match(pattern, type_) is wanted


def test_who_wants_but_cannot_say_it_is_told_once():
    """A type met for the first time names the lanes that are left out."""
    matcher = Matcher([Route(1, "t", (), lambda _: True), Route(2, "t", (), lambda _: False)])
    assert matcher.match("t", "a") == (1,)
    assert matcher.unsaid == [("t", "a", (2,))]
    matcher.unsaid.clear()
    assert matcher.match("t", "a") == (1,)
    assert matcher.unsaid == []


def test_aliases_are_checked():
    """Types only, not the daemon's own, none twice, no chains, not too many."""
    known = Names({"d": {"a.b": "AB"}}, {})
    assert check_aliases({"x": "a.b", "y": "AB", "z": "new.type"}, known) == []
    for bad in (
        {"AB": "x"},
        {"a b": "x"},
        {"x": ""},
        {"ringback.x": "a"},
        {"x": "ringback.test"},
        {"x": "y", "y": "z"},
    ):
        assert len(check_aliases(bad, known)) == 1
    assert check_aliases({f"t{n}": "a.b" for n in range(257)}, known) == ["at most 256 aliases, not 257"]
