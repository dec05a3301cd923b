"""``ringback config``: which file was looked at, and where each setting comes from."""

import tomllib
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ringback.cli import main


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A configuration, and an environment that has a say in it."""
    found = tmp_path / "ringback.toml"
    found.write_text(
        '[daemon]\nstate_dir = "/srv/ringback"\n[delivery]\ntimeout_s = 3\n'
        '[aliases]\n"asr.done" = "stt.jobs.completed"\n'
    )
    monkeypatch.setenv("RINGBACK_DELIVERY__TIMEOUT_S", "7")
    monkeypatch.delenv("RINGBACK_CONFIG", raising=False)
    return str(found)


def test_a_check_names_the_file_it_looked_at(file):
    """Whoever edited another one learns it here; without any, that the defaults were judged."""
    done = CliRunner().invoke(main, ["config", "check", "--config", file])
    assert (done.exit_code, done.stdout) == (0, f"the configuration is good ({file})\n")


def test_a_check_warns_of_secrets_that_lie_open(open_folder):
    """The endpoints' and the master key's: on standard error, and the configuration is good all the same."""
    for name, text in (("crm", "whsec_c2VjcmV0IG9mIHRoZSBkZWNsYXJlZCBvbmVz"), ("master", "ab" * 32)):
        (open_folder / name).write_text(text)
        (open_folder / name).chmod(0o644)
    file = open_folder / "ringback.toml"
    file.write_text(
        f'daemon.state_dir = "{open_folder}/state"\nencryption.key_file = "{open_folder}/master"\n'
        '[[endpoint]]\nname = "crm"\nurl = "https://crm.example/"\nsecret_file = "crm"\n'
    )
    done = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert (done.exit_code, done.stdout) == (0, f"the configuration is good ({file}); endpoints declared: 1\n")
    assert done.stderr.splitlines() == [
        f"warning: {open_folder}/master: others may read this master key: chmod 600",
        f"warning: {open_folder}/crm: everybody on this machine may read this secret: chmod o-rwx",
    ]


def test_problems_are_folded_between_words_on_a_terminal(file, monkeypatch):
    """There no line is too wide and no word is cut; elsewhere each problem is one line, for grep."""
    monkeypatch.setenv("RINGBACK_DAEMON__STATE_DIR", "relative")
    told = CliRunner().invoke(main, ["config", "check", "--config", file]).stderr.splitlines()
    assert len(told) == 2
    monkeypatch.setattr("ringback.cli.words.sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setenv("COLUMNS", "60")
    shown = CliRunner().invoke(main, ["config", "check", "--config", file]).stderr.splitlines()
    assert len(shown) > 2
    assert max(map(len, shown)) <= 60
    assert " ".join(" ".join(shown).split()) == " ".join(told)


def test_what_is_set_is_shown_with_its_origin(file):
    """The variable that won, the file, or nothing for a default; and it is TOML all the same."""
    shown = CliRunner().invoke(main, ["config", "show", "--config", file]).stdout
    lines = shown.splitlines()
    assert "timeout_s = 7.0  # $RINGBACK_DELIVERY__TIMEOUT_S" in lines
    assert f'state_dir = "/srv/ringback"  # {file}' in lines
    assert f'"asr.done" = "stt.jobs.completed"  # {file}' in lines
    assert "connect_timeout_s = 5.0" in lines
    assert tomllib.loads(shown)["delivery"]["timeout_s"] == 7
