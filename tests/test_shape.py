"""The shape of the tree: sizes, docstrings, no leftovers, and the generated document equal to its tables."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from ringback.core import states_doc
from ringback.core.endpoint_state import EndpointEvent
from ringback.core.lifecycle import Step
from ringback.core.model import DeliveryState, EndpointStatus

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "daemon" / "ringback").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SQL = sorted((ROOT / "daemon" / "ringback").rglob("*.sql"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 8

#: What is over the caps today. The lists may only shrink: an entry that is no longer needed fails the test.
LONG_FILES: frozenset[str] = frozenset()
LONG_FUNCTIONS: frozenset[str] = frozenset()

#: Split, so that this file doesn't find itself.
LEFTOVERS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")


def name(path):
    """A file as the lists name it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path):
    """(name, node) of every function in a file, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}::{node.name}", node


def code_lines(node):
    """Lines from ``def`` to the end, without decorators and docstring."""
    documented = ast.get_docstring(node, clean=False) is not None
    return node.end_lineno - node.lineno + 1 - (node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0)


def ids(paths):
    """Test ids that say which file."""
    return [name(path) for path in paths]


def test_the_tree_is_found():
    """The walk sees both the package and the tests; an empty walk would pass everything."""
    assert {"daemon/ringback/core/model.py", "tests/test_shape.py"} <= {name(path) for path in PACKAGE + TESTS}


def test_no_file_is_too_long():
    """A file has at most 400 lines, and the list of exceptions only shrinks."""
    too_long = {name(path) for path in PACKAGE + TESTS if len(path.read_text().splitlines()) > MAX_FILE_LINES}
    assert too_long == LONG_FILES


def test_no_function_is_too_long():
    """A function has at most 60 lines, and the list of exceptions only shrinks."""
    too_long = {
        called
        for path in PACKAGE + TESTS
        for called, node in functions(path)
        if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert too_long == LONG_FUNCTIONS


def test_the_median_function_is_short():
    """Half of the package's functions have at most eight lines of code."""
    lengths = sorted(code_lines(node) for path in PACKAGE for _, node in functions(path))
    assert lengths[len(lengths) // 2] <= MEDIAN_FUNCTION_LINES


@pytest.mark.parametrize("path", PACKAGE + TESTS, ids=ids(PACKAGE + TESTS))
def test_modules_say_what_they_are(path):
    """Every module that holds anything begins with a docstring."""
    assert ast.get_docstring(tree(path)) or not tree(path).body


@pytest.mark.parametrize("path", PACKAGE + TESTS + SQL, ids=ids(PACKAGE + TESTS + SQL))
def test_no_leftovers(path):
    """Nothing is marked as still to do."""
    assert LEFTOVERS.findall(path.read_text()) == []


@pytest.mark.parametrize("path", TESTS, ids=ids(TESTS))
def test_every_test_says_what_must_hold(path):
    """Every test function has a docstring of one sentence or more."""
    silent = [
        called for called, node in functions(path) if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_states_md_is_the_tables():
    """docs/states.md equals what the tables render; the head of the file says how to regenerate it."""
    assert (ROOT / "docs" / "states.md").read_text() == states_doc.render()


def test_every_state_and_step_has_words():
    """No state, step or event is left without its words on meaning, crash and cleaning up."""
    assert set(states_doc.DELIVERY_WORDS) == set(DeliveryState)
    assert set(states_doc.ENDPOINT_WORDS) == set(EndpointStatus)
    assert set(states_doc.STEP_WORDS) == set(Step)
    assert set(states_doc.EVENT_WORDS) == set(EndpointEvent)
    assert all(all(words) for words in [*states_doc.DELIVERY_WORDS.values(), *states_doc.ENDPOINT_WORDS.values()])


def test_decisions_are_numbered_without_gaps():
    """docs/adr holds one file a number, each with that number in its title, its date and its three sections."""
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert text.startswith(f"# {int(record.name[:4])}. "), record.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE), record.name
        assert all(f"\n## {section}\n" in text for section in ("Context", "Decision", "Consequences")), record.name
