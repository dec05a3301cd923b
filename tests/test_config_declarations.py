"""Declared endpoints as files: where they are found, whose secret is read from where, and every problem at once."""

import os
from pathlib import Path

import pytest

from ringback.config import ConfigError, load, load_all
from ringback.config.declarations import MAX_FILES, MAX_SECRET_BYTES
from ringback.service.reload import judge_all, problems_of

HOME = {"HOME": "/home/ada"}


@pytest.fixture
def main(tmp_path):
    """The configuration beside which the folder lies."""
    (tmp_path / "endpoints.d").mkdir()
    file = tmp_path / "ringback.toml"
    file.write_text("")
    return file


def declared(main, env=None):
    """What is declared: {key: fields}."""
    return {found.key: dict(found.fields) for found in load_all(str(main), HOME | (env or {}), 1000).declarations}


def problems(main, env=None):
    """Load what must fail; {key: message}."""
    with pytest.raises(ConfigError) as caught:
        load_all(str(main), HOME | (env or {}), 1000)
    return dict(caught.value.problems)


def test_both_places_are_read_in_order(main):
    """The file's own tables come first, then the folder's files by name; hidden and other files are ignored."""
    main.write_text('[[endpoint]]\nname = "a"\n[[endpoint]]\nname = "b"\n')
    for name, text in (("20.toml", "d"), ("10.toml", "c"), (".30.toml", "x"), ("40.toml~", "y")):
        (main.parent / "endpoints.d" / name).write_text(f'[[endpoint]]\nname = "{text}"\n')
    assert declared(main) == {
        "endpoint.0": {"name": "a"},
        "endpoint.1": {"name": "b"},
        "endpoints.d/10.toml: endpoint.0": {"name": "c"},
        "endpoints.d/20.toml: endpoint.0": {"name": "d"},
    }


def test_no_file_declares_nothing(tmp_path):
    """Neither the defaults nor a file without a folder beside it declare anything."""
    assert load_all("/dev/null", HOME, 1000).declarations == []
    (tmp_path / "ringback.toml").write_text("")
    assert declared(tmp_path / "ringback.toml") == {}


def test_what_stands_in_the_folder_s_place_is_a_problem(main):
    """Were it taken for no folder, a reload would disable every endpoint that the folder declared."""
    folder = main.parent / "endpoints.d"
    folder.rmdir()
    folder.write_text("")
    assert problems(main) == {"endpoints.d": "can't be read: Not a directory"}
    folder.unlink()
    folder.symlink_to(main.parent / "not-mounted-yet")
    assert problems(main) == {"endpoints.d": "can't be read: No such file or directory"}


def test_a_secret_is_read_from_a_file_beside_the_declaring_one(main):
    """A relative path starts at the declaring file's folder; the line's end doesn't count; an absolute one stands."""
    (main.parent / "endpoints.d" / "crm.key").write_text("whsec_abc\n")
    (main.parent / "endpoints.d" / "crm.toml").write_text('[[endpoint]]\nsecret_file = "crm.key"\n')
    main.write_text(f'[[endpoint]]\nsecret_file = "{main.parent}/endpoints.d/crm.key"\n')
    assert [fields["secret"] for fields in declared(main).values()] == ["whsec_abc", "whsec_abc"]
    assert all("secret_file" not in fields for fields in declared(main).values())


