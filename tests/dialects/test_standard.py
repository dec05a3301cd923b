"""Standard Webhooks, checked with the published library, which is what receivers use."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from ringback.core.events import EventLimits, parse_line
from ringback.core.model import Event
from ringback.core.signing import new_secret
from ringback.dialects import Shot
from ringback.dialects.standard import DIALECT

NEW, OLD, FOREIGN = (new_secret(bytes([n]) * 32) for n in (1, 2, 3))


def event_of(data: object, type_: str = "stt.jobs.completed") -> Event:
    """An event as a producer's line becomes one."""
    line = json.dumps({"type": type_, "data": data}).encode()
    event = parse_line(line, EventLimits(), 1_795_255_200_123, "evt_1")
    assert isinstance(event, Event)
    return event


def sent(event: Event, secrets: tuple[str, ...]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an attempt made now."""
    body = DIALECT.encode(Shot(event, event.type), secrets)
    return body, dict(DIALECT.headers(Shot(event, event.type), body, secrets, time.time_ns() // 1_000_000))


@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=4))
def test_the_published_library_verifies_what_we_send(data: dict[str, object]) -> None:
    """Any event passes the reference verification and parses to what was emitted."""
    body, headers = sent(event_of(data), (NEW,))
    assert Webhook(NEW).verify(body, headers) == {
        "type": "stt.jobs.completed",
        "timestamp": "2026-11-21T10:00:00.123Z",
        "data": data,
    }


def test_both_secrets_verify_during_a_rotation() -> None:
    """A receiver with either key takes the request, the newest item comes first, a foreign key is refused."""
    body, headers = sent(event_of({}), (NEW, OLD))
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(FOREIGN).verify(body, headers)
    newest, _, older = headers["webhook-signature"].partition(" ")
    for secret, item in ((NEW, newest), (OLD, older)):
        assert Webhook(secret).verify(body, headers | {"webhook-signature": item})


def test_a_changed_body_is_refused() -> None:
    """One byte more and the reference library says no."""
    body, headers = sent(event_of({"x": 1}), (NEW,))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body + b" ", headers)


def test_the_body_holds_the_producers_bytes() -> None:
    """Spacing, number tokens and escapes inside data arrive as they were written."""
    line = b'{"data": { "n" : 18446744073709551616, "e":1E2 , "s":"\\u00e9\xc3\xa9" } , "type":"a"}'
    event = parse_line(line, EventLimits(), 0, "e")
    assert isinstance(event, Event)
    assert DIALECT.encode(Shot(event, event.type), ()) == (
        b'{"type":"a","timestamp":"1970-01-01T00:00:00.000Z","data":'
        b'{ "n" : 18446744073709551616, "e":1E2 , "s":"\\u00e9\xc3\xa9" }}'
    )


def test_the_id_is_the_events_and_the_time_the_attempts() -> None:
    """Over all attempts the id stays, the timestamp follows the clock in whole seconds."""
    event = event_of({})
    shot = Shot(event, event.type)
    body = DIALECT.encode(shot, (NEW,))
    first, later = (dict(DIALECT.headers(shot, body, (NEW,), ms)) for ms in (1_795_255_260_999, 1_795_255_261_000))
    assert first["webhook-id"] == later["webhook-id"] == "evt_1"
    assert (first["webhook-timestamp"], later["webhook-timestamp"]) == ("1795255260", "1795255261")
    assert first["webhook-signature"] != later["webhook-signature"]


def test_it_can_say_every_type() -> None:
    """No event is skipped for a standard endpoint."""
    assert DIALECT.expresses("anything.at-all_1")
