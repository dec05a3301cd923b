"""Sealed values: what a row holds when its database is encrypted.

Role: seal and open one value under one key, and bind it to the row it lies in.
Rules: AES-256-GCM under a key of the value's own, derived from the given one and half of a 24-byte random nonce, so
that one key may seal more values than there will ever be (a bare 12-byte nonce allows about 2**32). ``place`` is
authenticated: a sealed value moved to another row doesn't open. The first byte tells a sealed value from a plain one:
plain columns hold JSON or MessagePack arrays, which never begin with it.
Must not know: whose keys these are, where they are kept, where nonces come from.
Source: NIST SP 800-38D (GCM); the derivation follows the idea of XAES-256-GCM (C2SP) with BLAKE2b (RFC 7693) as the
key derivation function, keyed and personalised.
"""

import hashlib
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 24
#: A sealed value is this much longer than what it holds.
OVERHEAD_BYTES = 45

DIGEST_BYTES = 32

_VERSION = 1
_MARK = bytes([_VERSION])
_HEAD = struct.Struct(">BI")  # version, number of the key
_ROW = struct.Struct(">QQQ")
_HALF = NONCE_BYTES // 2
_BODY_AT = _HEAD.size + NONCE_BYTES


class Tampered(Exception):  # noqa: N818 - a state of affairs, named as such
    """The value doesn't open: it was changed, moved to another row, or sealed under another key."""


def place(kind: bytes, first: int, second: int = 0, third: int = 0) -> bytes:
    """Where a value lies: its kind and the row's key (each number 0 to 2**64 - 1)."""
    return kind + _ROW.pack(first, second, third)


def is_sealed(value: bytes) -> bool:
    """Whether the value is sealed: for columns whose plain values are JSON or MessagePack arrays."""
    return value[:1] == _MARK


def key_number(value: bytes) -> int:
    """Under which key a sealed value lies. Raises Tampered if it is none."""
    if len(value) < OVERHEAD_BYTES or not is_sealed(value):
        raise Tampered("it is no sealed value")
    number: int = _HEAD.unpack_from(value)[1]
    return number


class Key:
    """A key that seals, opens and digests. ``number`` (0 to 2**32 - 1) stands in what it seals."""

    __slots__ = ("_digests", "_rows", "number")

    def __init__(self, raw: bytes, number: int) -> None:
        """``raw``: 32 secret bytes."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.number = number
        # Keyed once, copied for each row.
        self._rows = hashlib.blake2b(key=raw, digest_size=KEY_BYTES, person=b"ringback row key")
        self._digests = hashlib.blake2b(key=raw, digest_size=DIGEST_BYTES, person=b"ringback digest")

    def seal(self, where: bytes, plain: bytes, nonce: bytes) -> bytes:
        """The value sealed: version, key number, nonce, ciphertext, tag. ``nonce``: 24 random bytes, used once."""
        head = _HEAD.pack(_VERSION, self.number)
        return head + nonce + self._cipher(nonce).encrypt(nonce[_HALF:], plain, head + where)

    def open(self, where: bytes, value: bytes) -> bytes:
        """The reverse of ``seal``. Raises Tampered."""
        key_number(value)
        head, nonce = value[: _HEAD.size], value[_HEAD.size : _BODY_AT]
        try:
            return self._cipher(nonce).decrypt(nonce[_HALF:], value[_BODY_AT:], head + where)
        except InvalidTag:
            raise Tampered("it doesn't open: it was changed, moved, or sealed under another key") from None

    def digest(self, plain: bytes) -> bytes:
        """A digest that says nothing to who lacks the key: a bare one lets short contents be guessed. 32 bytes."""
        keyed = self._digests.copy()
        keyed.update(plain)
        return keyed.digest()

    def _cipher(self, nonce: bytes) -> AESGCM:
        derived = self._rows.copy()
        derived.update(nonce[:_HALF])
        return AESGCM(derived.digest())