def test_a_credential_of_the_unit_wins(main, tmp_path):
    """Under systemd a relative name is a credential, if there is one of that name."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "crm").write_text("from systemd")
    (main.parent / "crm").write_text("from the folder")
    main.write_text('[[endpoint]]\nsecret_file = "crm"\n')
    assert declared(main)["endpoint.0"]["secret"] == "from the folder"
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert declared(main, env)["endpoint.0"]["secret"] == "from systemd"


def test_every_problem_of_every_file_is_told_at_once(main):
    """Problems of the settings and of all declarations come together, each with its file and place."""
    folder = main.parent / "endpoints.d"
    main.write_text('[delivery]\nconcurrency = 0\n[[endpoint]]\nsecret = "s"\nsecret_file = "none"\n')
    (folder / "a.toml").write_text("[[endpoint")
    (folder / "b.toml").write_text('url = "https://x.example"\n[endpoint]\nname = "b"\n')
    (folder / "c.toml").write_text('[[endpoint]]\nsecret_file = "none"\n[[endpoint]]\nsecret_file = 3\n')
    (folder / "d.toml").write_text('[[endpoint]]\nsecret_file = "empty"\n[[endpoint]]\nsecret_file = "long"\n')
    (folder / "empty").write_text("\n")
    (folder / "long").write_text("x" * (MAX_SECRET_BYTES + 1))
    told = problems(main)
    assert told.keys() == {
        "delivery.concurrency",
        "endpoint.0.secret_file",
        "endpoints.d/a.toml",
        "endpoints.d/b.toml: url",
        "endpoints.d/b.toml: endpoint",
        "endpoints.d/c.toml: endpoint.0.secret_file",
        "endpoints.d/c.toml: endpoint.1.secret_file",
        "endpoints.d/d.toml: endpoint.0.secret_file",
        "endpoints.d/d.toml: endpoint.1.secret_file",
    }
    assert "excludes secret" in told["endpoint.0.secret_file"]
    assert "is not there" in told["endpoints.d/c.toml: endpoint.0.secret_file"]
    told = problems(main, {"CREDENTIALS_DIRECTORY": str(folder)})
    assert "No such file" in told["endpoints.d/c.toml: endpoint.0.secret_file"]


def test_a_client_of_the_daemon_does_not_read_declarations(main):
    """Whoever only looks for the socket need not be able to read the secrets."""
    main.write_text('[[endpoint]]\nsecret_file = "/nonexistent/secret"\n')
    assert load(str(main), HOME, 1000).delivery.concurrency == 512


def test_the_shipped_example_is_good(main):
    """The example that is installed beside the configuration is a declaration the API would take."""
    example = Path(__file__).parent.parent / "config" / "endpoints.d" / "crm.toml.example"
    (main.parent / "endpoints.d" / "crm.toml").write_text(example.read_text())
    (wanted,) = judge_all(load_all(str(main), HOME, 1000))
    assert (wanted.tenant, wanted.name) == ("default", "crm")


def test_the_number_of_files_is_bounded(main):
    """A folder full of files is refused as a whole rather than read."""
    for number in range(MAX_FILES + 1):
        (main.parent / "endpoints.d" / f"{number}.toml").touch()
    assert "at most 1000" in problems(main)["endpoints.d"]


def test_a_secret_that_cannot_be_looked_for_is_a_problem(main, tmp_path):
    """A name that the system refuses, also among credentials: told like the rest, and no reload ends the daemon."""
    name = "a" * 300
    main.write_text(f'[[endpoint]]\nsecret_file = "{name}"\n')
    expected = {"endpoint.0.secret_file": "can't be read: File name too long"}
    assert problems(main) == expected
    assert problems(main, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == expected


def test_a_misspelt_field_is_guessed(main):
    """A declaration's unknown field names the one that was perhaps meant, beside every other problem."""
    main.write_text('[[endpoint]]\nname = "crm"\nurl = "https://example.com/"\ndialcet = "prosa"\nevents = 3\n')
    with pytest.raises(ConfigError) as caught:
        judge_all(load_all(str(main), HOME, 1000))
    assert caught.value.problems == [
        ("endpoint.0.dialcet", "unknown field; did you mean dialect?"),
        ("endpoint.0.events", "must be a list"),
    ]


def test_a_pipe_holds_no_start_or_reload_up(main):
    """Where a secret or a file of endpoints is one: named at once, beside the rest."""
    os.mkfifo(main.parent / "crm.key")
    os.mkfifo(main.parent / "endpoints.d" / "all.toml")
    main.write_text('[[endpoint]]\nsecret_file = "crm.key"\n')
    with pytest.raises(ConfigError) as caught:
        declared(main)
    assert sorted(caught.value.problems) == [
        ("endpoint.0.secret_file", "is no regular file"),
        ("endpoints.d/all.toml", "is no regular file"),
    ]


def test_a_file_that_cannot_be_read_forbids_no_address(main):
    """Of declarations beside a broken configuration only what is wrong whatever it says is told: no shadows of it."""
    (main.parent / "endpoints.d" / "a.toml").write_text(
        '[[endpoint]]\nname = "near"\nurl = "http://127.0.0.1/"\n[[endpoint]]\nname = "far"\nurl = "gopher://x/"\n'
    )
    main.write_text("[egress]\nallow_networks =\n")
    with pytest.raises(ConfigError) as caught:
        load_all(str(main), HOME, 1000)
    assert [key for key, _ in problems_of(caught.value.rest)] == ["endpoints.d/a.toml: endpoint.1.url"]
