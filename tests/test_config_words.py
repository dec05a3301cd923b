"""The words of problems: our own for whatever the models can find, and all of them at once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ringback.cli import main
from ringback.config import ConfigError, load
from ringback.config.settings import Settings
from ringback.config.words import JSON, TOML, words
from ringback.core.egress import parse_policy
from ringback.service.endpoint_fields import EndpointFields, Refusal, read_create

POLICY = parse_policy(True, ["0.0.0.0/0"], [])


def told(tmp_path: Path, text: str) -> dict[str, str]:
    """The problems of a file by their key."""
    file = tmp_path / "ringback.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load(str(file), {"HOME": "/home/ada"}, 1000)
    return dict(wrong.value.problems)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("[delivery]\nconcurrency = 'x'", "delivery.concurrency", "must be a whole number from 1 to 16384, not 'x'"),
        ("[delivery]\nconcurrency = 1.5", "delivery.concurrency", "must be a whole number from 1 to 16384, not 1.5"),
        ("[delivery]\nconcurrency = 0", "delivery.concurrency", "must be a whole number from 1 to 16384, not 0"),
        ("[delivery]\ntimeout_s = 9999", "delivery.timeout_s", "must be a number from 0.1 to 600, not 9999"),
        ("[delivery]\ntimeout_s = nan", "delivery.timeout_s", "must be a number from 0.1 to 600, not nan"),
        ("[delivery]\nnameservers = 7", "delivery.nameservers", "must be a list, not 7"),
        ("[aliases]\na = 7", "aliases.a", "must be text in quotes, not 7"),
        ("aliases = 7", "aliases", "must be a table, not 7"),
        ("[log]\nlevel = 'loud'", "log.level", "must be one of 'debug', 'info', 'warning' or 'error', not 'loud'"),
        ("[tenant.'a b']", "tenant.a b", "must be 1 to 64 letters, digits, _ or -, not 'a b'"),
    ],
)
def test_settings(tmp_path, text, key, message) -> None:
    """What to write instead, with both ends of the range whatever was wrong."""
    assert told(tmp_path, text)[key] == message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("concurrency", 0, "must be a whole number from 1 to 1024"),
        ("concurrency", "8", "must be a whole number from 1 to 1024"),
        ("timeout_s", 601, "must be a number from 0.1 to 600"),
        ("rate_limit", 5, "must be an object"),
        ("tls_verify", "yes", "must be true or false"),
        ("events", "x", "must be a list"),
        ("headers", [], "must be an object"),
        ("name", "-", "must be 1 to 128 letters, digits, ., _ or -, the first a letter or a digit"),
        ("description", "x" * 1025, "must have at most 1024 characters"),
        ("url", "", "must not be empty"),
        ("dialect", 7, "must be text"),
    ],
)
def test_endpoints(field, value, message) -> None:
    """The same for the API's bodies and for declarations."""
    refused = read_create({"url": "https://a.example.com/"} | {field: value}, "standard", POLICY)
    assert isinstance(refused, Refusal)
    assert [problem.msg for problem in refused.problems] == [message]


def test_a_limit_in_an_inner_object() -> None:
    """Found through the object that holds it."""
    body = {"url": "https://a.example.com/", "rate_limit": {"requests": 1, "per_s": 0}}
    refused = read_create(body, "standard", POLICY)
    assert [(problem.loc, problem.msg) for problem in refused.problems] == [
        (("rate_limit", "per_s"), "must be a number from 0.01 to 86400")
    ]


def test_what_is_ours_already_is_left_alone() -> None:
    """A message of a validator of ours, and an error nobody thought of, have no other words."""
    for model, forms in ((Settings, TOML), (EndpointFields, JSON)):
        assert words({"type": "value_error", "loc": ("x",), "msg": "m", "input": 1}, model, forms) is None


def check(tmp_path: Path, text: str) -> list[str]:
    """What ``config check`` says of a file."""
    file = tmp_path / "ringback.toml"
    file.write_text(f'[daemon]\nstate_dir = "{tmp_path}/s"\n{text}')
    done = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert done.exit_code == 78
    *lines, last = done.stderr.splitlines()
    assert last == f"ringback: the configuration has {len(lines)} problem{'s' * (len(lines) > 1)}"
    return [line.split(":")[0] for line in lines]


ENDPOINT = '[[endpoint]]\nname = "a"\nurl = {}\nconcurrency = {}\n'


def test_settings_and_declarations_are_told_in_one_round(tmp_path) -> None:
    """Who mends one file after the other wants to know of both."""
    text = "[delivery]\nconcurrency = 0\n" + ENDPOINT.format('"https://a.example.com/"', 0)
    assert check(tmp_path, text) == ["delivery.concurrency", "endpoint.0.concurrency"]


@pytest.mark.parametrize(
    ("egress", "url", "keys"),
    [
        ("allow_networks = 7", "http://10.0.0.1/", ["egress.allow_networks"]),
        ("allow_networks = ['10.0.0.0/8']\nproxyy = ''", "http://10.0.0.1/", ["egress.proxyy"]),
        ("deny_networks = ['8.8.8.8/32']", "https://8.8.8.8/", ["delivery.concurrency", "endpoint.0.url"]),
    ],
)
def test_no_problem_is_told_that_is_only_anothers_shadow(tmp_path, egress, url, keys) -> None:
    """Under egress rules that can't be read no address is called forbidden; under good ones it is."""
    bad = "[delivery]\nconcurrency = 0\n" if "delivery.concurrency" in keys else ""
    assert check(tmp_path, f"{bad}[egress]\n{egress}\n" + ENDPOINT.format(json.dumps(url), 8)) == keys


def test_a_file_that_is_no_toml_throws_no_shadow_either(tmp_path) -> None:
    """The folder's declarations are judged beside it, by rules that forbid nothing."""
    folder = tmp_path / "endpoints.d"
    folder.mkdir()
    (folder / "a.toml").write_text(ENDPOINT.format('"http://10.0.0.1/"', 0))
    file = tmp_path / "ringback.toml"
    file.write_text("[")
    done = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert "is not TOML" in done.stderr
    assert "endpoint.0.concurrency: must be a whole number from 1 to 1024" in done.stderr
    assert "10.0.0.1" not in done.stderr
