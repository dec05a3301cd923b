"""Every dialect keeps the promises of a dialect: one suite over all that are registered."""

import importlib
import pkgutil
from itertools import pairwise

import pytest

from ringback import dialects
from ringback.core.headers import check_headers
from ringback.core.model import Event, RetryPolicy, Verdict
from ringback.core.names import TEST_TYPE
from ringback.dialects import Shot
from ringback.dialects._base import Dialect, Vector

DIALECTS = [dialect for name in dialects.names() if (dialect := dialects.get(name))]
VECTORS = [pytest.param(d, v, id=f"{d.name}: {v.why}") for d in DIALECTS for v in d.vectors]
SIGNING = [d for d in DIALECTS if d.signs]

#: Names the vendors' own requests carry.
AGENTS = ("ringback/", "prosa-speech-api")
NAMES = dialects.vocabulary({})
DATA = b'{"self": "https://a.example.com/t/1", "x": [1e400, "\xc3\xa9\\u0000"]}'
NOW_MS = 1_795_255_260_999


def shot_of(dialect: Dialect, data: bytes = DATA) -> Shot:
    """An event this dialect can express, as a delivery of it."""
    type_ = next(v.shot.event.type for v in dialect.vectors if v.shot.event.type != TEST_TYPE)
    event = Event("evt_1", "acme", type_, data, 1_795_255_200_123, b"")
    return Shot(event, NAMES.own(dialect.name, type_), 1_795_255_200_125, 4711, 3)


def secret_of(dialect: Dialect, seed: int) -> str:
    """A secret of this dialect's own making."""
    return dialect.new_secret(bytes((seed + n) % 256 for n in range(dialect.secret_bytes)))


