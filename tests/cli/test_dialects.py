"""``ringback dialects`` and the options it lists."""

import json

import pytest
from click.testing import CliRunner

from ringback import dialects
from ringback.cli import main


def run(*args: str):
    """One command, without a daemon."""
    return CliRunner().invoke(main, list(args))


def test_every_dialect_is_listed_with_its_options() -> None:
    """Names, descriptions, options and their values; JSON holds the same."""
    text = run("dialects").output
    found = json.loads(run("dialects", "--json").output)["data"]
    assert [one["name"] for one in found] == list(dialects.names())
    for one in found:
        assert f"{one['name']}: {one['description']}" in text
        assert all(f"--option {name}=" in text for name in one["options"])
    assert found[0]["handshake"] == "azure-speech"


@pytest.mark.parametrize("text", ["signature", "=hmac"])
def test_an_option_needs_a_name_and_a_value(text: str) -> None:
    """What is no pair is a mistake in the call."""
    answer = run("endpoint", "add", "https://a.example.com/", "--option", text)
    assert answer.exit_code == 2
    assert "NAME=VALUE" in answer.output
