"""The master key: every form of it, where it may come from, and what is said of what is no key."""

import base64
import os
import secrets

import pytest

from ringback.config import ConfigError, load, load_all
from ringback.config.master_key import MAX_FILE_BYTES, MasterKeys, read_master_keys
from ringback.core.envelope import Key
from ringback.store.keyring import Masters

#: With a byte that no text has, as 32 random bytes nearly always do.
RAW = bytes(range(224, 256))
OTHER = bytes(range(192, 224))

FORMS = {
    "as it is": RAW,
    "hex": RAW.hex().encode(),
    "hex, large, with its line's end": RAW.hex().upper().encode() + b"\n",
    "base64": base64.b64encode(RAW),
    "base64, as openssl prints it": base64.b64encode(RAW) + b"\n",
    "base64, with blanks around it": b"  " + base64.b64encode(RAW) + b"\r\n",
}
NO_KEYS = {
    "empty": b"",
    "a line's end": b"\n",
    "a short one": base64.b64encode(RAW[:31]),
    "a long one": base64.b64encode(RAW + b"x"),
    "half of the hex": RAW.hex().encode()[:32],
    "a passphrase of 32 letters": b"correct horse battery staple 123",
    "31 bytes": RAW[:31],
    "33 bytes": RAW + b"\xff",
    "words": b"the key is somewhere else, ask the other team",
    "two keys": base64.b64encode(RAW) + b"\n" + base64.b64encode(OTHER),
    "too large a file": RAW.hex().encode() + b"\n" * MAX_FILE_BYTES,
}


def held(path, content: bytes, mode: int = 0o600) -> str:
    """A file with that content; its path."""
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def unit(tmp_path):
    """The folder of a unit's credentials."""
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


