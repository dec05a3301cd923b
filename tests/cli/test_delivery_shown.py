"""What people see of deliveries: columns chosen by the terminal's width, callbacks, and what was sent again by hand."""

import json
import re

import pytest
from tests.api.parts import Parts

from ringback.core.ids import parse_delivery_id
from ringback.core.lifecycle import dead, retry_at

CALLBACK = '{"url": "https://c.example.com/hook?key=PLANTED", "dialect": "standard"}'


def listed(cli, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    """The lines of ``delivery list`` on a terminal so wide."""
    for name, value in (("COLUMNS", str(columns)), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    return re.sub(r"\x1b\[[0-9;]*m", "", cli("delivery", "list").stdout).splitlines()


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (80, ["ID", "STATUS", "TRIES", "TO", "TYPE"]),
        (100, ["ID", "STATUS", "TRIES", "CREATED", "TO", "TYPE", "LAST"]),
        (120, ["ID", "STATUS", "TRIES", "CREATED", "TO", "TYPE", "LAST", "EVENT"]),
        (200, ["ID", "STATUS", "TRIES", "CREATED", "TO", "TYPE", "LAST", "NEXT", "EVENT", "ENDPOINT"]),
    ],
)
def test_the_columns_are_those_there_is_room_for(cli, parts: Parts, monkeypatch, columns, names) -> None:
    """To whom and of which type is told on every terminal; no line is too long, and the delivery's id is whole."""
    parts.endpoint(name="crm")
    parts.event("stt.done", id="e1")
    head, row = listed(cli, monkeypatch, columns)
    assert head.split() == names
    assert max(map(len, (head, row))) <= columns
    assert parse_delivery_id(row.split()[0])
    assert "crm" in row
    assert "stt." in row


def test_a_pipe_gets_everything(cli, parts: Parts) -> None:
    """Whole ids and times, so that grep finds them."""
    endpoint = parts.endpoint(name="crm")
    parts.event("stt.done", id="e1")
    head, row = cli("delivery", "list").stdout.splitlines()
    assert head.split()[-1] == "ENDPOINT"
    assert row.endswith(endpoint["id"])
    assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ ", row)


def test_a_pipe_gets_no_blanks_at_the_ends_of_lines(cli, parts: Parts) -> None:
    """Neither in a table nor in a sheet."""
    endpoint = parts.endpoint(name="crm")
    parts.endpoint(name="a-much-longer-name")
    shown = cli("endpoint", "list").stdout + cli("endpoint", "show", endpoint["id"]).stdout
    assert shown.count("\n") > 10
    assert [line for line in shown.split("\n") if line != line.rstrip()] == []


def test_the_list_tells_the_latest_answer_and_the_next_try(cli, parts: Parts) -> None:
    """A status, or what came instead of one; when it is tried again, if it waits for that."""
    parts.endpoint()
    for id_ in ("e1", "e2"):
        parts.event("stt.done", id=id_)
    (first, lane), (second, _) = parts.flights.owed
    parts.attempt(first, lane, retry_at(4_000_000_000_000), outcome="bad_status", status=503)
    parts.attempt(second, lane, dead(), outcome="connect_failed", status=None)
    head, *rows = cli("delivery", "list").stdout.splitlines()
    last, nxt = head.index("LAST"), head.index("NEXT")
    assert [row[last:nxt].strip() for row in rows] == ["connect failed", "503"]
    assert [row[nxt:].split("  ")[0] for row in rows] == ["–", "2096-10-02 07:06:40Z"]


def test_a_callback_is_emitted_and_shown(cli, parts: Parts) -> None:
    """``emit --callback`` makes one delivery more; its URL is shown without the query, its format beside it."""
    done = cli("emit", "stt.done", "--id", "e1", "--callback", CALLBACK)
    assert done.stdout == "e1 accepted, 1 delivery\n", done.stderr
    (row,) = json.loads(cli("delivery", "list", "--json").stdout)["data"]
    assert (row["callback_origin"], row["endpoint_name"]) == ("https://c.example.com:443", None)
    assert "https://c.example.com" in cli("delivery", "list").stdout
    shown = cli("delivery", "show", row["id"]).stdout
    assert re.search(r"callback +https://c\.example\.com/hook \(standard\)\n", shown)
    assert "PLANTED" not in shown


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("x", "--callback", "{"), 2, "--callback is not JSON"),
        (("x", "--callback", '"https://a"'), 2, "--callback must be a JSON object"),
        (("x", "--callback", "{}"), 5, "callback.url"),
        (("--ndjson", "-", "--callback", "{}"), 2, "each line has its own"),
    ],
)
def test_a_bad_callback_is_refused(cli, args, code, words) -> None:
    """What is no JSON here, the rest by the daemon."""
    done = cli("emit", *args)
    assert done.exit_code == code
    assert words in done.stderr


def test_what_is_sent_again_to_a_paused_endpoint_is_said_to_be_held(cli, parts: Parts) -> None:
    """Not that it is sent now, and where to read on."""
    endpoint = parts.endpoint(name="crm")
    parts.event("stt.done", id="e1")
    (row,) = json.loads(cli("delivery", "list", "--json").stdout)["data"]
    parts.attempt(*parse_delivery_id(row["id"])[1:], dead(), outcome="bad_status", status=500)
    cli("endpoint", "pause", endpoint["id"])
    told = cli("delivery", "retry", row["id"]).stdout
    assert told == f"{row['id']} is owed again, and held: ringback why {row['id']}\n"


def test_attempts_after_a_retry_by_hand_say_so(cli, parts: Parts) -> None:
    """The first schedule's are plain, the next one's say which run they are of."""
    parts.endpoint(name="crm")
    parts.event("stt.done", id="e1")
    (row,) = json.loads(cli("delivery", "list", "--json").stdout)["data"]
    seq, lane = parse_delivery_id(row["id"])[1:]
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=500)
    assert "sent again by hand" not in cli("delivery", "show", row["id"]).stdout
    cli("delivery", "retry", row["id"])
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=500)
    shown = cli("delivery", "show", row["id"]).stdout
    assert re.search(r"attempt 1 +bad_status *\n", shown)
    assert re.search(r"attempt 2 +bad_status \(run 2: sent again by hand\) *\n", shown)
