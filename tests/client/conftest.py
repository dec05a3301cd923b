"""What the producers' tests share."""

import pytest
from tests.client.script import Script


@pytest.fixture
def scripted(tmp_path):
    """Make a scripted daemon; ended with the test."""
    made = []

    def make(answer):
        made.append(Script(tmp_path, answer))
        return made[-1]

    yield make
    for script in made:
        script.close()
