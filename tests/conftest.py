"""What every test folder shares: the ``--long`` switch, the harness's fixtures, and a check for left-over processes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long``: the full numbers."""
    parser.addoption("--long", action="store_true", help="run the full numbers (make check-long)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``long`` run only with ``--long``."""
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="the full numbers: run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the full numbers are asked for."""
    return bool(request.config.getoption("--long"))


def children() -> set[str]:
    """The ids of this process's children, zombies too."""
    found: set[str] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found.update(path.read_text().split())
    return found


@pytest.fixture(autouse=True)
def _no_child_stays() -> Iterator[None]:
    """A test that leaves a process behind fails."""
    before = children()
    yield
    left = children() - before
    assert not left, f"left running: {left}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver process of this test's own."""
    with Receiver() as running:
        yield running


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon, not yet started, whose process and files go with the test."""
    with Daemon() as made:
        yield made
