"""The receiver's own signature check: if it passed everything, every other test here would be worth nothing."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook
from tests.harness.receiver import signature_holds
from tests.harness.receiver_client import SECRET

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
BODY = b'{"type":"a","data":{"big":18446744073709551616}}'


def signed(secret: str, stamp: datetime) -> dict[bytes, bytes]:
    """Headers as the reference library makes them."""
    signature = Webhook(secret).sign("e1", stamp, BODY.decode())
    stamp_s = str(int(stamp.timestamp())).encode()
    return {b"webhook-id": b"e1", b"webhook-timestamp": stamp_s, b"webhook-signature": signature.encode()}


def test_the_receiver_accepts_what_the_reference_library_signs() -> None:
    """A signature by the reference library holds."""
    assert signature_holds([KEY], signed(SECRET, datetime.now(UTC)), BODY)


def test_one_of_several_signatures_is_enough() -> None:
    """While a secret is replaced, one good signature among others holds."""
    headers = signed(SECRET, datetime.now(UTC))
    headers[b"webhook-signature"] = b"v1,AAAA v2,BBBB " + headers[b"webhook-signature"]
    assert signature_holds([KEY], headers, BODY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"webhook-id", b"e2"),
        (b"webhook-timestamp", b"1"),
        (b"webhook-timestamp", b""),
        (b"webhook-signature", b""),
        (b"webhook-signature", b"v1,"),
        (b"webhook-signature", b"v1," + b"A" * 44),
    ],
)
def test_the_receiver_refuses_what_was_changed(name: bytes, value: bytes) -> None:
    """No header can be changed without the signature failing."""
    headers = signed(SECRET, datetime.now(UTC)) | {name: value}
    assert not signature_holds([KEY], headers, BODY)


def test_the_receiver_refuses_another_body_and_another_key() -> None:
    """Neither the body nor the secret can be exchanged."""
    headers = signed(SECRET, datetime.now(UTC))
    assert not signature_holds([KEY], headers, BODY + b" ")
    assert not signature_holds([KEY[::-1]], headers, BODY)
    assert not signature_holds([], headers, BODY)
