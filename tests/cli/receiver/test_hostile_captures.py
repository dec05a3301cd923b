"""What ``verify`` makes of captures that are cut, hostile or strange: it tells, never falls over, never says right."""

import base64
import hmac

import pytest
from click.testing import CliRunner

from ringback.cli import main
from ringback.cli.receiver.captured import Captured
from ringback.cli.receiver.challenges import reply_to

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED = ("-Hwebhook-id: a", "-Hwebhook-timestamp: 1", "-Hwebhook-signature: v1,YWJj", "--at=1")


def verify(tmp_path, body, *arguments, whole=False):
    """Run the command over these bytes."""
    file = tmp_path / "file"
    file.write_bytes(body)
    return CliRunner().invoke(main, ["verify", *arguments, *(["--request"] if whole else []), str(file)])


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, bytes(range(256)), b"", b"1" * 5000])
@pytest.mark.parametrize("dialect", ["standard", "prosa", "deepva", "pulse", "azure-speech", "speechlive"])
def test_no_body_makes_it_fall_over(tmp_path, dialect, body):
    """Binary, empty or nested too deep: a finding says what is wrong."""
    headers = (
        "-Hx-prosa-signature: t=1,v1=00",
        "-Hx-microsoftspeechservices-signature: YWJj",
        "-Hx-trouble-request-hash: YWJj",
    )
    result = verify(tmp_path, body, f"--dialect={dialect}", "--secret", SECRET, *SIGNED, *headers)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)


def test_a_receiver_that_is_sent_brackets_goes_on(tmp_path):
    """A delivery that mentions zoom's challenge and can't be parsed is none."""
    assert reply_to(Captured({}, b'{"event":"endpoint.url_validation","x":' + b"[" * 100_000), ()) is None
    unsayable = b'{"event":"endpoint.url_validation","payload":{"plainToken":"\\ud800"}}'
    assert reply_to(Captured({}, unsayable), ("key",)) is None


@pytest.mark.parametrize(
    ("capture", "said"),
    [
        (b"POST / HTTP/1.1\r\ncontent-length: \xb2\r\n\r\nab", "no length"),
        (b"POST / HTTP/1.1\r\ncontent-length: %b\r\n\r\nab" % (b"9" * 5000), "no length"),
        (b"POST / HTTP/1.1\r\ncontent-length: 50\r\n\r\nab", "cut short: its body has 2 of 50 bytes"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "chunked"),
        (b"", "no HTTP request"),
    ],
)
def test_a_capture_that_cannot_be_judged_is_bad_usage(tmp_path, capture, said):
    """Exit 2 and the reason, rather than a verdict about other bytes."""
    result = verify(tmp_path, capture, "--secret", SECRET, whole=True)
    assert result.exit_code == 2, result.output
    assert said in result.output


@pytest.mark.parametrize("secret", ["", "\udcff"])
def test_a_secret_that_is_none_is_bad_usage(tmp_path, secret):
    """An empty one comes of an unset variable, and anybody can sign with it."""
    assert verify(tmp_path, b"{}", "--secret", secret, *SIGNED).exit_code == 2


@pytest.mark.parametrize("secret", ["whsec_!!!", "whsec_", "plain"])
def test_a_secret_without_a_key_never_fits(tmp_path, secret):
    """A forger's signature under the empty key is not taken; the finding names the secret."""
    forged = base64.b64encode(hmac.digest(b"", b"a.1.{}", "sha256")).decode()
    result = verify(tmp_path, b"{}", "--secret", secret, *SIGNED[:2], f"-Hwebhook-signature: v1,{forged}", "--at=1")
    assert result.exit_code == 1
    assert "✗ secret" in result.output


def test_a_key_that_is_no_base64_never_fits(tmp_path):
    """The same for SpeechLive's key in base64."""
    forged = base64.b64encode(hmac.digest(b"", b"{}", "sha256")).decode()
    options = ("--secret=!!!", "--option=key=base64", f"-HX-Trouble-Request-Hash: {forged}")
    result = verify(tmp_path, b"{}", *options)
    assert result.exit_code == 1
    assert "not padded base64" in result.output


def test_a_time_of_five_thousand_digits_is_no_time(tmp_path):
    """Named, in few characters."""
    result = verify(tmp_path, b"{}", "--secret", SECRET, "-Hwebhook-id: a", "-Hwebhook-timestamp: " + "9" * 5000)
    assert result.exit_code == 1
    assert len(result.output) < 1000


@pytest.mark.parametrize(("url", "exit_code"), [("/hook?a=1&validationToken=tok%20en", 0), ("/hook", 1)])
def test_an_azure_challenge_is_judged_by_its_token(tmp_path, url, exit_code):
    """The signature is over the decoded token of the url, not over the empty body."""
    signature = base64.b64encode(hmac.digest(b"key", b"tok en", "sha256")).decode()
    headers = (
        "-HX-MicrosoftSpeechServices-Event: Challenge",
        f"-HX-MicrosoftSpeechServices-Signature: {signature}",
    )
    result = verify(tmp_path, b"", "--secret=key", f"--url={url}", *headers)
    assert result.exit_code == exit_code, result.output
    assert exit_code == 0 or "give --url" in result.output


def test_a_speechlive_request_without_a_hash_is_recognised(tmp_path):
    """The shared secret alone tells whose it is."""
    assert verify(tmp_path, b"{}", "-HX-Trouble-Secret: abc", "--option=shared_secret=abc").output.startswith("speech")


def test_a_prosa_time_ahead_passes_as_with_the_vendor(tmp_path):
    """The vendor's receiver refuses what is old, nothing else."""
    digest = "d3b3e9bb4dd4ad5e3d4f7d4a4c3a06d2"
    result = verify(
        tmp_path, b"{}", "--dialect=prosa", "--secret=k", f"-Hx-prosa-signature: t=9999,v1={digest}", "--at=1"
    )
    assert "✓ x-prosa-signature t" in result.output


def test_a_strangers_control_characters_are_told_and_not_obeyed(tmp_path):
    """Nothing a request holds moves the cursor or renames the window."""
    result = verify(tmp_path, b'{"status":"\\u001b[2J","request_id":"\\u009b1m\\u202e"}', "--dialect=pulse")
    assert r"\x1b[2J of request \x9b1m\u202e" in result.output


def test_a_get_needs_both_members_and_not_their_letters(tmp_path):
    """``xstatus`` is no status."""
    url = "--url=/?xstatus=1&request_id=2"
    assert verify(tmp_path, b"", "--dialect=pulse", "--method=GET", url).exit_code == 1
    assert verify(tmp_path, b"", "--dialect=pulse", "--method=GET", "--url=/?status=1&request_id=2").exit_code == 0
