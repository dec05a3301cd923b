"""``ringback logs``: what is shown of a log, and what a line can't do to the terminal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.harness.waiting import wait_until as wait

from ringback.cli import main
from ringback.cli.logs import Wanted, parsed, passes, rendered


def line(event="delivery.succeeded", level="info", **values):
    """A line of the daemon's."""
    return {"event": event, "level": level, "timestamp": "2026-11-21T16:00:01.250Z", **values}


def shown(*lines, args=()):
    """What the command prints of these lines."""
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    done = CliRunner().invoke(main, ["logs", *args], input=text)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_a_line_for_people():
    """The day once, the time of day, the name, ids first, the rest behind; what is null is left out."""
    told = shown(
        line(elapsed_ms=12, status=200, event_id="e1", tenant="acme", error=None, due="x y"),
        line("daemon.ready"),
    )
    assert told == [
        "2026-11-21",
        '16:00:01.250  delivery.succeeded  tenant=acme  event=e1  status=200  ms=12  due="x y"',
        "16:00:01.250  daemon.ready",
    ]


def test_what_is_not_ours_is_shown_as_it_stands():
    """Nobody's words are lost, unless a filter asks for something else."""
    foreign = ["Traceback (most recent call last):", "{not json", '["a"]', '{"event":"x"}', "[" * 100_000]
    assert shown(*foreign) == foreign
    assert shown(*foreign, args=("--level", "info")) == []


def test_nothing_steers_the_terminal():
    """Escapes in values, names, keys and foreign lines are shown, not obeyed."""
    evil = "\x1b]0;gotcha\x07\r"
    told = "".join(shown(line("a" + evil, error=evil + " x", **{evil: 1}), "raw" + evil.strip()))
    assert "\x1b" not in told
    assert "\x07" not in told
    assert "\\x1b]0;gotcha" in told


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), "abcde"),
        (Wanted(level="warning"), "cd"),
        (Wanted(endpoint="019a"), "b"),
        (Wanted(endpoint="crm"), "e"),
        (Wanted(endpoint="cr"), ""),
        (Wanted(event="e1"), "a"),
        (Wanted(event="delivery.*"), "abe"),
        (Wanted(event="handshake.failed"), "c"),
        (Wanted(level="warning", event="delivery.*"), ""),
    ],
)
def test_filters(wanted, names):
    """By level and above, by an endpoint's name or the beginning of its id, by an event's id or a log name."""
    lines = {
        "a": line("delivery.succeeded", event_id="e1"),
        "b": line("delivery.skipped", endpoint_ids=["019a-x", "019b"]),
        "c": line("handshake.failed", "warning", endpoint_id="019c"),
        "d": line("odd", "louder"),
        "e": line("delivery.skipped", endpoint_id="019e", endpoint_name="crm"),
    }
    assert "".join(name for name, one in lines.items() if passes(one, wanted)) == names


def test_an_endpoint_is_called_by_its_name():
    """The id of one that has a name stays in the JSON; a line is long enough without it."""
    told = rendered(line(endpoint_id="019a", endpoint_name="crm", tenant="acme"))
    assert told.endswith("  tenant=acme  endpoint=crm")
    assert rendered(line(endpoint_id="019a")).endswith("endpoint=019a")


def test_a_traceback_stands_below():
    """Line by line, indented."""
    told = rendered(line("api.bug", "error", exception="Traceback:\n  File x\nValueError: y")).splitlines()
    assert "ERROR api.bug" in told[0]
    assert told[1:] == ["    Traceback:", "      File x", "    ValueError: y"]


def test_the_problems_of_a_configuration_stand_below():
    """Each on a line of its own; a number of problems is a fact like any other."""
    told = shown(line("config.rejected", "error", count=2, problems=["a.b: is wrong", "c: is \x1b[2J"]))
    assert told[1:] == ["16:00:01.250  ERROR config.rejected  count=2", "    a.b: is wrong", "    c: is \\x1b[2J"]
    assert shown(line("check.ended", problems=3))[1] == "16:00:01.250  check.ended  problems=3"


def test_only_our_lines_are_parsed():
    """A JSON object with a name, a level and a time, each text."""
    assert parsed(json.dumps(line())) == line()
    assert parsed(json.dumps(line(level=3))) is None


def test_a_file_that_is_not_there_ends_with_4(tmp_path: Path):
    """One plain sentence."""
    done = CliRunner().invoke(main, ["logs", str(tmp_path / "none")])
    assert done.exit_code == 4
    assert "there is no file" in done.stderr


def test_following_a_file_over_its_rotation(tmp_path: Path):
    """Half a line is waited for; a new file of the name is gone on with; nothing is lost or told twice."""
    log, out = tmp_path / "x.log", tmp_path / "out"
    log.write_text(json.dumps(line("one.a")) + "\n" + json.dumps(line("two.a"))[:20])
    with out.open("wb") as to:
        run = subprocess.Popen([sys.executable, "-m", "ringback", "logs", "--follow", str(log)], stdout=to)
    try:
        wait(lambda: "one.a" in out.read_text(), 60, out.read_text)
        with log.open("a") as more:
            more.write(json.dumps(line("two.a"))[20:] + "\n")
        wait(lambda: "two.a" in out.read_text(), 60, out.read_text)
        log.rename(tmp_path / "x.log.1")
        log.write_text(json.dumps(line("three.a")) + "\n")
        wait(lambda: "three.a" in out.read_text(), 60, out.read_text)
    finally:
        run.terminate()
        run.wait(60)
    assert [told.split()[1] for told in out.read_text().splitlines() if ".a" in told] == ["one.a", "two.a", "three.a"]
