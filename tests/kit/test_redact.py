"""Redaction: no secret by any of its usual names, no query, no user info; what is no secret stays readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.kit.redact import ELIDED, MAX_MEMBERS, REDACTED, Kind, kind_of, redact_line, redact_url, redact_value


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "secrets",
        "Secret",
        "webhook_secret",
        "client_secret",
        "secret_key",
        "whsec_secret",
        "token",
        "tokens",
        "access_token",
        "tokenValue",
        "Authorization",
        "authorization",
        "proxy-authorization",
        "password",
        "passwd",
        "db_password",
        "passphrase",
        "signature",
        "signatures",
        "webhook-signature",
        "X-Hub-Signature-256",
        "api_key",
        "apiKey",
        "APIKey",
        "x-api-key",
        "apikey",
        "cookie",
        "Set-Cookie",
        "cookies",
        "credential",
        "credentials",
        "private_key",
        "privateKey",
        "signing_key",
        "body",
        "response_body",
        "data",
        "event_data",
        "payload",
        "raw_payload",
    ],
)
def test_keys_that_look_like_secrets_are_secret(key):
    """A value under such a name is never shown."""
    assert kind_of(key) is Kind.SECRET


@pytest.mark.parametrize(
    "key",
    [
        "event_id",
        "delivery_id",
        "endpoint_id",
        "tenant",
        "attempt",
        "elapsed_ms",
        "status",
        "error",
        "due_at",
        "token_id",
        "secret_id",
        "token_name",
        "body_bytes",
        "data_size",
        "database_bytes",
        "order_key",
        "key",
        "keys",
        "path",
        "name",
        "count",
        "state_dir",
        "data_dir",
        "max_body_bytes_in_flight",
        "signature_kind",
        "cookies_count",
        "metadata",
        "message",
        "reason",
    ],
)
def test_what_is_no_secret_stays_readable(key):
    """Ids, sizes and counts of secret things, and words that merely contain them, are shown."""
    assert kind_of(key) is Kind.PLAIN


@pytest.mark.parametrize("key", ["url", "URL", "callback_url", "target_uri", "urls", "requestUrl"])
def test_urls_are_known_by_their_key(key):
    """Such values lose query and user info."""
    assert kind_of(key) is Kind.URL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("https://example.com/hook?token=1", "https://example.com/hook"),
        ("https://example.com/hook#frag?x", "https://example.com/hook"),
        ("https://example.com?x=1", "https://example.com"),
        ("https://joe:pw@example.com:8443/h", "https://example.com:8443/h"),
        ("https://joe:p@w@example.com/h", "https://example.com/h"),
        ("https://joe:p/w@example.com/h", "https://example.com/h"),
        ("https://joe:p\\w@example.com/h", "https://example.com/h"),
        ("https://example.com/@joe/hook", "https://example.com/@joe/hook"),
        ("https://example.com:8443/@joe", "https://example.com:8443/@joe"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("https://u@[::1]/a", "https://[::1]/a"),
        ("//joe:pw@example.com/h", "//example.com/h"),
        ("joe:pw@example.com/h", "example.com/h"),
        ("joe:pw@example.com//h", "example.com//h"),
        ("HTTP://A:B@C/", "HTTP://C/"),
        ("", ""),
        ("no url at all", "no url at all"),
    ],
)
def test_a_url_is_shown_without_query_and_user_info(url, shown):
    """Host, port and path help an operator; the rest may be secret."""
    assert redact_url(url) == shown


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="/\\@?#")))
def test_no_user_info_survives(path, secret):
    """Whatever stands before the host's @ is gone, and any text is accepted."""
    shown = redact_url(f"https://user:{secret}SECRET@host/{path.replace('SECRET', '')}")
    assert "SECRET" not in shown
    assert redact_url(path) is not None


def test_nested_members_are_judged_by_their_own_keys():
    """A dictionary inside a value hides its secrets; lists of pairs are headers."""
    value = {"a": 1, "password": "x", "inner": {"token": "y", "list": [{"secret": "z"}, "plain"]}, "url": "http://h/?q"}
    assert redact_value(Kind.PLAIN, value) == {
        "a": 1,
        "password": REDACTED,
        "inner": {"token": REDACTED, "list": [{"secret": REDACTED}, "plain"]},
        "url": "http://h/",
    }
    headers = (("Content-Type", "x"), ("Authorization", "Bearer y"), (b"Cookie", b"z"))
    shown = redact_value(Kind.PLAIN, headers)
    assert shown == [["Content-Type", "x"], ["Authorization", REDACTED], ["Cookie", REDACTED]]


def test_a_list_of_urls_is_redacted_each():
    """`urls` holds urls."""
    assert redact_value(Kind.URL, ["http://a/?x", "http://u:p@b/"]) == ["http://a/", "http://b/"]


def test_depth_and_size_are_bounded():
    """A bottomless or endless value is cut."""
    loop: list[object] = []
    loop.append(loop)
    assert ELIDED in repr(redact_value(Kind.PLAIN, loop))
    assert len(redact_value(Kind.PLAIN, list(range(10_000)))) == MAX_MEMBERS
    assert len(redact_value(Kind.PLAIN, {n: n for n in range(10_000)})) == MAX_MEMBERS


def test_none_and_plain_values_stay():
    """An absent secret may be seen to be absent."""
    assert redact_value(Kind.SECRET, None) is None
    assert redact_value(Kind.PLAIN, 5) == 5
    assert redact_value(Kind.URL, 5) == 5
    assert redact_value(Kind.SECRET, {"a": 1}) == REDACTED


@pytest.mark.parametrize(
    "token",
    [
        b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b"whsk_abcdefgh12345678+/=",
        b"Bearer eyJhbGciOi.J9.x-_~",
        b"rbt_0123456789abcdef",
    ],
)
def test_tokens_are_masked_wherever_they_stand(token):
    """The last fence: the secret's own shape, in any text."""
    line = b'{"error":"bad key ' + token + b' given"}'
    shown = redact_line(line)
    assert token.split(b"_")[-1].split(b" ")[-1] not in shown
    assert shown.startswith(b'{"error":"bad key ')
    assert shown.endswith(b' given"}')


def test_a_masked_secret_may_be_shown():
    """`whsec_…last4` is how a secret is named in public."""
    line = '{"key":"whsec_…LaSw"}'.encode()
    assert redact_line(line) == line
