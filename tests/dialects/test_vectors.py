"""The known answers of the wire formats: digest(body, secret) as the vendors' receivers compute it."""

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest

from ringback import dialects
from ringback.core.json_forms import compact_form, python_form
from ringback.core.model import Event
from ringback.core.signing import hmac_hex
from ringback.dialects import Shot, azure_speech

ALL = {v["id"]: v for v in json.loads((Path(__file__).parent / "vectors.json").read_text())["vectors"]}
VENDORS = {
    "prosa": "prosa",
    "deepva": "deepva",
    "azure": "azure-speech",
    "waves": "pulse",
    "speechlive": "speechlive",
    "standard-webhooks": "standard",
}
#: How a vector that isn't the default is asked for.
OPTIONS = {
    "prosa-06-alt-stripe-text-key": {"signature": "hmac"},
    "prosa-07-alt-stripe-hex-key": {"signature": "hmac-hex"},
    "prosa-08-alt-gitbook": {"signature": "sha256="},
    "deepva-03-german-compact": {"serialisation": "compact"},
    "waves-03-extras-nested": {"extra": "nested"},
    "waves-06-optional-own-signature-standard": {"signature": "standard"},
    "speechlive-04-key-base64-decoded": {"key": "base64"},
}
#: What a header's value says besides the digest is ours to choose (docs/dialects.md).
DIGESTS = ("signature", "request-hash", "x-trouble-secret")
OF_DIALECTS = [name for name, v in ALL.items() if v["vendor"] in VENDORS]


def secrets_of(vector):
    """The secrets as an endpoint has them, and the options that go with them."""
    given = vector["secret"]
    if isinstance(given, dict):
        return (given["signing_key"],), {"shared_secret": given["shared_secret"]}
    return ((given,) if given else ()), {}


def made_of(name):
    """Dialect, shot and secrets for a vector's body."""
    vector = ALL[name]
    dialect = dialects.get(VENDORS[vector["vendor"]])
    secrets, options = secrets_of(vector)
    headers = {key.lower(): value for key, value in vector["expected_headers"].items()}
    event_id = headers.get("webhook-id") or headers.get("x-prosa-event-uuid") or "evt"
    event = Event(event_id, "default", vector.get("event", "a.b"), vector["body"].encode(), 0, b"")
    return dialect, Shot(event, event.type, options=options | OPTIONS.get(name, {})), secrets


@pytest.mark.parametrize("name", ALL)
def test_bodies_are_what_they_say(name):
    """The file came through whole: size and digest of each body are right."""
    body = ALL[name]["body"].encode()
    assert len(body) == ALL[name]["body_bytes"]
    assert hashlib.sha256(body).hexdigest() == ALL[name]["body_sha256"]


@pytest.mark.parametrize("name", [n for n in OF_DIALECTS if n != "azure-01-challenge"])
def test_headers_carry_the_known_digest(name):
    """For the vector's very body and secret the dialect makes the vector's signature; what must be absent is."""
    dialect, shot, secrets = made_of(name)
    vector = ALL[name]
    assert dialect.check_options(shot.options) == []
    assert all(dialect.check_secret(secret, shot.options) is None for secret in secrets)
    now_ms = int(vector.get("timestamp", 0)) * 1000
    made = dialect.headers(shot, vector["body"].encode(), secrets, now_ms)
    sent = {key.lower(): value for key, value in made}
    for key, wanted in vector["expected_headers"].items():
        value = sent[key.lower()]
        if name.startswith(("prosa-06", "prosa-07")) and key == "x-prosa-signature":
            stamp, digest = wanted.split(",")
            assert value.split(",")[0] == stamp
            assert value.split(",")[2] == digest  # beside the vendor's own form, which stays first
        elif key.lower() == "content-type":
            assert value.partition(";")[0] == wanted.partition(";")[0]
        else:
            assert value == wanted or (name.startswith("prosa-08") and key == "x-prosa-event")
    assert not {key.lower() for key in vector.get("expected_absent_headers", ())} & set(sent)
    if not secrets:
        assert not any(digest in key for key in sent for digest in DIGESTS)


