"""API tokens: their form, what is kept of them, and whose things their bearer may touch.

Role: chance to token text, text to the digest that is stored, and ``Access``: what a caller proved to be.
Rules: a token holds 256 unguessable bits, so its SHA-256 needs neither salt nor stretching; only the digest is kept.
Must not know: where tokens are stored, HTTP.
"""

import hashlib
import re

import msgspec

PREFIX = "rbt_"
#: Bytes of chance in a token.
TOKEN_BYTES = 32

_FORM = re.compile(rf"{PREFIX}[0-9a-f]{{{2 * TOKEN_BYTES}}}")


class Token(msgspec.Struct, frozen=True):
    """What is kept of a token. ``tenant`` None: the operator's. ``digest``: SHA-256 of the token's text."""

    id: str
    tenant: str | None
    digest: bytes
    created_at_ms: int


class Access(msgspec.Struct, frozen=True):
    """Whose things a caller may see and touch. ``tenant`` None: the operator, everything.

    ``token_id``: the token that was shown, None for the control socket's own right.
    """

    tenant: str | None = None
    token_id: str | None = None

    @property
    def operator(self) -> bool:
        """Whether the caller acts as the operator."""
        return self.tenant is None

    def allows(self, tenant: str) -> bool:
        """Whether the things of this tenant are there for the caller."""
        return self.tenant is None or self.tenant == tenant


def new_token(random_bytes: bytes) -> str:
    """A token of that much chance; ``TOKEN_BYTES`` of it, else ValueError."""
    if len(random_bytes) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} bytes, not {len(random_bytes)}")
    return PREFIX + random_bytes.hex()


def digest_of(text: str) -> bytes | None:
    """What is stored of a token; None if no token has this form."""
    return hashlib.sha256(text.encode()).digest() if _FORM.fullmatch(text) else None
