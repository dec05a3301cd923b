"""The parts behind the API, fresh for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.parts import Parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Everything but the network, running."""
    with Parts(tmp_path) as running:
        yield running
