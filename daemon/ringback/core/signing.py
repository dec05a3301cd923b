"""Standard Webhooks signatures (v1, v1a) and the secrets they are made with; keyed digests for everybody.

Role: sign ``id.timestamp.body`` with HMAC-SHA256 or Ed25519; make, check, mask and age secrets.
Rules: a secret is ``whsec_`` and the padded base64 of 24 to 64 bytes (v1), or ``whsk_`` and that of an Ed25519 key
(v1a): 32 bytes, the seed, or 64, seed and public key. Every live secret signs, newest first.
Must not know: headers, dialects, where secrets are kept, the clock.
Source: standardwebhooks.com, the specification's sections on signatures and secret rotation; for the form of private
v1a keys, which it leaves open, the published libraries.
"""

import base64
import binascii
import hmac
from collections.abc import Callable
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringback.core.model import Secret

PREFIX = "whsec_"
PREFIX_V1A = "whsk_"
#: An Ed25519 seed; a private key of twice the size has its public key behind it.
SEED_BYTES = 32
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
#: The size of the keys we make.
NEW_KEY_BYTES = 32

#: Decoded keys held in memory: enough for the busiest endpoints, bounded.
_KEYS_REMEMBERED = 4096
#: A secret shorter than this shows none of its characters when masked.
_MASK_FROM_CHARS = 16


def sign(secret_values: tuple[str, ...], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one ``v1,<base64>`` or ``v1a,<base64>`` for each secret, space between.

    ValueError for a secret ``check_secret`` would refuse: those must never get this far.
    """
    text = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    return " ".join([_signer(secret)(text) for secret in secret_values])


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _signer(secret: str) -> Callable[[bytes], str]:
    """What makes one item with this secret."""
    problem = check_secret(secret)
    if problem:
        raise ValueError(f"secret {problem}")
    key = _decode(secret) or b""
    if secret.startswith(PREFIX_V1A):
        private = Ed25519PrivateKey.from_private_bytes(key[:SEED_BYTES])
        return lambda text: "v1a," + _base64(private.sign(text))
    return lambda text: "v1," + hmac_base64(key, text)


def hmac_base64(key: bytes, text: bytes) -> str:
    """HMAC-SHA256 in padded base64."""
    return _base64(hmac.digest(key, text, "sha256"))


def hmac_hex(key: bytes, text: bytes) -> str:
    """HMAC-SHA256 in lower-case hexadecimal."""
    return hmac.digest(key, text, "sha256").hex()


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _decode(secret: str) -> bytes | None:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX).removeprefix(PREFIX_V1A), validate=True)
    except ValueError:  # bad characters or padding (binascii.Error), or not ASCII at all
        return None


def check_secret(text: str) -> str | None:
    """What is wrong with a secret, worded to follow its field's name; None if it can sign. Never repeats the secret."""
    prefix = next((known for known in (PREFIX, PREFIX_V1A) if text.startswith(known)), None)
    if prefix is None:
        return f"must be {PREFIX} or {PREFIX_V1A} followed by base64"
    key = _decode(text)
    if key is None:
        return f"must be padded base64 after {prefix}"
    if prefix == PREFIX_V1A:
        return _check_private(key)
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        return f"must hold {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes of key, not {len(key)}"
    return None


def _check_private(key: bytes) -> str | None:
    if len(key) not in (SEED_BYTES, 2 * SEED_BYTES):
        return f"must hold an Ed25519 key of {SEED_BYTES} or {2 * SEED_BYTES} bytes, not {len(key)}"
    public = Ed25519PrivateKey.from_private_bytes(key[:SEED_BYTES]).public_key().public_bytes_raw()
    return None if key[SEED_BYTES:] in (b"", public) else "must hold a private and a public key that belong together"


def new_secret(random_bytes: bytes) -> str:
    """A secret from that many unguessable bytes; ``NEW_KEY_BYTES`` is usual. ValueError outside 24 to 64."""
    if not MIN_KEY_BYTES <= len(random_bytes) <= MAX_KEY_BYTES:
        raise ValueError(f"a key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, not {len(random_bytes)}")
    return PREFIX + base64.b64encode(random_bytes).decode()


def mask_secret(text: str) -> str:
    """How a secret is shown: ``whsec_…last4``, other texts ``…last4``, short ones ``…``, none at all as it is."""
    if not text:
        return ""
    prefix = next((known for known in (PREFIX, PREFIX_V1A) if text.startswith(known)), "")
    return f"{prefix}…{text[-4:] if len(text) - len(prefix) >= _MASK_FROM_CHARS else ''}"


def live(secrets: tuple[Secret, ...], now_ms: int) -> tuple[str, ...]:
    """The values that sign at ``now_ms``, in the order given (newest first). One is gone from its expiry on."""
    return tuple([s.value for s in secrets if s.expires_at_ms is None or s.expires_at_ms > now_ms])