@pytest.mark.parametrize("name", [n for n in OF_DIALECTS if n.startswith("deepva")])
def test_deepva_signs_the_slice_it_sends(name):
    """From the data as any producer may write it: the signed text, its signature, and both inside the envelope."""
    vector = ALL[name]
    dialect, shot, secrets = made_of(name)
    whole = json.loads(vector["body"])
    for form in (partial(json.dumps, indent=1), partial(json.dumps, ensure_ascii=False)):
        event = Event(
            whole["id"], "t", whole["event"], form(whole["data"]).encode(), round(whole["timestamp"] * 1000), b""
        )
        body = dialect.encode(Shot(event, event.type, options=shot.options), secrets)
        assert vector["signed_text"].encode() in body
        assert json.loads(body) == whole | {"timestamp": round(whole["timestamp"], 3)}
        assert list(json.loads(body)) == ["event", "id", "data", "timestamp", "hmac_signature"]
        assert json.loads(body)["hmac_signature"] == vector["expected_body_field"]["hmac_signature"]
        if whole["timestamp"] == round(whole["timestamp"], 3):
            assert body == vector["body"].encode()


@pytest.mark.parametrize("name", [n for n in OF_DIALECTS if n.startswith(("waves-02", "waves-03"))])
def test_pulse_bodies_with_extras(name):
    """From the members without status and extras the vector's whole body comes out."""
    vector = ALL[name]
    dialect, shot, secrets = made_of(name)
    members = json.loads(vector["body"])
    data = {k: v for k, v in members.items() if k not in {"status", "case_id", "region", "webhook_extra"}}
    event = Event(
        "e", "t", "stt.jobs.completed", json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(), 0, b""
    )
    options = {**shot.options, "webhook_extra": vector["webhook_extra"]}
    body = dialect.encode(Shot(event, "asr.completed", options=options), secrets)
    assert body == vector["body"].encode()


@pytest.mark.parametrize("name", [n for n in OF_DIALECTS if n.startswith(("prosa", "speechlive", "waves"))])
def test_a_body_that_is_complete_is_left_alone(name):
    """Formats whose body is the data send the producer's bytes; Pulse too, but for a missing request_id."""
    dialect, shot, secrets = made_of(name)
    body = dialect.encode(shot, secrets)
    wanted = shot.event.data
    if VENDORS[ALL[name]["vendor"]] == "pulse" and b'"request_id"' not in wanted:
        wanted = wanted[:-1] + b',"request_id":"evt"}'
    assert body == wanted


@pytest.mark.parametrize("name", [n for n in OF_DIALECTS if n.startswith(("azure-02", "azure-05"))])
def test_azure_bodies_point_at_the_entity(name):
    """Self first and as the producer wrote it, then a stable id; the vector's own id was the vendor's to choose."""
    dialect, shot, secrets = made_of(name)
    body = json.loads(dialect.encode(shot, secrets))
    assert list(body) == ["self", "invocationId"]
    assert body["self"] == json.loads(ALL[name]["body"])["self"]


def test_the_forms_of_deepvas_vectors():
    """The signed texts are fixed points of their forms and turn into each other."""
    python, compact = (
        ALL[n]["signed_text"].encode() for n in ("deepva-04-export-completed-python", "deepva-03-german-compact")
    )
    assert python_form(python) == python_form(compact_form(python)) == python
    assert compact_form(compact) == compact_form(python_form(compact)) == compact


def test_hexadecimal_digests_of_the_neighbours():
    """GitHub's, Dropbox's and WebSub's published answers come out of the helper that dialects use."""
    for name, prefix in (("github-01-known", "sha256="), ("dropbox-01-known", ""), ("websub-01-sha256", "sha256=")):
        vector = ALL[name]
        (value,) = vector["expected_headers"].values()
        assert prefix + hmac_hex(vector["secret"].encode(), vector["body"].encode()) == value


def test_a_challenges_token_is_signed_not_its_body():
    """Azure's handshake signs the token with what signs bodies."""
    vector = ALL["azure-01-challenge"]
    wanted = vector["expected_headers"]["X-MicrosoftSpeechServices-Signature"]
    assert azure_speech.sign(vector["secret"], vector["signed_text"].encode()) == wanted


def test_zooms_request_and_reply():
    """Zoom's request is signed over version, time and body; its reply is the token's own digest."""
    vector = ALL["zoom-01-url-validation"]
    key = vector["secret"].encode()
    text = f"v0:{vector['timestamp']}:{vector['body']}".encode()
    assert "v0=" + hmac_hex(key, text) == vector["expected_headers"]["x-zm-signature"]
    reply = json.loads(vector["expected_response"]["body"])
    assert hmac_hex(key, reply["plainToken"].encode()) == reply["encryptedToken"]
