"""Sealed values: the layout by independent code, and everything that must not open."""

import hashlib
import struct

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.envelope import (
    DIGEST_BYTES,
    NONCE_BYTES,
    OVERHEAD_BYTES,
    Key,
    Tampered,
    is_sealed,
    key_number,
    place,
)

RAW, OTHER = bytes(range(32)), bytes(range(1, 33))
NONCE = bytes(range(100, 124))
HERE = place(b"payload", 7)
#: Rows of every release must stay readable: this one was sealed by the first that could.
FIRST = "01000000056465666768696a6b6c6d6e6f707172737475767778797a7b18e346df56d974494f507d9b105c4085224e3b233b6297c4cb"

NUMBERS = st.integers(0, 2**32 - 1)
ROWS = st.integers(0, 2**64 - 1)


def sealed_by_hand(raw: bytes, number: int, where: bytes, plain: bytes, nonce: bytes) -> bytes:
    """The format put together from its parts, without the module."""
    key = hashlib.blake2b(nonce[:12], key=raw, digest_size=32, person=b"ringback row key").digest()
    head = struct.pack(">BI", 1, number)
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce[12:])).encryptor()
    cipher.authenticate_additional_data(head + where)
    text = cipher.update(plain) + cipher.finalize()
    return head + nonce + text + cipher.tag


@given(st.binary(min_size=32, max_size=32), NUMBERS, st.binary(max_size=200), st.binary(min_size=24, max_size=24))
def test_a_sealed_value_is_what_the_format_says(raw, number, plain, nonce):
    """Version, key number, nonce, AES-256-GCM under the derived key with head and place authenticated."""
    where = b"kind" + struct.pack(">QQQ", 1, 2, 3)
    assert place(b"kind", 1, 2, 3) == where
    assert Key(raw, number).seal(where, plain, nonce) == sealed_by_hand(raw, number, where, plain, nonce)


def test_a_value_of_the_first_release_opens():
    """The layout on disk never changes under its version."""
    assert Key(RAW, 5).open(HERE, bytes.fromhex(FIRST)) == b"hello row"
    assert Key(RAW, 5).seal(HERE, b"hello row", NONCE).hex() == FIRST


@given(st.binary(max_size=2000), NUMBERS, ROWS, ROWS, ROWS)
def test_what_is_sealed_opens(plain, number, first, second, third):
    """In its place, under its key, to the byte; it is longer by the overhead and says its key's number."""
    key, where = Key(RAW, number), place(b"info", first, second, third)
    value = key.seal(where, plain, NONCE)
    assert len(value) == len(plain) + OVERHEAD_BYTES
    assert (is_sealed(value), key_number(value)) == (True, number)
    assert key.open(where, value) == plain
    assert len(plain) < 8 or plain not in value[5 + NONCE_BYTES :]


def test_every_flipped_bit_is_noticed():
    """Wherever it lies: version, key number, nonce, text, tag."""
    key = Key(RAW, 5)
    value = key.seal(HERE, b"hello row", NONCE)
    for bit in range(8 * len(value)):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Tampered):
            key.open(HERE, bytes(changed))


@given(st.integers(0, OVERHEAD_BYTES + 8))
def test_a_value_cut_short_is_noticed(length):
    """Nothing, half a head, a nonce alone, a text without its tag's end."""
    value = Key(RAW, 5).seal(HERE, b"hello row", NONCE)
    with pytest.raises(Tampered):
        Key(RAW, 5).open(HERE, value[:length])


@pytest.mark.parametrize(
    "elsewhere",
    [
        place(b"payload", 8),
        place(b"payload", 7, 1),
        place(b"payload", 7, 0, 1),
        place(b"callback", 7),
        place(b"", 7),
        b"",
    ],
)
def test_a_value_moved_to_another_row_does_not_open(elsewhere):
    """Another number, another column, another kind."""
    value = Key(RAW, 5).seal(HERE, b"hello row", NONCE)
    with pytest.raises(Tampered, match="moved"):
        Key(RAW, 5).open(elsewhere, value)


def test_no_two_rows_are_one_place():
    """Every number has its own eight bytes: 1 and 23 are not 12 and 3."""
    rows = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (12, 3, 0), (1, 23, 0), (123, 0, 0), (2**64 - 1, 0, 0)]
    assert len({place(b"info", *row) for row in rows}) == len(rows)
    with pytest.raises(struct.error):
        place(b"info", 2**64)


def test_another_key_or_the_same_under_another_number_does_not_open():
    """The number in the head is authenticated, and the key itself decides."""
    value = Key(RAW, 5).seal(HERE, b"hello row", NONCE)
    with pytest.raises(Tampered):
        Key(OTHER, 5).open(HERE, value)
    renumbered = value[:1] + struct.pack(">I", 6) + value[5:]
    with pytest.raises(Tampered):
        Key(RAW, 6).open(HERE, renumbered)


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x02" * 60, b"\x00" * 60, b'{"a":1}' + b" " * 60])
def test_what_is_not_sealed_has_no_key(value):
    """Too short, another version, plain JSON."""
    with pytest.raises(Tampered, match="no sealed value"):
        key_number(value)


JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists)


@given(JSON, st.lists(st.none() | st.integers(0, 9) | st.text(max_size=3), max_size=20))
def test_plain_columns_are_never_taken_for_sealed(value, items):
    """JSON, MessagePack arrays of every length, and nothing at all begin with another byte."""
    assert not is_sealed(msgspec.json.encode({"spec": value}))
    assert not is_sealed(msgspec.json.encode(value))
    assert not is_sealed(msgspec.msgpack.encode(items))
    assert not is_sealed(msgspec.msgpack.encode(items * 4000))
    assert not is_sealed(b"")


def test_values_of_one_text_differ_by_their_nonce():
    """Nothing says that two rows hold the same; either half of the nonce suffices."""
    key = Key(RAW, 5)
    nonces = [bytes(24), b"\x01" + bytes(23), bytes(23) + b"\x01"]
    texts = {key.seal(HERE, b"same", nonce)[5 + NONCE_BYTES :] for nonce in nonces}
    assert len(texts) == 3


@given(st.binary(max_size=100))
def test_a_digest_needs_the_key(plain):
    """The same content has another digest under another key, and neither is the bare one or the row key's."""
    one, other = Key(RAW, 1).digest(plain), Key(OTHER, 1).digest(plain)
    assert one == hashlib.blake2b(plain, key=RAW, digest_size=32, person=b"ringback digest").digest()
    assert len(one) == DIGEST_BYTES
    assert len({one, other, hashlib.sha256(plain).digest(), hashlib.blake2b(plain, digest_size=32).digest()}) == 4
    assert Key(RAW, 2).digest(plain) == one, "a digest follows from key and content alone"


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33)])
def test_a_key_has_32_bytes(raw):
    """Anything else is a bug of the caller."""
    with pytest.raises(ValueError, match="32 bytes"):
        Key(raw, 1)
