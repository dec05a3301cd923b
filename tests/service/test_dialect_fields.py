"""Endpoints of every dialect: their secrets, options and defaults, and which events they get."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.service.endpoint_world import World, open_world

from ringback.core.model import Event
from ringback.dialects import names


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Endpoints over a real writer."""
    async with open_world(tmp_path) as made:
        yield made


@pytest.mark.parametrize("dialect", names())
async def test_each_dialect_makes_its_own_secret(world: World, dialect: str) -> None:
    """Without a secret those that sign get one in their form; the empty one is unsigned."""
    made = await world.make(dialect=dialect)
    form = {"standard": "whsec_", "pulse": ""}.get(dialect)
    secrets = made.endpoint.secrets
    if dialect == "pulse":
        assert secrets == ()
    elif form:
        assert secrets[0].value.startswith(form)
    else:
        assert len(bytes.fromhex(secrets[0].value)) == 32
    assert (await world.make(dialect=dialect, secret="")).endpoint.secrets == ()


@pytest.mark.parametrize(
    ("dialect", "timeout_s", "gaps"),
    [
        ("standard", 30, (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)),
        ("prosa", 30, (60.0, 300.0, 1800.0, 7200.0)),
        ("azure-speech", 10, (1.0,) * 5),
        ("speechlive", 100, (2.0, 2.0)),
        ("pulse", 30, None),
    ],
)
async def test_defaults_are_the_dialects(world: World, dialect: str, timeout_s: float, gaps: tuple | None) -> None:
    """Deadline and retries come from the dialect unless the endpoint has its own."""
    effective = world.endpoints.effective((await world.make(dialect=dialect)).endpoint)
    assert (effective.timeout_s, effective.retry.delays_s) == (timeout_s, gaps)
    if gaps is None:
        assert (effective.retry.initial_s, effective.retry.max_s, effective.retry.attempts) == (1.0, 600.0, 11)
    own = world.endpoints.effective((await world.make(dialect=dialect, timeout_s=7.0)).endpoint)
    assert own.timeout_s == 7.0


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"dialect": "prosa", "options": {"colour": "red"}}, ("options",)),
        ({"dialect": "prosa", "options": {"signature": "md5"}}, ("options",)),
        ({"dialect": "prosa", "secret": "no hex", "options": {"signature": "hmac-hex"}}, ("secret",)),
        ({"dialect": "prosa", "secret": "a\nb"}, ("secret",)),
        ({"dialect": "prosa", "headers": {"X-Prosa-Event": "x"}}, ("headers",)),
        ({"dialect": "deepva", "options": {"serialisation": "yaml"}}, ("options",)),
        ({"dialect": "azure-speech", "options": {"self_template": "ftp://x/{id}"}}, ("options",)),
        ({"dialect": "azure-speech", "options": {"self_template": "https://x/{id"}}, ("options",)),
        ({"dialect": "speechlive", "options": {"shared_secret": "a\r\nb"}}, ("options",)),
        ({"dialect": "speechlive", "options": {"shared_secret": "ü"}}, ("options",)),
        ({"dialect": "speechlive", "secret": "a?b", "options": {"key": "base64"}}, ("secret",)),
        ({"dialect": "pulse", "secret": "text", "options": {"signature": "standard"}}, ("secret",)),
        ({"dialect": "pulse", "options": {"webhook_extra": "no colon"}}, ("options",)),
        ({"dialect": "standard", "secret": "whsk_abc"}, ("secret",)),
    ],
)
async def test_what_a_dialect_refuses(world: World, members: dict, place: tuple) -> None:
    """Options, secrets as the options read them, and headers the dialect sends itself are judged at creation."""
    refused = await world.refused(**members)
    assert refused.code == "invalid_endpoint"
    assert [problem.loc for problem in refused.problems] == [place]


async def test_options_are_judged_with_the_secret_there_is(world: World) -> None:
    """An option that makes the present secret unreadable is refused; with a fitting one it is a new revision."""
    made = await world.make(dialect="speechlive", secret="plain text!")
    refused = await world.endpoints.patch(made.endpoint.id, {"options": {"key": "base64"}})
    assert refused.problems[0].loc == ("secret",)
    changed = await world.change(made, {"options": {"key": "base64"}, "secret": "QmFzZTY0"})
    assert changed.endpoint.revision == made.endpoint.revision + 1
    merged = await world.change(made, {"options": {"shared_secret": "s"}})
    assert merged.endpoint.options == {"key": "base64", "shared_secret": "s"}


async def test_who_gets_what(world: World) -> None:
    """Types and data decide: what a dialect can't say isn't matched, and a sentence says why."""
    lanes = {}
    for name, options in (("deepva", {}), ("speechlive", {}), ("azure-speech", {}), ("prosa", {})):
        lanes[name] = (await world.make(dialect=name, options=options)).endpoint
    template = {"self_template": "https://h.example/{job_id}"}
    lanes["template"] = (await world.make(dialect="azure-speech", options=template)).endpoint

    def match(type_: str, data: bytes) -> set[str]:
        found = world.endpoints.match("default", type_, data)
        return {name for name, endpoint in lanes.items() if endpoint.lane in found}

    assert match("stt.jobs.completed", b"{}") == {"deepva", "prosa"}
    assert match("stt.jobs.completed", b'{"self":"https://h"}') == {"deepva", "prosa", "azure-speech", "template"}
    assert match("stt.jobs.completed", b'{"self":null,"job_id":7}') == {"deepva", "prosa", "template"}
    assert match("stt.jobs.completed", b'{"self":"","job_id":[7]}') == {"deepva", "prosa"}
    assert match("dictation.created", b"{}") == {"speechlive", "prosa"}
    assert match("ModelDeletion", b'{"self":"s"}') == {"azure-speech", "template", "prosa"}
    event = Event("e", "default", "stt.jobs.completed", b"{}", 0, b"")
    said = {name: world.endpoints.unsaid(endpoint, event) for name, endpoint in lanes.items()}
    assert said["prosa"] is said["deepva"] is None
    assert "can't express the type" in said["speechlive"]
    assert "self_template" in said["azure-speech"]


async def test_a_patched_template_counts_from_the_next_event(world: World) -> None:
    """Matching sees the options as they are now; a deleted endpoint is asked nothing any more."""
    made = await world.make(dialect="azure-speech")
    assert world.endpoints.match("default", "stt.jobs.completed", b'{"id":"x"}') == ()
    await world.change(made, {"options": {"self_template": "https://h.example/{id}"}})
    assert world.endpoints.match("default", "stt.jobs.completed", b'{"id":"x"}') == (made.endpoint.lane,)
    await world.endpoints.delete(made.endpoint.id)
    assert world.endpoints.match("default", "stt.jobs.completed", b'{"id":"x"}') == ()
