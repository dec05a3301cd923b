"""``ringback emit``: hand one event, or a file of them, to the daemon's events socket.

Rules: ``data`` goes out as the bytes it was given in; an answer means the event is on disk.
Must not know: what an event may hold; the daemon judges.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
import uuid_utils

from ringback.cli.client import CommandError, Refused, connect
from ringback.cli.context import Command, find_socket, json_option, print_json, where
from ringback.cli.words import tell

#: An answer is a line of about a hundred bytes; an error may quote some input.
MAX_ANSWER_BYTES = 65_536


@click.command(cls=Command)
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.option("--data", metavar="JSON|@FILE|-", help="The event's data: JSON, a file that holds it, or - for stdin.")
@click.option("--id", "event_id", help="The event's id; the same id again is recognised as a duplicate.")
@click.option("--tenant", help="Whose event it is; 'default' if not given.")
@click.option("--callback", metavar="JSON", help='A URL that gets this event too, e.g. \'{"url": "https://…"}\'.')
@click.option("--ndjson", metavar="FILE", help="Send a file of events, one JSON object a line; - for stdin.")
@click.option("--rate", type=click.FloatRange(min=0.001), help="With --ndjson: at most this many events a second.")
@json_option
@where
def emit(  # noqa: PLR0917 - click hands each option by name
    event_type: str | None,
    data: str | None,
    event_id: str | None,
    tenant: str | None,
    callback: str | None,
    ndjson: str | None,
    rate: float | None,
    as_json: bool,  # noqa: FBT001 - a command-line flag
    config_path: str | None,
    socket_path: str | None,
) -> None:
    """Emit an event of TYPE, or every line of a file. An answer means it is on disk.

    \b
    Examples:
      ringback emit stt.jobs.completed --data '{"job_id": "42"}'
      ringback emit stt.jobs.completed --data @result.json --tenant acme
      ringback emit ocr.page --callback '{"url": "https://example.com/hook"}'
      ringback emit --ndjson events.ndjson --rate 500
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    if (event_type is None) == (ndjson is None):
        raise click.UsageError("give either a TYPE or --ndjson FILE")
    path = find_socket("events", config_path, socket_path)
    if ndjson is not None:
        if data or event_id or tenant or callback:
            raise click.UsageError(
                "--data, --id, --tenant and --callback are for one event; in a file each line has its own"
            )
        from ringback.cli.emit_file import emit_file  # noqa: PLC0415 - threads and progress bars are for files

        emit_file(path, ndjson, rate, as_json=as_json)
        return
    if rate is not None:
        raise click.UsageError("--rate goes with --ndjson")
    event_id = event_id if event_id is not None else str(uuid_utils.uuid7())  # so that it can be sent again
    members = {"type": event_type, "id": event_id, "tenant": tenant, "callback": _read_callback(callback)}
    line = make_line(members, _read_data(data))
    told = _send(path, line, event_id)
    if as_json:
        print_json(told)
    elif told["ok"]:
        count = told["deliveries"]
        again = ", a duplicate: it was accepted before" if told.get("duplicate") else ""
        click.echo(f"{told['id']} accepted, {count} {'delivery' if count == 1 else 'deliveries'}{again}")
    if not told["ok"]:
        error = told["error"]
        words = f"{error['code']}: {error['message']}"
        if error["code"] == "unknown_outcome":
            raise CommandError(f"{words}; send it again with --id {event_id}")
        raise Refused(words)


def make_line(members: dict[str, Any], data: bytes) -> bytes:
    """One event as a line. ``data`` stays as it is but for line ends, which JSON has only between its tokens."""
    head = json.dumps({name: value for name, value in members.items() if value is not None})
    return head[:-1].encode() + b', "data": ' + data.replace(b"\r", b" ").replace(b"\n", b" ") + b"}\n"


def _read_data(text: str | None) -> bytes:
    if text is None:
        return b"{}"
    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        else:
            data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    except OSError as failed:
        raise click.UsageError(f"--data: {text[1:]} can't be read: {failed.strerror}") from None
    try:
        fine = isinstance(json.loads(data.decode()), dict)  # given bytes, json takes UTF-16 and a byte order mark too
    except (ValueError, RecursionError) as wrong:
        raise click.UsageError(f"--data is not JSON: {wrong}") from None
    if not fine:
        raise click.UsageError('--data must be a JSON object, e.g. \'{"job_id": "42"}\'')
    return data.strip()


def _read_callback(text: str | None) -> Any:
    if text is None:
        return None
    try:
        callback = json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise click.UsageError(f"--callback is not JSON: {wrong}") from None
    if not isinstance(callback, dict):
        raise click.UsageError('--callback must be a JSON object, e.g. \'{"url": "https://example.com/hook"}\'')
    return callback


def _send(path: str, line: bytes, event_id: str) -> Any:
    with connect(path) as sock:
        try:
            sock.sendall(line)
            with sock.makefile("rb") as answers:
                answer = answers.readline(MAX_ANSWER_BYTES)
        except OSError as failed:
            answer = b""
            tell("ringback: ", f"the connection broke: {failed.strerror or failed}")
    if not answer.endswith(b"\n"):
        raise CommandError(
            f"no answer came: the daemon may or may not have the event; send it again with --id {event_id}"
        )
    try:
        return json.loads(answer)
    except ValueError:
        raise CommandError(f"{path} doesn't answer like an events socket") from None
