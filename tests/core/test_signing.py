"""Signing: the published values, rotation, and the life of a secret."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.model import Secret
from ringback.core.signing import check_secret, live, mask_secret, new_secret, sign

PUBLISHED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("message_id", "timestamp_s", "body", "signature"),
    [
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        ("", 0, b"", None),
        ("a", 1, b"\x00\r\n\xff\xc3\xa9", None),
    ],
)
def test_signatures_are_the_published_scheme(
    message_id: str, timestamp_s: int, body: bytes, signature: str | None
) -> None:
    """The value in the reference libraries' own tests comes out, and bytes of any kind are signed as they are."""
    key = base64.b64decode(PUBLISHED.removeprefix("whsec_"))
    text = message_id.encode() + b"." + str(timestamp_s).encode() + b"." + body
    by_hand = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    assert sign((PUBLISHED,), message_id, timestamp_s, body) == by_hand
    assert signature in (None, by_hand)


def test_each_live_secret_signs_in_its_order() -> None:
    """During a rotation there is one item for each secret, one space between, in the order given."""
    both = sign((OTHER, PUBLISHED), "id", 7, b"{}")
    assert both == f"{sign((OTHER,), 'id', 7, b'{}')} {sign((PUBLISHED,), 'id', 7, b'{}')}"
    assert both.count(" ") == 1


@pytest.mark.parametrize("bad", ["swordfish", "whsec_swordfish", "whsec_!swordfish!", "whsk_swordfish"])
def test_a_bad_secret_never_signs(bad: str) -> None:
    """A secret that slipped past the check fails loudly instead of signing with a wrong key, and isn't quoted."""
    with pytest.raises(ValueError, match=r"^secret ") as raised:
        sign((bad,), "id", 7, b"{}")
    assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_new_secrets_are_sound(size: int) -> None:
    """What we make passes our own check and holds exactly the bytes it was made of."""
    secret = new_secret(bytes(range(size)))
    assert check_secret(secret) is None
    assert base64.b64decode(secret.removeprefix("whsec_")) == bytes(range(size))


@pytest.mark.parametrize("size", [0, 23, 65])
def test_too_little_chance_makes_no_secret(size: int) -> None:
    """A caller that hands over the wrong number of bytes is told so."""
    with pytest.raises(ValueError, match="24 to 64"):
        new_secret(bytes(size))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        PUBLISHED.removeprefix("whsec_"),
        "WHSEC_" + "A" * 32,
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 24).decode(),
        PUBLISHED + "\n",
        PUBLISHED + " ",
        " " + PUBLISHED,
        "whsec_" + "é" * 32,
        "whsec_" + "A" * 31 + "\x00",
    ],
)
def test_bad_secrets_are_told_and_not_repeated(text: str) -> None:
    """A wrong prefix, base64 or length is named in words that don't show the secret."""
    problem = check_secret(text)
    assert problem
    assert len(text) < 20 or text.removeprefix("whsec_")[:8] not in problem


SEED = base64.b64decode("6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=")
PUBLIC = base64.b64decode("1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")


def whsk(key: bytes) -> str:
    """A v1a secret of these bytes."""
    return "whsk_" + base64.b64encode(key).decode()


def test_v1a_keys_come_as_a_seed_or_with_their_public_key() -> None:
    """Both forms sign alike, and the public key verifies."""
    assert check_secret(whsk(SEED)) is None
    assert check_secret(whsk(SEED + PUBLIC)) is None
    item = sign((whsk(SEED),), "id", 7, b"{}")
    assert item == sign((whsk(SEED + PUBLIC),), "id", 7, b"{}")
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(base64.b64decode(item.removeprefix("v1a,")), b"id.7.{}")


@pytest.mark.parametrize("key", [b"", SEED[:31], SEED + PUBLIC[:31], SEED + SEED, SEED + PUBLIC + b"x"])
def test_v1a_keys_that_are_none_are_refused(key: bytes) -> None:
    """Wrong lengths and a public key of another private one have words, which never repeat the key."""
    problem = check_secret(whsk(key))
    assert problem is not None
    assert "Ed25519" in problem or "belong together" in problem


def test_both_kinds_sign_side_by_side() -> None:
    """While v1 is being replaced by v1a each secret makes its own kind of item, newest first."""
    both = sign((whsk(SEED), PUBLISHED), "id", 7, b"{}")
    assert [item.partition(",")[0] for item in both.split(" ")] == ["v1a", "v1"]


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (PUBLISHED, "whsec_…LaSw"),
        ("whsk_" + "A" * 40 + "wxyz", "whsk_…wxyz"),
        ("some long shared text", "…text"),
        ("short", "…"),
        ("whsec_short", "whsec_…"),
        ("", ""),
    ],
)
def test_masked_secrets_show_their_end_only(secret: str, shown: str) -> None:
    """Enough to tell two apart, nothing of one that is short."""
    assert mask_secret(secret) == shown


@given(st.text(min_size=1, max_size=80))
def test_a_mask_never_shows_more_than_four_characters(text: str) -> None:
    """Whatever the secret is, all but its prefix and last four stay hidden."""
    masked = mask_secret(text)
    assert len(masked.removeprefix("whsec_").removeprefix("whsk_")) <= 5


def test_secrets_stop_signing_when_they_expire() -> None:
    """A replaced secret signs up to its last millisecond and not at it; the order stays newest first."""
    secrets = (Secret("new", 50), Secret("old", 10, expires_at_ms=100), Secret("older", 5, expires_at_ms=60))
    assert live(secrets, 59) == ("new", "old", "older")
    assert live(secrets, 60) == ("new", "old")
    assert live(secrets, 99) == ("new", "old")
    assert live(secrets, 100) == ("new",)
    assert live((), 0) == ()
