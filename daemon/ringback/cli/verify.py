"""``ringback verify``: judge one captured request; say which part is wrong and what probably happened.

Must not know: how any dialect is judged (``cli.receiver``).
"""

import sys
from pathlib import Path
from typing import Any

import click

from ringback.cli.context import Command, print_json
from ringback.cli.words import tell
from ringback.kit.exposure import OPEN_TO_ALL, open_to_all

#: Of a captured request, head and body.
MAX_CAPTURE_BYTES = 64 * 1024 * 1024
#: Of a content-length.
MAX_LENGTH_DIGITS = 18


secret_file_option = click.option(
    "--secret-file", metavar="FILE", help="A file with one secret a line, so that none is on the command line."
)


@click.command(cls=Command)
@click.argument("body_file", metavar="[BODYFILE]", required=False)
@click.option("--request", "request_file", metavar="FILE", help="A whole captured HTTP request instead; - is stdin.")
@click.option("--dialect", help="The format; guessed from the request if left out.")
@click.option("--secret", "secrets", multiple=True, help="The endpoint's secret; more than one during a rotation.")
@secret_file_option
@click.option("-H", "--header", "header_lines", multiple=True, metavar="'Name: value'", help="A header; repeatable.")
@click.option("--headers", "headers_file", metavar="FILE", help="A file of header lines.")
@click.option("--method", default="POST", show_default=True)
@click.option("--url", default="", help="The URL that was called; a GET carries its members there.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A setting of the dialect.")
@click.option("--at", type=int, metavar="SECONDS", help="Judge as of this Unix time instead of now.")
@click.option("--tolerance", type=int, default=300, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(as_json: bool, at: int | None, **given: Any) -> None:  # noqa: FBT001 - a command-line flag
    """Judge one captured webhook: which part is right, which is wrong, and why probably.

    Exits 0 if everything is right, 1 if anything is wrong. No daemon is needed.

    \b
    Examples:
      ringback verify --secret whsec_… --headers headers.txt body.json
      ringback verify --secret whsec_… --request captured.http
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.cli.receiver.captured import Settings  # noqa: PLC0415 - only this command needs it
    from ringback.cli.receiver.checks import CHECKS, check, recognise  # noqa: PLC0415 - the same
    from ringback.kit.clock import SystemClock  # noqa: PLC0415 - the same

    captured = _captured(given)
    dialect = given["dialect"] or recognise(captured)
    if dialect not in CHECKS:
        raise click.UsageError(f"there is no dialect {dialect}; there are {', '.join(CHECKS)}")
    now_s = at if at is not None else SystemClock().now_ms() // 1000
    settings = Settings(secrets_of(given), now_s, given["tolerance"], options_of(given["options"]))
    findings = check(dialect, captured, settings)
    right = all(finding.ok for finding in findings)
    if as_json:
        members = [{"part": f.part, "ok": f.ok, "said": f.said, "hint": f.hint} for f in findings]
        print_json({"dialect": dialect, "ok": right, "findings": members})
    else:
        for line in describe(dialect, findings, guessed=not given["dialect"]):
            click.echo(line)
    sys.exit(0 if right else 1)


def describe(dialect: str, findings: list[Any], *, guessed: bool = False) -> list[str]:
    """The findings in lines for people."""
    right = all(finding.ok for finding in findings)
    verdict = "the request is right" if right else "the request is NOT right"
    lines = [f"{dialect}{' (guessed)' if guessed else ''}: {verdict}"]
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        lines.append(f"  {'✓' if finding.ok else '✗'} {finding.part:<{width}}  {shown(finding.said)}")
        if finding.hint and not finding.ok:
            lines.append(f"    {'':<{width}}  probably: {finding.hint}")
    return lines


def shown(text: str) -> str:
    """Text of a request as a terminal may have it: a stranger's control characters are told, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _captured(given: dict[str, Any]) -> Any:
    from ringback.cli.receiver.captured import Captured  # noqa: PLC0415 - only this command needs it

    if (given["request_file"] is None) == (given["body_file"] is None):
        raise click.UsageError("give either BODYFILE (with -H or --headers) or --request FILE")
    if given["request_file"] is not None:
        return _whole(_read(given["request_file"]))
    lines = list(given["header_lines"])
    if given["headers_file"]:
        lines += _read(given["headers_file"]).decode("latin-1").splitlines()
    return Captured(_headers(lines), _read(given["body_file"]), given["method"].upper(), given["url"])


def _whole(raw: bytes) -> Any:
    """A captured request: its head, an empty line, its body."""
    from ringback.cli.receiver.captured import Captured  # noqa: PLC0415 - only this command needs it

    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator or b"\n\n" in head:
        head, separator, body = raw.partition(b"\n\n")
    lines = head.decode("latin-1").splitlines()
    words = lines[0].split(" ") if lines else []
    if not separator or len(words) < 2:
        raise click.UsageError("the capture is no HTTP request: a request line, headers, an empty line, the body")
    headers = _headers(lines[1:])
    if "chunked" in headers.get("transfer-encoding", "").lower():
        raise click.UsageError("the capture is chunked: give the body alone and its headers with --headers")
    length = headers.get("content-length", str(len(body)))
    if not (length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS):
        raise click.UsageError(f"the capture's content-length is no length: {length[:40]!r}")
    if int(length) > len(body):
        raise click.UsageError(f"the capture is cut short: its body has {len(body)} of {length} bytes")
    return Captured(headers, body[: int(length)], words[0].upper(), words[1])


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip():
            found[name.strip().lower()] = value.strip()
        elif line.strip():
            raise click.UsageError(f"a header is written 'Name: value', not {line[:60]!r}")
    return found


def secrets_of(given: dict[str, Any]) -> tuple[str, ...]:
    """The secrets of ``--secret`` and ``--secret-file``; warns if everybody may read the file. Raises UsageError."""
    file = given["secret_file"]
    lines = _read(file).decode("utf-8", "surrogateescape").splitlines() if file else []
    if file and file != "-" and open_to_all(Path(file)):
        tell("warning: ", f"{file}: {OPEN_TO_ALL}")
    return usable((*given["secrets"], *(line for line in lines if line)))


def usable(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets; refused are an empty one, under which anybody can sign, and what is no text."""
    if not all(secrets):
        raise click.UsageError("a secret is empty")
    if any("\udc80" <= c <= "\udcff" for secret in secrets for c in secret):
        raise click.UsageError("a secret is not UTF-8 text")
    return secrets


def options_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """``--option NAME=VALUE`` by name. Raises UsageError."""
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(found) != len(pairs):
        raise click.UsageError("an option is written NAME=VALUE, each once")
    return found


def _read(path: str) -> bytes:
    try:
        with click.open_file(path, "rb") if path == "-" else Path(path).open("rb") as file:
            raw: bytes = file.read(MAX_CAPTURE_BYTES + 1)
    except OSError as problem:
        raise click.UsageError(f"cannot read {path}: {problem.strerror}") from None
    if len(raw) > MAX_CAPTURE_BYTES:
        raise click.UsageError(f"{path} has more than {MAX_CAPTURE_BYTES} bytes")
    return raw
