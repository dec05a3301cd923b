"""Answering challenges: each protocol gets what it wants, a delivery is none."""

import json

import pytest

from ringback.cli.receiver.captured import Captured
from ringback.cli.receiver.challenges import reply_to
from ringback.core import handshake_kinds
from ringback.core.model import Outcome, OutcomeKind


def test_a_delivery_is_no_challenge():
    """An ordinary event is not answered like one."""
    assert reply_to(Captured({"webhook-id": "1"}, b'{"type":"a"}', "POST", "/hook"), ()) is None


@pytest.mark.parametrize("kind", sorted(handshake_kinds.KINDS))
def test_each_kind_is_proved_by_the_answer(kind):
    """What the sender's step machine asks, the receiver answers to its satisfaction."""
    protocol = handshake_kinds.KINDS[kind]
    challenge = handshake_kinds.Challenge(
        **{
            field: value
            for field, value in {
                "token": "tok-" + "a" * 40,
                "url": "https://receiver.example/hook",
                "secrets": ("s3cret",),
                "now_ms": 1_800_000_000_000,
                "origin": "ringback.example",
                "callback": "https://ringback.example/c",
                "topic": "https://ringback.example/t",
            }.items()
            if field in handshake_kinds.Challenge.__struct_fields__
        }
    )
    ask = protocol.ask(challenge)
    headers = {name.lower(): value for name, value in ask.headers}
    reply = reply_to(Captured(headers, ask.body, ask.method, ask.url), ("s3cret",))
    assert reply is not None
    outcome = Outcome(
        OutcomeKind.RESPONSE, status=reply.status, headers=tuple(reply.headers.items()), body=reply.body.encode()
    )
    assert isinstance(protocol.judge(challenge, outcome), handshake_kinds.Proved)


@pytest.mark.parametrize(
    "body", [b"endpoint.url_validation", json.dumps({"event": "endpoint.url_validation"}).encode()]
)
def test_a_broken_validation_is_no_challenge(body):
    """A body that only looks like one is treated as a delivery."""
    assert reply_to(Captured({}, body), ("s",)) is None
