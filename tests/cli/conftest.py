"""The parts behind the sockets, fresh for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from tests.api.parts import Parts

from ringback.cli import main


@pytest.fixture
def quiet() -> Iterator[None]:
    """The parts run in this process, so their log would stand among a command's output."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def parts(tmp_path: Path, quiet: None) -> Iterator[Parts]:
    """Everything but the network, running."""
    with Parts(tmp_path) as running:
        yield running


@pytest.fixture
def cli(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command against the parts: ``cli("endpoint", "list", input=…)``."""
    monkeypatch.setenv("RINGBACK_SOCKET", parts.control)

    def run(*args: str, stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(main, args, input=stdin)

    return run