def sent(dialect: Dialect, shot: Shot, secrets: tuple[str, ...]) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Body and headers of an attempt."""
    body = dialect.encode(shot, secrets)
    return body, dialect.headers(shot, body, secrets, NOW_MS)


def shown(dialect: Dialect, shot: Shot, secrets: tuple[str, ...]) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """The same without what is masked."""
    body, headers = sent(dialect, shot, secrets)
    return dialect.mask(body, shot), tuple(h for h in headers if h[0].lower() not in dialect.secret_headers)


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
    assert all(vector.source and vector.why for vector in dialect.vectors)
    assert dialect.default_timeout_s > 0
    assert isinstance(dialect.default_retry, RetryPolicy)
    assert all(name == name.lower() for name in dialect.own_headers)
    assert dialect.secret_headers <= dialect.own_headers
    assert bool(dialect.expresses_data) == bool(dialect.wants)


@pytest.mark.parametrize(("dialect", "vector"), VECTORS)
def test_known_answers(dialect: Dialect, vector: Vector) -> None:
    """Body and headers are those written down, to the byte."""
    body = dialect.encode(vector.shot, vector.secrets)
    assert body == vector.body
    assert dialect.headers(vector.shot, body, vector.secrets, vector.now_ms) == vector.headers


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_a_vectors_event_is_one_it_can_express(dialect: Dialect) -> None:
    """The known answers stand for what really goes out: names translated as the daemon does, options sound."""
    for vector in dialect.vectors:
        shot = vector.shot
        assert shot.type_name == NAMES.own(dialect.name, shot.event.type)
        assert dialect.expresses(shot.type_name)
        assert dialect.check_options(shot.options) == []
        assert all(dialect.check_secret(secret, shot.options) is None for secret in vector.secrets)
        if dialect.expresses_data:
            assert dialect.expresses_data(shot.type_name, shot.event.data, shot.options)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_every_dialect_can_say_a_test(dialect: Dialect) -> None:
    """Ping and test go out in every form, whatever their data."""
    word = NAMES.own(dialect.name, TEST_TYPE)
    assert dialect.expresses(word)
    assert not dialect.expresses_data or dialect.expresses_data(word, b"{}", {})
    assert dialect.encode(Shot(Event("e", "t", TEST_TYPE, b"{}", 0, b""), word), ())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_the_same_arguments_give_the_same_bytes(dialect: Dialect) -> None:
    """Each attempt sends the same body, and signing has no chance in it."""
    secrets = (secret_of(dialect, 1),) if dialect.signs else ()
    assert sent(dialect, shot_of(dialect), secrets) == sent(dialect, shot_of(dialect), secrets)


@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d.shared], ids=lambda d: d.name)
def test_a_shared_body_is_the_events_alone(dialect: Dialect) -> None:
    """Neither secret, nor delivery, nor options change a body that endpoints share."""
    shot = shot_of(dialect)
    other = Shot(shot.event, shot.type_name, 1, 2, 9, {"any": "thing"})
    assert dialect.encode(shot, ()) == dialect.encode(other, (secret_of(dialect, 1),))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_headers_are_sound_and_complete(dialect: Dialect) -> None:
    """Content type and user agent are there, nothing is doubled, and framing is left to the transport."""
    secrets = (secret_of(dialect, 1),) if dialect.signs else ()
    _, given = sent(dialect, shot_of(dialect), secrets)
    names = [name.lower() for name, _ in given]
    assert len(set(names)) == len(names)
    by_name = {name.lower(): value for name, value in given}
    assert by_name["content-type"] == dialect.content_type
    assert by_name["user-agent"].startswith(AGENTS)
    assert not {"host", "content-length", "transfer-encoding", "connection"} & set(names)
    assert set(names) <= dialect.own_headers | {"content-type", "user-agent", "accept"}
    assert check_headers({f"x-{n}": value for n, value in enumerate(by_name.values())}) == []


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_secrets_never_leave(dialect: Dialect) -> None:
    """Neither the secret nor its text after the prefix stands in any header or the body."""
    secret = secret_of(dialect, 3)
    body, headers = sent(dialect, shot_of(dialect), (secret,))
    everything = body.decode() + repr(headers)
    assert secret not in everything
    assert secret.partition("_")[2] not in everything or "_" not in secret


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_signatures_depend_on_secret_and_body(dialect: Dialect) -> None:
    """Another key, another body or no key at all changes what is sent, but nothing that is shown."""
    shot = shot_of(dialect)
    one, two = secret_of(dialect, 1), secret_of(dialect, 2)
    variants = [sent(dialect, shot, secrets) for secrets in ((one,), (two,), (two, one), ())]
    assert len({*variants[:2], variants[3]}) == 3
    signed = [h for h in sent(dialect, shot, (one,))[1] if h[0].lower() in dialect.secret_headers]
    other = sent(dialect, shot_of(dialect, DATA.replace(b"t/1", b"t/2")), (one,))
    assert other[0] != variants[0][0]
    assert not signed or [h for h in other[1] if h[0].lower() in dialect.secret_headers] != signed
    plain = [shown(dialect, shot, secrets) for secrets in ((one,), (two,), (two, one), (one, two))]
    assert all(one == other for one, other in pairwise(plain))


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_the_newest_secret_signs_first(dialect: Dialect) -> None:
    """With several live secrets the newest comes first, or alone where the vendor has one signature."""
    shot = shot_of(dialect)
    new, old = secret_of(dialect, 1), secret_of(dialect, 2)
    both, newest, oldest = (sent(dialect, shot, secrets) for secrets in ((new, old), (new,), (old,)))
    for (name, value), (_, new_value), (_, old_value) in zip(both[1], newest[1], oldest[1], strict=True):
        if name.lower() in dialect.secret_headers:
            assert value.startswith(new_value)
            assert value == new_value or value.endswith(old_value.rpartition(",")[2])
    if not any(name.lower() in dialect.secret_headers for name, _ in both[1]):
        assert both == newest


@pytest.mark.parametrize("dialect", SIGNING, ids=lambda d: d.name)
def test_secrets_it_makes_pass_its_check(dialect: Dialect) -> None:
    """A generated secret is one the API would accept, an empty one isn't."""
    assert dialect.check_secret(secret_of(dialect, 9), {}) is None
    assert dialect.check_secret("", {})


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_unknown_options_are_refused(dialect: Dialect) -> None:
    """No option is ever silently ignored, and no value is repeated."""
    assert dialect.check_options({}) == []
    assert len(dialect.check_options({"no-such-option": "x"})) == 1
    assert "no-such-option" in dialect.check_options({"no-such-option": "x"})[0]
    for option in dialect.options:
        assert option.meaning
        for value in option.values:
            assert dialect.check_options({option.name: value}) == []
        (problem,) = dialect.check_options({option.name: "swordfish\r\n"})
        assert option.name in problem
        assert "swordfish" not in problem


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@pytest.mark.parametrize("status", [100, 101, 300, 302, 400, 401, 404, 429, 500, 503, 999, 0])
def test_every_other_status_has_a_verdict(dialect: Dialect, status: int) -> None:
    """A failure is tried again or given up; a dialect can't declare it delivered."""
    assert dialect.judge(status) in {Verdict.RETRY, Verdict.GIVE_UP}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_hostile_data_encodes(dialect: Dialect) -> None:
    """Whatever the parser lets through, a dialect can send: deep, big, doubled, empty."""
    deep = b'{"self":"s","a":' + b"[" * 62 + b"]" * 62 + b"}"
    for data in (deep, b'{"self":"s","n":1e400,"n":-0.0}', b'{ \n"self" : "s" , "":{}, "e":[ ] }'):
        body = dialect.encode(shot_of(dialect, data), ())
        assert body.decode()
