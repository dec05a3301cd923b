"""Why a signature doesn't fit: the mistakes people make, tried one after the other.

Role: a body that was read and written again, a key read in another form, a line end lost on the way.
Rules: a guess is only told if the digest then fits exactly. Must not know: which dialect asks.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator

Digest = Callable[[bytes, bytes], bytes]


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.new(key, text, hashlib.sha256).digest()


def bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as it may have been signed, with what that would mean."""
    if body.endswith(b"\n"):
        yield "the body had no line end when it was signed: it was added on the way", body.rstrip(b"\r\n")
    yield "the body ended in a line end when it was signed: it was lost on the way", body + b"\n"
    again = "the JSON was parsed and written again: check the raw bytes, before any parser"
    with contextlib.suppress(ValueError, RecursionError):  # no JSON, or too deep for the ways tried here
        value = json.loads(body)
        yield again, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        yield again, json.dumps(value, separators=(",", ":")).encode()
        yield again, json.dumps(value, ensure_ascii=False).encode()
        yield again, json.dumps(value).encode()
        yield again, json.dumps(value, indent=2, ensure_ascii=False).encode()


def keys(secret: str) -> Iterator[tuple[str, bytes]]:
    """The secret as it may have been read, with what that would mean."""
    yield "the secret was read as text", secret.encode()
    bare = secret.removeprefix("whsec_")
    if bare != secret:
        yield "the secret was read as text without its prefix", bare.encode()
    with contextlib.suppress(binascii.Error, ValueError):
        yield "the secret was decoded from base64", base64.b64decode(bare, validate=True)
    with contextlib.suppress(ValueError):
        yield "the secret was decoded from hexadecimal", bytes.fromhex(secret)
    if secret.strip() != secret:
        yield "the secret has a blank or a line end around it", secret.strip().encode()


def guess(
    given: set[bytes], secrets: tuple[str, ...], body: bytes, key: Callable[[str], bytes], digest: Digest
) -> str | None:
    """The first mistake that makes one of the given digests fit; None if none does.

    ``key`` is the right way to read a secret, ``digest(key, body)`` the right rule.
    """
    for secret in secrets:
        for hint, changed in bodies(body):
            if digest(key(secret), changed) in given:
                return hint
        for hint, read in keys(secret):
            if read != key(secret) and digest(read, body) in given:
                return f"the sender's and your reading of the secret differ: {hint}"
    return None


def fits(given: set[bytes], wanted: bytes) -> bool:
    """Whether one of them is it, compared in constant time."""
    return any(hmac.compare_digest(one, wanted) for one in given)


def decoded(text: str) -> bytes:
    """Base64 to bytes; what is none becomes bytes that fit nothing."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
