"""core.masks: what is shown of texts that may hold a secret."""

import pytest

from ringback.core.masks import mask_members, mask_pairs, mask_query, mask_template


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://h/x", "https://h/x"),
        ("https://h/x?", "https://h/x?"),
        ("https://joe:pw@h/x?a=1&token=t", "https://h/x?a=1&token=…"),
        ("https://h/x?sig=abc&se=2026", "https://h/x?sig=…&se=2026"),
        ("https://h/@x?api_key=", "https://h/@x?api_key="),
        ("https://h/x?a=b@c", "https://h/x?a=b@c"),
    ],
)
def test_a_query_loses_its_secrets(url: str, told: str) -> None:
    """User info goes, secret parameters keep their name only, the rest stays as it is."""
    assert mask_query(url) == told


def test_a_template_keeps_its_places() -> None:
    """A value of the operator's own is masked, a place that the event fills is not."""
    assert mask_template("https://h/{a}?v=1&id={a}&x=p{a}") == "https://h/{a}?v=…&id={a}&x=…"


def test_pairs_are_masked_by_their_key() -> None:
    """The value up to the next comma, colons and all."""
    assert mask_pairs("case:1,secret:a:b,x") == "case:1,secret:…,x"


def test_members_are_masked_by_their_name() -> None:
    """Only the outermost object is judged; without a secret, and what is no object, the bytes stay."""
    body = b'{ "a" : 1.50, "password":{"b":2} }'
    assert mask_members(body) == '{"a":1.50,"password":"…"}'.encode()
    assert mask_members(body, among={"a"}) == body
    assert mask_members(b"[1]") == b"[1]"