def env(unit) -> dict[str, str]:
    """What systemd tells."""
    return {"CREDENTIALS_DIRECTORY": str(unit)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_key_is_read(tmp_path, form):
    """32 bytes, hex in either case, base64, with or without an end of line."""
    assert read_master_keys(held(tmp_path / "k", FORMS[form]), "", {}) == (MasterKeys(RAW), [])


def test_what_the_documents_tell_to_run_makes_a_key(tmp_path):
    """``openssl rand -base64 32`` and ``openssl rand 32``, many times: bytes that are no text, or text that is one."""
    for _ in range(50):
        key = secrets.token_bytes(32)
        for content in (key, base64.b64encode(key) + b"\n", key.hex().encode()):
            assert read_master_keys(held(tmp_path / "k", content), "", {})[0].key == key


def test_a_pipe_holds_no_start_up(tmp_path):
    """Nor a device: only a regular file is read, and what isn't one is named at once."""
    os.mkfifo(tmp_path / "k")
    for path in (str(tmp_path / "k"), "/dev/zero"):
        assert read_master_keys(path, "", {})[1] == [("encryption.key_file", f"{path} is no regular file")]


def test_a_key_is_in_no_representation(tmp_path):
    """Nor what hands it on: whatever prints it shows none of it."""
    for held_by in (MasterKeys(RAW, OTHER), Masters(RAW, OTHER), Key(RAW, 1)):
        for key in (RAW, OTHER):
            assert repr(key)[2:-1] not in f"{held_by} {held_by!r}"


@pytest.mark.parametrize("what", NO_KEYS)
def test_what_is_no_key_is_refused_without_being_shown(tmp_path, what):
    """By the setting's name and the file's, with what to do; nothing of the content is in the words."""
    found, ((setting, words),) = read_master_keys(held(tmp_path / "k", NO_KEYS[what]), "", {})
    assert found.key is None
    assert setting == "encryption.key_file"
    assert words.startswith(f"{tmp_path / 'k'} holds no key")
    assert "openssl rand" in words
    for piece in NO_KEYS[what].split():
        assert len(piece) < 5 or piece.decode(errors="replace") not in words.replace(str(tmp_path), "")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, a directory, and the old one's too: all problems at once."""
    _, problems = read_master_keys(str(tmp_path / "none"), str(tmp_path), {})
    assert [setting for setting, _ in problems] == ["encryption.key_file", "encryption.old_key_file"]
    assert "No such file" in problems[0][1]
    assert "can't be read" in problems[1][1]


def test_none_given_is_none(unit):
    """Without a setting or a credential there is no key and no problem; other credentials are not meant."""
    held(unit / "crm-secret", RAW)
    assert read_master_keys("", "", {}) == (MasterKeys(), [])
    assert read_master_keys("", "", env(unit)) == (MasterKeys(), [])


def test_credentials_of_the_unit_are_the_keys(unit):
    """``master-key`` and ``master-key-old``; their modes are systemd's affair."""
    held(unit / "master-key", FORMS["base64"], 0o444)
    held(unit / "master-key-old", OTHER, 0o444)
    assert read_master_keys("", "", env(unit)) == (MasterKeys(RAW, OTHER), [])


def test_a_key_given_in_two_ways_is_refused(unit, tmp_path):
    """Even if both are the same: nobody could say later which one counts. The old one by file beside it is fine."""
    held(unit / "master-key", RAW)
    file = held(tmp_path / "k", RAW)
    _, ((setting, words),) = read_master_keys(file, "", env(unit))
    assert (setting, "credential master-key" in words) == ("encryption.key_file", True)
    old = held(tmp_path / "old", OTHER)
    assert read_master_keys("", old, env(unit)) == (MasterKeys(RAW, OTHER), [])


def test_an_old_key_is_of_use_only_beside_another_new_one(tmp_path):
    """Alone, or the same as the new one: refused."""
    key, same = held(tmp_path / "k", RAW), held(tmp_path / "same", FORMS["hex"])
    _, ((setting, words),) = read_master_keys("", key, {})
    assert (setting, "only beside a new key" in words) == ("encryption.old_key_file", True)
    _, ((setting, words),) = read_master_keys(key, same, {})
    assert (setting, "the same key" in words) == ("encryption.old_key_file", True)


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_may_read_is_told(tmp_path, mode, exposed):
    """The key is used all the same: a start is no time to lock people out."""
    file = held(tmp_path / "k", RAW, mode)
    found, problems = read_master_keys(file, "", {})
    assert (found.key, problems) == (RAW, [])
    assert found.exposed == ((file,) if exposed else ())


def test_the_settings_bring_the_key(tmp_path):
    """From the file's table or a variable; a client reads no key; problems come with the others."""
    key = held(tmp_path / "k", FORMS["base64"])
    config = tmp_path / "ringback.toml"
    config.write_text(f'[encryption]\nkey_file = "{key}"\n')
    home = {"HOME": "/home/a"}  # not below tmp_path, which may be too long for a socket
    assert load_all(str(config), home, 1000).masters == MasterKeys(RAW)
    by_variable = {**home, "RINGBACK_ENCRYPTION__KEY_FILE": key}
    assert load_all("/dev/null", by_variable, 1000).masters.key == RAW
    held(tmp_path / "k", b"nothing")
    load(str(config), home, 1000)
    config.write_text(f'[encryption]\nkey_file = "{key}"\n[delivery]\nconcurrency = 0\n')
    with pytest.raises(ConfigError) as caught:
        load_all(str(config), home, 1000)
    assert [setting for setting, _ in caught.value.problems] == ["delivery.concurrency", "encryption.key_file"]


def test_a_path_is_absolute(tmp_path):
    """A relative one would be another file after a change of the working directory."""
    config = tmp_path / "ringback.toml"
    config.write_text('[encryption]\nkey_file = "master.key"\n')
    with pytest.raises(ConfigError, match=r"encryption\.key_file"):
        load(str(config), {"HOME": str(tmp_path)}, 1000)
