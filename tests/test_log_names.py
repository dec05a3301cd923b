"""Every name in the log and every metric is written down in docs/operations.md, with what to do about it."""

import ast
import re
from pathlib import Path

from tests.api.test_metrics import NAMES

from ringback.core.model import EndpointStatus

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "daemon" / "ringback").rglob("*.py"))
OPERATIONS, PROTOCOL = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("operations", "protocol"))
COUNTERS = {"events_accepted", "events_rejected", "deliveries", "attempts", "log_dropped"}
METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
#: Functions that pass a name on to the log, by their own name.
PASSING_ON = {"_say", "say", "notice", "_line", "write"}
NAME = re.compile(r"[a-z]+(?:\.[a-z_]+)+")
#: A few of which nobody doubts that they are there: a search that finds nothing would pass everything.
KNOWN = {
    "daemon.ready",
    "delivery.dead",
    "store.full",
    "socket.overloaded",
    "handshake.passed",
    "log.dropped",
    "spool.failed",
}


def names():
    """Every constant dotted name handed to the log or to what passes it on, with the file it stands in."""
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and logs(node.func):
                parts = [part for given in node.args[:2] for part in ast.walk(given) if isinstance(part, ast.Constant)]
                yield from ((part.value, path.name) for part in parts if NAME.fullmatch(str(part.value)))
    for status in EndpointStatus:  # made of the status, in one place
        if status is not EndpointStatus.ACTIVE:
            yield f"endpoint.{status}", "endpoints.py"


def logs(called):
    """Whether this call hands its first arguments to the log."""
    if isinstance(called, ast.Name):
        return called.id in PASSING_ON
    on = called.value if isinstance(called, ast.Attribute) else None
    return on is not None and (
        called.attr in PASSING_ON or (isinstance(on, ast.Name) and on.id == "_log" and called.attr in METHODS)
    )


def documented():
    """Names in the first cells of all tables of operations.md."""
    return words_of(OPERATIONS)


def written_down(document, heading):
    """The names in the tables of one of its chapters."""
    chapter = document.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return {name for name in words_of(chapter) if NAME.fullmatch(name)}


def words_of(text):
    """What stands in backquotes in the first cells of the tables; `daemon.a` `.b` names daemon.b too."""
    found = set()
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        prefix = ""
        for word in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            name = prefix + word if word.startswith(".") else word
            prefix = name.rpartition(".")[0]
            found.add(name)
    return found


def test_the_search_finds_names():
    """It sees every way in which a name gets into the log."""
    assert {name for name, _ in names()} >= KNOWN


def test_every_log_name_says_what_to_do():
    """A name that no table of operations.md explains fails here, with its file."""
    missing = {(name, file) for name, file in names()} - {(n, f) for n, f in names() if n in documented()}
    assert missing == set()


def test_nothing_is_explained_that_is_never_said():
    """A name in the tables of either document that no code logs any more fails here."""
    emitted = {name for name, _ in names()}
    told = written_down(OPERATIONS, "## Lines of the log") | written_down(PROTOCOL, "## The log")
    assert told >= KNOWN - {"handshake.passed"}
    assert told - emitted == set()


def test_every_metric_says_what_to_do():
    """Each name of /metrics stands in the table, as a scraper sees it."""
    shown = {f"{name}_total" if name in COUNTERS else name for name in NAMES}
    assert {name for name in shown if not re.search(rf"`{name}(?:\{{[a-z]+\}})?`", OPERATIONS)} == set()
