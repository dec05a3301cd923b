"""What every test folder shares: the ``--long`` switch, the harness's fixtures, and a check for left-over processes.

The environment of who runs the tests doesn't decide them: what would reach the daemons and commands started here (an
operator's own settings, a service manager's, a terminal's width and colours) is left out, and no proxy stands before
this machine. Byte code is kept: over a hundred daemons are started, and without it each compiles the package anew.
"""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.spread import Spread, slow_first
from xdist.remote import Producer

FOREIGN = ("RINGBACK_", "NOTIFY_", "LISTEN_", "WATCHDOG_")
FOREIGN_NAMES = {
    *("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "PYTHONDEVMODE"),
}
for _name in list(os.environ):
    if _name.startswith(FOREIGN) or _name in FOREIGN_NAMES:
        del os.environ[_name]
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))
sys.dont_write_bytecode = False

# How long an example takes says how busy the machine is. What else holds (in CI: the same examples each time) stays.
settings.register_profile("ringback", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ringback")

#: Of ``-n auto``, however many cores there are: each process has all the tests to import.
MAX_PROCESSES = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long``: the full numbers."""
    parser.addoption("--long", action="store_true", help="run the full numbers (make check-long)")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread:
    """Spread the tests over the processes of ``-n``."""
    return Spread(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many ``-n auto`` starts: one more than there are cores, for tests wait more than they compute."""
    return min(MAX_PROCESSES, (os.cpu_count() or 1) + 1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Tests marked ``long`` run only with ``--long``; with ``-n`` the slow ones go first, once all are shuffled."""
    _skip_long(config, items)
    yield
    if hasattr(config, "workerinput"):
        items[:] = slow_first(items)


def _skip_long(config: pytest.Config, items: list[pytest.Item]) -> None:
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
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach, as those of ``tmp_path`` are not."""
    with TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


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
