"""Dialect ``deepva``: DeepVA's envelope ``event, id, data, timestamp, hmac_signature``; the signature lies in the body.

``hmac_signature`` is base64 of HMAC-SHA256, key the secret's text, over exactly the bytes of ``data`` that are sent, so
that a receiver that cuts out the slice and one that parses and dumps it again in the same form both agree. It is null
without a secret; with several the newest signs. ``data`` comes from the producer with its resource key
(``{"transcript": {…}}``) and is written in the form of the option ``serialisation``: ``python`` as ``json.dumps`` does
it, ``compact`` as ``JSON.stringify``. Number tokens stay as the producer wrote them; ``timestamp`` is when the event
was created, seconds as a float.
Must not know: anything but the shot and its arguments.
Sources, with confidence: docs.deepva.com/core-resources/webhook: members and their order, HMAC-SHA256 over ``data``,
base64, event names (documented, high); key as UTF-8 text (inferred, high); which serialisation is signed is documented
nowhere: Python's is inferred from the vendor's samples (high); retries, timeout, null without a secret are ours.
"""

import re

from ringback.core.ids import uuid_of
from ringback.core.json_forms import compact_form, python_form
from ringback.core.model import Event
from ringback.core.names import TEST_TYPE
from ringback.core.signing import hmac_base64
from ringback.dialects._base import JSON, USER_AGENT, Dialect, Headers, Option, Shot, Vector

SERIALISATION = Option(
    name="serialisation",
    meaning="python: blanks after , and :, all but ASCII escaped; compact: no blanks, raw UTF-8",
    values=("python", "compact"),
)

_PYTHON = b'{"event": "%b", "id": "%b", "data": %b, "timestamp": %b, "hmac_signature": %b}'
_COMPACT = b'{"event":"%b","id":"%b","data":%b,"timestamp":%b,"hmac_signature":%b}'
_SIGNATURE = re.compile(rb'("hmac_signature": ?)"[^"]+"}\Z')


def encode(shot: Shot, secrets: tuple[str, ...]) -> bytes:
    """The envelope. Type and id need no escaping: their form was checked."""
    event = shot.event
    compact = SERIALISATION.of(shot.options) == "compact"
    data = compact_form(event.data) if compact else python_form(event.data)
    signature = b'"%b"' % hmac_base64(secrets[0].encode(), data).encode() if secrets else b"null"
    return (_COMPACT if compact else _PYTHON) % (
        shot.type_name.encode(),
        uuid_of(event.tenant, event.id).encode(),
        data,
        repr(event.created_at_ms / 1000).encode(),
        signature,
    )


def headers(_shot: Shot, _body: bytes, _secrets: tuple[str, ...], _now_ms: int) -> Headers:
    """Nothing of the event is in the headers."""
    return (("content-type", JSON), ("user-agent", USER_AGENT))


def mask(body: bytes, _shot: Shot) -> bytes:
    """The body without its signature."""
    return _SIGNATURE.sub(lambda found: found[1] + '"…"}'.encode(), body)


def expresses(type_name: str) -> bool:
    """The vendor's own names, and a test."""
    return type_name.startswith("deepva.") or type_name == TEST_TYPE


_EVENT = Event(
    id="42a1baeb-0919-4589-9d08-2186f567fa38",
    tenant="default",
    type="deepva.transcript.on_created",
    data=(
        b'{"transcript":{"id":"5f9b6eee-c1b6-4bf3-b4f7-d3a6bf450776","job":{"duration":214.015,"errors":[]},'
        b'"text":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x98\x80","n":18446744073709551616}}'
    ),
    created_at_ms=1_718_618_974_412,
    digest=b"",
)
_SECRET = "{a-secret-string}"  # noqa: S105 - the vendor's printed sample
_HEADERS: Headers = (("content-type", JSON), ("user-agent", USER_AGENT))

DIALECT = Dialect(
    name="deepva",
    description="DeepVA: an envelope with hmac_signature over data in it",
    encoder=1,
    signs=True,
    shared=False,
    encode=encode,
    headers=headers,
    mask=mask,
    options=(SERIALISATION,),
    words={"stt.jobs.completed": "deepva.transcript.on_created"},
    expresses=expresses,
    vectors=(
        Vector(
            why="python form: blanks, escapes, surrogate pairs",
            source="the vendor's rule, its serialisation inferred; recomputed by hand (medium)",
            shot=Shot(_EVENT, _EVENT.type),
            secrets=(_SECRET,),
            now_ms=1_718_618_975_000,
            body=(
                b'{"event": "deepva.transcript.on_created", "id": "42a1baeb-0919-4589-9d08-2186f567fa38", '
                b'"data": {"transcript": {"id": "5f9b6eee-c1b6-4bf3-b4f7-d3a6bf450776", "job": {"duration": 214.015, '
                b'"errors": []}, "text": "Gr\\u00fc\\u00dfe \\ud83d\\ude00", "n": 18446744073709551616}}, '
                b'"timestamp": 1718618974.412, "hmac_signature": "wya28dnAlk5rFaB/vlTvDYkm3WFZz7aGSBnZHQmVf8o="}'
            ),
            headers=_HEADERS,
        ),
        Vector(
            why="compact form: raw UTF-8",
            source="the same, for receivers that use JSON.stringify (low)",
            shot=Shot(_EVENT, _EVENT.type, options={"serialisation": "compact"}),
            secrets=(_SECRET,),
            now_ms=1_718_618_975_000,
            body=(
                b'{"event":"deepva.transcript.on_created","id":"42a1baeb-0919-4589-9d08-2186f567fa38","data":'
                + _EVENT.data
                + b',"timestamp":1718618974.412,"hmac_signature":"2xmm3LIHxuyvbvlr+uwRQVJ1lqFhSWJmuEMQWg3lji8="}'
            ),
            headers=_HEADERS,
        ),
    ),
)
