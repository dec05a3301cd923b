"""Standard Webhooks signatures (v1) and the secrets they are made with.

Role: sign ``id.timestamp.body`` with HMAC-SHA256; make, check, mask and age secrets.
Rules: a secret is ``whsec_`` and the padded base64 of 24 to 64 bytes; every live secret signs, newest first.
Must not know: headers, dialects, where secrets are kept, the clock.
Source: standardwebhooks.com, the specification's sections on signatures and secret rotation.
"""

import base64
import binascii
import hmac
from functools import lru_cache

from ringback.core.model import Secret

PREFIX = "whsec_"
#: Ed25519 (v1a) private keys; that scheme isn't built yet.
PREFIX_V1A = "whsk_"
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
#: The size of the keys we make.
NEW_KEY_BYTES = 32
#: What a problem's text begins with when the value is sound but its behaviour isn't built yet.
NOT_SUPPORTED = "not supported yet: "

#: Decoded keys held in memory: enough for the busiest endpoints, bounded.
_KEYS_REMEMBERED = 4096
#: A secret shorter than this shows none of its characters when masked.
_MASK_FROM_CHARS = 16


def sign_v1(secret_values: tuple[str, ...], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one ``v1,<base64>`` for each secret in the order given, space between.

    ValueError for a secret ``check_secret`` would refuse: those must never get this far.
    """
    text = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    return " ".join([_v1(secret, text) for secret in secret_values])


def _v1(secret: str, text: bytes) -> str:
    return "v1," + binascii.b2a_base64(hmac.digest(_key(secret), text, "sha256"), newline=False).decode()


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _key(secret: str) -> bytes:
    """The decoded key."""
    problem = check_secret(secret)
    if problem:
        raise ValueError(f"secret {problem}")
    return _decode(secret) or b""


def _decode(secret: str) -> bytes | None:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:  # bad characters or padding (binascii.Error), or not ASCII at all
        return None


def check_secret(text: str) -> str | None:
    """What is wrong with a secret, worded to follow its field's name; None if it can sign. Never repeats the secret."""
    if text.startswith(PREFIX_V1A):
        return f"{NOT_SUPPORTED}{PREFIX_V1A} keys (v1a, Ed25519); give a {PREFIX} one"
    if not text.startswith(PREFIX):
        return f"must be {PREFIX} followed by base64"
    key = _decode(text)
    if key is None:
        return f"must be padded base64 after {PREFIX}"
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        return f"must hold {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes of key, not {len(key)}"
    return None


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
