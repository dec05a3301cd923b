"""docs/receivers.md: its verifying programs accept what the dialects send and nothing else; its examples are true."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ringback import dialects
from ringback.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "receivers.md").read_text()
MAX_LINES = 15
NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node isn't installed")

#: Options under which a dialect signs otherwise than the page's program checks; the page says so.
OTHERWISE = ({"signature": "sha256="}, {"key": "base64"})
#: A digest in a header, in base64 or hexadecimal.
DIGEST = re.compile(r"[\w+/=]{40,}")
DRIVER = """
import { readFileSync } from "node:fs";
const told = [];
for (const { file, headers, body, secret } of JSON.parse(readFileSync(0, "utf8"))) {
  const { verify } = await import(file);
  try { told.push(verify(headers, Buffer.from(body, "base64"), secret)); } catch { told.push("an exception"); }
}
console.log(JSON.stringify(told));
"""


def section(dialect):
    """What the page says of a dialect."""
    return TEXT.split(f"\n### {dialect}\n")[1].split("\n#")[0]


def program(dialect, language):
    """The one program of that language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", section(dialect), re.DOTALL)
    return code


def samples():
    """Signed requests of every dialect, of now: (dialect, options, headers, body, secrets)."""
    now_ms = int(time.time() * 1000)
    for name in dialects.names():
        dialect = dialects.get(name)
        for vector in dialect.vectors:
            if any(other.items() <= dict(vector.shot.options).items() for other in OTHERWISE):
                continue
            secrets = vector.secrets or (("a-secret-of-ours",) if name == "pulse" else ())
            body = dialect.encode(vector.shot, secrets)
            headers = dialect.headers(vector.shot, body, secrets, now_ms)
            if secrets:
                yield name, {key.lower(): value for key, value in headers}, body, secrets


def cases():
    """(what is tried, dialect, headers, body, secret, whether it may pass)."""
    for name, headers, body, secrets in samples():
        live = secrets if name in ("standard", "prosa") else secrets[:1]
        for secret in live:
            yield "as sent", name, headers, body, secret, True
        yield "another secret", name, headers, body, "whsec_" + "B" * 32, False
        yield "an altered body", name, headers, _altered(body), secrets[0], False
        bare = {key: value for key, value in headers.items() if "signature" not in key and "hash" not in key}
        if bare != headers:
            yield "no signature", name, bare, body, secrets[0], False
            spoilt = {key: DIGEST.sub(lambda found: found[0][:-5] + "AAAA=", value) for key, value in headers.items()}
            yield "a spoilt signature", name, spoilt, body, secrets[0], False
        if name == "standard":
            old = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)}
            yield "an old time", name, old, body, secrets[0], False


def _altered(body):
    """Still the same form, another content: a byte within a string of the data."""
    at = body.rindex(b'"job_id"') if b'"job_id"' in body else body.index(b'"', len(body) // 3) + 1
    return body[:at] + b"~" + body[at:]


#: To name the tests by. Each is made anew when its turn comes: a signature is good for five minutes only.
CASES = [case[:2] for case in cases()]


def test_every_dialect_is_on_the_page_in_both_languages():
    """Each has a program of at most fifteen lines in Python and in Node, and is tried with a request of its own."""
    for name in dialects.names():
        for language in ("python", "js"):
            assert 0 < len(program(name, language).splitlines()) <= MAX_LINES
    assert {case[1] for case in cases() if case[-1]} == set(dialects.names())


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{name}, {what}" for what, name in CASES])
def test_the_python_programs_verify(number):
    """True for what was sent, and never for anything that was changed on the way."""
    _, name, headers, body, secret, good = list(cases())[number]
    names = {}
    exec(program(name, "python"), names)
    try:
        told = names["verify"](headers, body, secret)
    except (KeyError, ValueError, AttributeError):
        told = "an exception"
    assert (told is True) == good


@NODE
def test_the_node_programs_verify(tmp_path):
    """The same of Node's, all in one process."""
    for name in dialects.names():
        (tmp_path / f"{name}.mjs").write_text(program(name, "js"))
    now = list(cases())
    (tmp_path / "driver.mjs").write_text(DRIVER)
    tried = [
        {"file": f"./{name}.mjs", "headers": headers, "body": base64.b64encode(body).decode(), "secret": secret}
        for _, name, headers, body, secret, _ in now
    ]
    run = subprocess.run(
        ["node", "driver.mjs"], cwd=tmp_path, input=json.dumps(tried), capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout)
    wrong = [(case[1], case[0]) for case, answer in zip(now, told, strict=True) if (answer is True) != case[-1]]
    assert wrong == []


def test_the_example_of_verify_is_what_it_prints(tmp_path, monkeypatch):
    """The captured request of the page, judged by the command of the page, gives the lines of the page."""
    (capture,) = re.findall(r"```http\n(.*?)\n```", TEXT, re.DOTALL)
    ((command, output),) = re.findall(r"```console\n\$ ringback (verify.*?)\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "captured.http").write_text(capture)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.output == output
    assert result.exit_code == 1
