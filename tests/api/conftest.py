"""The parts behind the API, fresh for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.parts import Parts
from tests.store.kit import MASTERS


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Everything but the network, running; with encryption at rest, as whoever needs it would have it."""
    with Parts(tmp_path, masters=MASTERS) as running:
        yield running
