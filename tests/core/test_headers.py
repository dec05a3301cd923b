"""Extra headers: what would break or forge a request is refused when it is configured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.headers import DENIED, MAX_HEADER_BYTES, MAX_HEADERS, check_headers, is_secret_header


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer abc"),
        ("X-Api-Key", "k"),
        ("x", ""),
        ("!#$%&'*+-.^_`|~09azAZ", "a b\tc"),
        ("X-Quote", '"q"; a=1, b'),
        ("Accept", "*/*"),
        ("Hosts", "not host"),
        ("Webhooks-Id", "not webhook-"),
    ],
)
def test_sound_headers_have_no_problems(name: str, value: str) -> None:
    """Every token is a name, all visible ASCII a value."""
    assert check_headers({name: value}) == []


@pytest.mark.parametrize(
    "name",
    ["", " ", "X A", "X:A", "X-A ", " X-A", "X\r\nY", "X\n", "X\x00", "é", "X(A)", "X/A", 'X"', "X,A", "X\x7f", "Ｘ"],
)
def test_a_name_must_be_a_token(name: str) -> None:
    """Whatever could end a name early, vanish or smuggle a second line is refused."""
    problems = check_headers({name: "v"})
    assert len(problems) == 1
    assert "name has" in problems[0]


@pytest.mark.parametrize(
    "value",
    ["a\r\nX: 1", "a\n", "\ra", "a\x00b", "a\x7f", " a", "a ", "\ta", "a\t", "é", "\udc00", "a\x1bb", "\x85", " "],
)
def test_a_value_is_visible_ascii(value: str) -> None:
    """Control characters, line ends, blanks at the ends and anything beyond ASCII are refused, and never repeated."""
    problems = check_headers({"X-A": value})
    assert len(problems) == 1
    assert problems[0].startswith("header 'X-A': a value")


@pytest.mark.parametrize(
    "name", [*DENIED, "proxy-authorization", "Proxy-Connection", "webhook-id", "Webhook-X", "X-Ringback-Diverted-From"]
)
def test_what_is_ours_or_the_connections_cannot_be_set(name: str) -> None:
    """Framing, connection, body and the dialects' own headers are denied in any case of letters, with the reason."""
    for spelling in (name, name.upper(), name.title()):
        problems = check_headers({spelling: "v"})
        assert len(problems) == 1
        assert "can't be set: " in problems[0]


def test_one_name_in_two_cases_is_one_name() -> None:
    """Names are equal whatever their case, so two of them would be sent twice."""
    assert len(check_headers({"X-A": "1", "x-a": "2"})) == 1


def test_number_and_size_are_limited() -> None:
    """The limits hold exactly."""
    assert check_headers({f"x-{n}": "" for n in range(MAX_HEADERS)}) == []
    assert len(check_headers({f"x-{n}": "" for n in range(MAX_HEADERS + 1)})) == 1
    room = MAX_HEADER_BYTES - len("x-a") - 4
    assert check_headers({"x-a": "v" * room}) == []
    assert len(check_headers({"x-a": "v" * (room + 1)})) == 1


def test_every_problem_is_told_at_once_and_no_value() -> None:
    """An operator sees all that is wrong in one answer; what was given as a value never comes back."""
    problems = check_headers({"Host": "s3cret", "X A": "s3cret", "X-B": "s3cret\n"})
    assert len(problems) == 3
    assert not any("s3cret" in problem for problem in problems)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5))
def test_what_passes_is_safe_on_the_wire(headers: dict[str, str]) -> None:
    """A header without problems is one line of ASCII with one colon after its name."""
    if check_headers(headers) == []:
        for name, value in headers.items():
            line = f"{name}: {value}".encode("ascii")
            assert line.split(b":", 1)[0].decode() == name
            assert line.splitlines() == [line]
            assert value == value.strip()


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "X-API-Key", "X-Auth", "X-Access-Token",
        "apikey", "X-Hub-Signature-256", "webhook-signature", "Client-Secret", "x-password", "X-Session-Id",
    ],
)  # fmt: skip
def test_headers_that_hold_secrets_are_masked(name: str) -> None:
    """Whatever looks like a credential is one."""
    assert is_secret_header(name)


@pytest.mark.parametrize(
    "name", ["Content-Type", "User-Agent", "webhook-id", "webhook-timestamp", "X-Request-Id", "Accept"]
)
def test_plain_headers_are_shown(name: str) -> None:
    """What an operator needs to read stays readable."""
    assert not is_secret_header(name)
