"""Every dialect keeps the promises of a dialect: one suite over all that are registered."""

import importlib
import pkgutil
from itertools import pairwise

import pytest

from ringback import dialects
from ringback.core.headers import check_headers
from ringback.core.model import Event, RetryPolicy, Verdict
from ringback.core.signing import NOT_SUPPORTED
from ringback.dialects._base import Dialect, Vector

DIALECTS = [dialect for name in dialects.names() if (dialect := dialects.get(name))]
VECTORS = [pytest.param(d, v, id=f"{d.name}: {v.why}") for d in DIALECTS for v in d.vectors]
SIGNING = [d for d in DIALECTS if d.signs]

EVENT = Event("evt_1", "acme", "a.b", b'{"x": [1e400, "\xc3\xa9\\u0000"]}', 1_795_255_200_123, b"")
NOW_MS = 1_795_255_260_999


def secret_of(dialect: Dialect, seed: int) -> str:
    """A secret of this dialect's own making."""
    return dialect.new_secret(bytes((seed + n) % 256 for n in range(dialect.secret_bytes)))


def test_every_file_in_the_folder_is_registered() -> None:
    """A format joins by its file being there; names are unique and sorted."""
    files = [m.name for m in pkgutil.iter_modules(dialects.__path__) if not m.name.startswith("_")]
    assert sorted(files) == sorted(d.name.replace("-", "_") for d in DIALECTS)
    assert list(dialects.names()) == sorted(dialects.names())
    for file in files:
        assert importlib.import_module(f"ringback.dialects.{file}").DIALECT in DIALECTS


def test_an_unknown_name_is_none() -> None:
    """Asking for a format that isn't there is an ordinary answer."""
    assert dialects.get("nobody") is None
    assert "standard" in dialects.names()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_a_dialect_says_what_it_is(dialect: Dialect) -> None:
    """Name, description, version and known answers are there, and the defaults are usable."""
    assert dialect.name
    assert dialect.description
    assert dialect.encoder >= 1
    assert dialect.vectors
    assert dialect.default_timeout_s > 0
    assert isinstance(dialect.default_retry, RetryPolicy)
    assert all(name == name.lower() for name in dialect.secret_headers)


@pytest.mark.parametrize(("dialect", "vector"), VECTORS)
def test_known_answers(dialect: Dialect, vector: Vector) -> None:
    """Body and headers are those written down, to the byte."""
    body = dialect.encode(vector.event)
    assert body == vector.body
    assert dialect.headers(vector.event, body, vector.secrets, vector.now_ms) == vector.headers


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_the_same_arguments_give_the_same_bytes(dialect: Dialect) -> None:
    """Each attempt sends the same body, and signing has no chance in it."""
    secrets = (secret_of(dialect, 1),) if dialect.signs else ()
    first, again = dialect.encode(EVENT), dialect.encode(EVENT)
    assert first == again
    assert dialect.headers(EVENT, first, secrets, NOW_MS) == dialect.headers(EVENT, again, secrets, NOW_MS)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_headers_are_sound_and_complete(dialect: Dialect) -> None:
    """Content type and user agent are there, nothing is doubled, and framing is left to the transport."""
    body = dialect.encode(EVENT)
    secrets = (secret_of(dialect, 1),) if dialect.signs else ()
    given = dialect.headers(EVENT, body, secrets, NOW_MS)
    names = [name.lower() for name, _ in given]
    assert len(set(names)) == len(names)
    by_name = dict(given)
    assert by_name["content-type"] == dialect.content_type
    assert by_name["user-agent"].startswith("ringback/")
    assert not {"host", "content-length", "transfer-encoding", "connection"} & set(names)
    assert check_headers({f"x-{n}": value for n, value in enumerate(by_name.values())}) == []


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_secrets_never_leave(dialect: Dialect) -> None:
    """Neither the secret nor its text after the prefix stands in any header or the body."""
    secret = secret_of(dialect, 3)
    body = dialect.encode(EVENT)
    sent = body.decode() + repr(dialect.headers(EVENT, body, (secret,), NOW_MS))
    assert secret not in sent
    assert secret.partition("_")[2] not in sent


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_signatures_depend_on_secret_body_and_event(dialect: Dialect) -> None:
    """Another key, another body or no key at all shows in the headers that are said to be secret, and only there."""
    body = dialect.encode(EVENT)
    variants = [
        dialect.headers(EVENT, body, (secret_of(dialect, 1),), NOW_MS),
        dialect.headers(EVENT, body, (secret_of(dialect, 2),), NOW_MS),
        dialect.headers(EVENT, body + b" ", (secret_of(dialect, 1),), NOW_MS),
        dialect.headers(EVENT, body, (secret_of(dialect, 2), secret_of(dialect, 1)), NOW_MS),
        dialect.headers(EVENT, body, (secret_of(dialect, 1), secret_of(dialect, 2)), NOW_MS),
        dialect.headers(EVENT, body, (), NOW_MS),
    ]
    assert len(set(variants)) == len(variants)
    plain = [tuple(h for h in headers if h[0].lower() not in dialect.secret_headers) for headers in variants]
    assert all(one == other for one, other in pairwise(plain))


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_secrets_it_makes_pass_its_check(dialect: Dialect) -> None:
    """A generated secret is one the API would accept, an empty one isn't."""
    assert dialect.check_secret(secret_of(dialect, 9)) is None
    assert dialect.check_secret("")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_unknown_options_are_refused(dialect: Dialect) -> None:
    """No option is ever silently ignored."""
    assert dialect.check_options({}) == []
    assert len(dialect.check_options({"no-such-option": "x"})) == 1
    assert "no-such-option" in dialect.check_options({"no-such-option": "x"})[0]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@pytest.mark.parametrize("status", [100, 101, 300, 302, 400, 401, 404, 429, 500, 503, 999, 0])
def test_every_other_status_has_a_verdict(dialect: Dialect, status: int) -> None:
    """A failure is tried again or given up; a dialect can't declare it delivered."""
    assert dialect.judge(status) in {Verdict.RETRY, Verdict.GIVE_UP}


def test_not_supported_can_be_told_from_wrong() -> None:
    """The caller can name what isn't built yet."""
    standard = dialects.get("standard")
    assert standard is not None
    assert str(standard.check_secret("whsk_AAAA")).startswith(NOT_SUPPORTED)
