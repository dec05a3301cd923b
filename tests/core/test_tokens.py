"""Tokens: their form, their digest, what an access allows."""

import pytest

from ringback.core.tokens import TOKEN_BYTES, Access, digest_of, new_token

TEXT = new_token(bytes(range(TOKEN_BYTES)))


def test_a_token_shows_all_its_chance() -> None:
    """256 bits, none of them lost, under a prefix that scanners for leaked secrets can know."""
    assert "rbt_" + bytes(range(32)).hex() == TEXT
    assert new_token(bytes(31) + b"\x01") != new_token(bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        new_token(b"short")


@pytest.mark.parametrize("text", ["", "rbt_", TEXT[:-1], TEXT + "0", TEXT.upper(), " " + TEXT, TEXT + "\n", "x" + TEXT])
def test_what_has_not_the_form_has_no_digest(text: str) -> None:
    """Nothing but a token's exact text is ever looked up."""
    assert digest_of(text) is None


def test_the_digest_is_of_the_whole_text() -> None:
    """Tokens that differ anywhere have other digests."""
    digest = digest_of(TEXT)
    assert digest is not None
    assert len(digest) == 32
    assert digest != digest_of(TEXT[:-1] + "0")


def test_a_tenant_is_allowed_its_own_and_the_operator_all() -> None:
    """An empty tenant, which nobody has, is allowed nothing."""
    assert Access().operator
    assert Access().allows("acme")
    assert Access("acme").allows("acme")
    assert not Access("acme").allows("other")
    assert not Access("acme").operator
    assert not Access("").operator
    assert not Access("").allows("default")
