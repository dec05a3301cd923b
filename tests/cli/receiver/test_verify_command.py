"""``ringback verify`` and ``listen`` as their users meet them."""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from ringback import dialects
from ringback.cli import main


def vector():
    """A signed request of the dialect standard."""
    return next(v for v in dialects.get("standard").vectors if v.secrets)


def verify(*arguments):
    """Run the command at the vector's moment."""
    return CliRunner().invoke(main, ["verify", "--at", str(vector().now_ms // 1000), *arguments])


def test_a_captured_request_is_right(tmp_path):
    """A whole HTTP request from a file passes, exit 0."""
    lines = [b"POST /hook HTTP/1.1", b"Host: x", *(f"{n}: {v}".encode() for n, v in vector().headers)]
    file = tmp_path / "captured.http"
    file.write_bytes(b"\r\n".join(lines) + b"\r\n\r\n" + vector().body)
    result = verify("--request", str(file), "--secret", vector().secrets[0])
    assert result.exit_code == 0, result.output
    assert "the request is right" in result.output


def test_a_wrong_part_is_named_and_the_exit_code_says_no(tmp_path):
    """Exit 1, and the line with the cross names the signature."""
    body, headers = tmp_path / "body", tmp_path / "headers"
    body.write_bytes(vector().body + b"\n")
    headers.write_text("\n".join(f"{n}: {v}" for n, v in vector().headers))
    result = verify("--secret", vector().secrets[0], "--headers", str(headers), str(body))
    assert result.exit_code == 1
    assert "✗ webhook-signature" in result.output
    assert "added on the way" in result.output


def test_json_holds_every_finding(tmp_path):
    """For scripts: the findings as they are; the secret comes from a file."""
    secret, body = tmp_path / "secret", tmp_path / "body"
    secret.write_text(vector().secrets[0] + "\n")
    body.write_bytes(vector().body)
    result = verify(
        "--json",
        "--dialect=standard",
        f"--secret-file={secret}",
        *(f"-H{n}: {v}" for n, v in vector().headers),
        str(body),
    )
    told = json.loads(result.output)
    assert told["ok"]
    assert {f["part"] for f in told["findings"]} >= {"webhook-id", "webhook-signature"}


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
def test_a_secret_that_lies_open_is_warned_of(open_folder, mode, warned):
    """The same option reads the secrets of listen: everybody may read the file, and whoever gives it learns that."""
    secret, body = open_folder / "secret", open_folder / "body"
    secret.write_text(vector().secrets[0])
    secret.chmod(mode)
    body.write_bytes(vector().body)
    result = verify("--dialect=standard", f"--secret-file={secret}", str(body))
    assert (f"warning: {secret}: everybody on this machine may read this secret" in result.stderr) is warned


def test_bad_usage_is_two(tmp_path):
    """No body, both bodies, an unknown dialect, no such file: exit 2 with a sentence."""
    for arguments in ([], ["--request", "x", "y"], ["--dialect", "nope", __file__], [str(tmp_path / "none")]):
        assert verify(*arguments).exit_code == 2


@contextlib.contextmanager
def listening(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command as a process, and its URL; a test that fails meanwhile ends it."""
    command = [sys.executable, "-m", "ringback", "listen", "--port=0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, json.loads(process.stdout.readline())["listening"]
        finally:
            process.terminate()


@pytest.mark.parametrize("option", ["--secret", "--secret-file"])
def test_listen_shows_checks_fails_and_ends(tmp_path, option):
    """A receiver process: the first request fails on demand, the second is right, then it ends by itself."""
    file, (secret, *_) = tmp_path / "secret", vector().secrets
    file.write_text(secret + "\n")
    given = secret if option == "--secret" else str(file)
    with listening("--fail-first=1", "--count=2", option, given) as (process, url):
        statuses = []
        for _ in range(2):
            request = urllib.request.Request(url + "hook", vector().body, dict(vector().headers), method="POST")
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    statuses.append(response.status)
            except urllib.error.HTTPError as error:
                statuses.append(error.code)
                error.close()
        told = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0
    assert statuses == [503, 200]
    assert [one["answered"] for one in told] == ["503", "200"]
    assert {f["part"] for f in told[0]["findings"] if f["ok"]} >= {"webhook-id", "webhook-signature"}


def test_listen_on_a_taken_port_says_so_and_what_to_do():
    """One sentence, as of every command, with exit 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(main, ["listen", "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 1
    assert done.stderr.startswith("ringback: cannot listen on 127.0.0.1:")
    assert "--port 0" in done.stderr


def test_listen_answers_a_handshake():
    """A validation token comes back as it was sent."""
    with listening() as (process, url):
        request = urllib.request.Request(url + "hook?validationToken=abc%20d", b"", method="POST")
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.read() == b"abc d"
        assert json.loads(process.stdout.readline())["handshake"] == "graph"


def test_listen_takes_an_event_that_lies_in_a_url():
    """Pulse by GET: members of forty kilobytes, whole, and judged."""
    with listening("--count=1") as (process, url):
        with urllib.request.urlopen(url + "hook?status=success&request_id=1&t=" + "x" * 40_000, timeout=60) as response:
            assert response.status == 200
        told = json.loads(process.stdout.readline())
        assert process.wait(60) == 0
    assert (told["dialect"], told["ok"]) == ("pulse", True)
