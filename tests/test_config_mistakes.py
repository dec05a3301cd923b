"""Settings: what was meant and misspelt, in a file or in the environment, is told by name."""

import os
from pathlib import Path

import pytest
from tests.test_config import HOME, problems, write

from ringback.config import ConfigError, load, load_all


@pytest.mark.parametrize(
    "variable", ["RINGBACK_DELIVERY_TIMEOUT_S", "RINGBACK_DELIVERY__TIMEOUT__S", "RINGBACK_DELIVERY___TIMEOUT_S"]
)
def test_a_variable_that_misses_its_key_by_underscores_is_told(variable):
    """What was meant to set a key sets it or is a problem; it is never passed over."""
    told = problems(None, {"RINGBACK_CONFIG": "/dev/null", variable: "10"})
    said = f"is set by $RINGBACK_DELIVERY__TIMEOUT_S, not by ${variable}: tables end in two underscores"
    assert told == {"delivery.timeout_s": said}


def test_other_people_s_variables_are_not_ours():
    """What a container platform or a script sets under our prefix, without a key's spelling, harms nothing."""
    env = {**HOME, "RINGBACK_PORT": "tcp://10.0.0.1:80", "RINGBACK_SERVICE_HOST": "10.0.0.1", "RINGBACK_API": "x"}
    assert load("/dev/null", env, 1000) == load("/dev/null", HOME, 1000)


def test_a_variable_that_sets_what_is_unknown_is_named():
    """Also where only its table is unknown, and where it would declare an endpoint."""
    env = {"RINGBACK_DELIVRY__TIMEOUT_S": "10", "RINGBACK_ENDPOINT__URL": "https://example.com/"}
    assert problems(Path("/dev/null"), env) == {
        "delivry": "unknown key; did you mean delivery? (set by $RINGBACK_DELIVRY__TIMEOUT_S)",
        "endpoint": "endpoints are declared in files, not by $RINGBACK_ENDPOINT__URL",
    }


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[[endpoints]]", "endpoints", "endpoint"),
        ("[tenant.acme]\ncallback.enabled = true", "tenant.acme.callback", "callbacks"),
        ("[tenant.acme.callbacks]\nhost = []", "tenant.acme.callbacks.host", "hosts"),
    ],
)
def test_what_was_meant_is_guessed_everywhere(tmp_path, text, key, meant):
    """Endpoints and tenants' own tables included."""
    assert problems(write(tmp_path, text)) == {key: f"unknown key; did you mean {meant}?"}


def test_a_group_that_is_not_there_is_a_problem_of_its_key(tmp_path):
    """Found by a check, not by a start that ends half-way; the daemon's clients need not have the group."""
    file = write(tmp_path, '[ingest.socket]\ngroup = "no-such-group"\n[api]\ngroup = "99999999999"\n')
    with pytest.raises(ConfigError) as caught:
        load_all(str(file), HOME, 1000)
    assert dict(caught.value.problems) == {
        "ingest.socket.group": "there is no group 'no-such-group' here",
        "api.group": "there is no group '99999999999' here",
    }
    assert load(str(file), HOME, 1000).api.group == "99999999999"
    assert load_all(str(write(tmp_path, '[api]\ngroup = "0"\n[ingest.socket]\ngroup = "root"')), HOME, 1000)


def test_brackets_without_end_are_a_problem(tmp_path):
    """Nesting that no parser follows to its end is told like any other bad file."""
    deep = "a = " + "[" * 200_000
    file = write(tmp_path, deep)
    assert "is not TOML" in problems(file)[str(file)]
    folder = tmp_path / "endpoints.d"
    folder.mkdir()
    (folder / "deep.toml").write_text(deep)
    with pytest.raises(ConfigError, match=r"deep\.toml: is not TOML"):
        load_all(str(write(tmp_path, "")), HOME, 1000)


def test_a_pipe_in_the_file_s_place_holds_no_reload_up(tmp_path):
    """It is refused at once, as nobody may ever write to it; what a shell hands over is read."""
    os.mkfifo(tmp_path / "ringback.toml")
    assert "is a pipe" in problems(tmp_path / "ringback.toml")[str(tmp_path / "ringback.toml")]
    reading, writing = os.pipe()
    os.write(writing, b"delivery.concurrency = 7")
    os.close(writing)
    assert load(f"/dev/fd/{reading}", HOME, 1000).delivery.concurrency == 7
    os.close(reading)


def test_a_terminal_in_the_file_s_place_is_a_problem_like_any_other(tmp_path):
    """There is nothing to read from it: a reload that met one was the daemon's end."""
    master, slave = os.openpty()
    (tmp_path / "ringback.toml").symlink_to(os.ttyname(slave))
    told = problems(tmp_path / "ringback.toml")[str(tmp_path / "ringback.toml")]
    os.close(master)
    os.close(slave)
    assert "nothing to read" in told
