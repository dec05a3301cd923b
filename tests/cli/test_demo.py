"""The demo: its books, its receiver's own eyes, its producer, and the whole play with real processes."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from ringback import dialects
from ringback.cli.demo import leash, play
from ringback.cli.demo import stage as stage_module
from ringback.cli.demo.account import print_summary
from ringback.cli.demo.jobs import digest_of, make_jobs
from ringback.cli.demo.ledger import Ledger
from ringback.cli.demo.producer import Producer
from ringback.cli.demo.show import LiveScreen, PlainScreen
from ringback.cli.demo.values import Known, Lane
from ringback.core.events import EventLimits, parse_line
from ringback.core.model import Event
from ringback.kit.clock import SystemClock

LANES = [Lane("healthy", "", "e1"), Lane("dead", "", "e2", answers=False)]


def ledger_with(count, lanes=LANES):
    """Books in which ``count`` events are accepted."""
    books = Ledger.of(make_jobs(count))
    books.lanes = list(lanes)
    for job in books.jobs.values():
        due = sum(not lane.takes or job.type in lane.takes for lane in lanes)
        books.acked(job.id, {"ok": True, "deliveries": due})
    return books


def arrive(books, event_id, endpoint="healthy", status=200, signature="ok", data=None, mark="m"):
    """The receiver tells of one request."""
    told = {"endpoint": endpoint, "id": event_id, "mark": mark, "status": status, "signature": signature}
    books.arrived(told | {"data": data or books.jobs[event_id].digest})


def test_jobs_are_events_the_daemon_takes():
    """Every job is a valid event line with an id of its own, and its digest is that of its data."""
    jobs = make_jobs(200)
    assert len({job.id for job in jobs}) == 200
    for job in jobs:
        event = parse_line(job.line.rstrip(b"\n"), EventLimits(), 1, "x")
        assert isinstance(event, Event), event
        assert event.id == job.id
        assert digest_of(json.loads(event.data)) == job.digest
        assert event.type == job.type
    assert Counter(job.type for job in jobs) == {
        "stt.jobs.completed": 151, "stt.jobs.failed": 16, "dictation.created": 33,
    }  # fmt: skip


def test_a_clean_run_has_no_problems():
    """All delivered at the endpoint that answers and all dead at the other: settled, nothing lost, nothing wrong."""
    books = ledger_with(10)
    for event_id in books.jobs:
        arrive(books, event_id)
    books.learn([Known("e1", i, "succeeded", 1) for i in books.jobs], {"e1": "active"})
    assert not books.settled()  # the dead endpoint's are not known yet
    books.learn(
        [Known("e1", i, "succeeded", 1) for i in books.jobs] + [Known("e2", i, "dead", 3) for i in books.jobs],
        {"e1": "active"},
    )
    assert books.settled()
    summary = books.summary(1.0)
    assert summary.problems == []
    assert (summary.delivered, summary.dead, summary.lost, summary.retried) == (10, 10, 0, 20)


def test_lost_is_what_neither_arrived_nor_is_on_record():
    """A delivery that the API calls succeeded but that never arrived is lost, and so is one it has never heard of."""
    books = ledger_with(3, LANES[:1])
    first, second, third = books.jobs
    arrive(books, first)
    books.learn([Known("e1", first, "succeeded", 1), Known("e1", second, "succeeded", 1)], {})
    assert not books.settled()
    summary = books.summary(1.0)
    assert summary.lost == 2
    assert any("lost" in problem for problem in summary.problems)
    books.learn([Known("e1", second, "pending", 0), Known("e1", third, "in_flight", 0)], {})
    summary = books.summary(1.0)
    assert (summary.lost, summary.still_owed) == (0, 2)
    assert summary.problems == ["time ran out with 2 deliveries still owed (on disk, not lost)"]


def test_a_double_is_told_and_is_no_problem():
    """The same id delivered twice counts once as delivered, once as doubled."""
    books = ledger_with(1, LANES[:1])
    (only,) = books.jobs
    arrive(books, only, status=503)
    arrive(books, only)
    arrive(books, only)
    books.learn([Known("e1", only, "succeeded", 2)], {})
    summary = books.summary(1.0)
    assert (summary.delivered, summary.doubled, summary.retried, summary.signatures_verified) == (1, 1, 1, 3)
    assert summary.problems == []


def test_bad_signatures_and_altered_bodies_fail_the_run():
    """What doesn't verify, or isn't what was emitted, doesn't count as delivered and is a problem by name."""
    books = ledger_with(2, LANES[:1])
    first, second = books.jobs
    arrive(books, first, signature="the signature doesn't match", status=401)
    arrive(books, second, data="0000")
    books.learn([], {})
    summary = books.summary(1.0)
    assert (summary.delivered, summary.lost, summary.signatures_failed, summary.altered) == (0, 2, 1, 1)
    assert len(summary.problems) == 3


def test_refused_events_and_short_acks_fail_the_run():
    """An event that was refused, or acknowledged for fewer endpoints than there are, is a problem."""
    books = Ledger.of(make_jobs(2))
    books.lanes = list(LANES)
    first, second = books.jobs
    books.acked(first, {"ok": False, "error": {"code": "storage_full", "message": "the disk is full"}})
    books.acked(second, {"ok": True, "deliveries": 1})
    problems = books.summary(1.0).problems
    assert "1 events were not accepted" in problems
    assert "the acks count 1 deliveries fewer than are due" in problems
    assert f"{first}: the disk is full" in problems


def test_an_endpoint_is_owed_what_it_takes():
    """A dialect that can't say a type isn't owed it; one that gets it all the same is told of as a problem."""
    lanes = [Lane("deepva", "", "e1", takes=frozenset({"stt.jobs.completed"}))]
    books = ledger_with(12, lanes)
    wanted = [job.id for job in books.jobs.values() if job.type == "stt.jobs.completed"]
    assert books.due(lanes[0]) == books.row(lanes[0]).owed == len(wanted) == 9
    for event_id in wanted:
        arrive(books, event_id, "deepva")
    books.learn([Known("e1", event_id, "succeeded", 1) for event_id in wanted], {})
    assert books.settled()
    assert books.summary(1.0).problems == []
    arrive(books, "job-00012", "deepva")
    assert "1 deliveries came to an endpoint that doesn't take such events" in books.summary(1.0).problems


def test_a_pointer_is_compared_with_where_the_job_is():
    """The format without data must point at the very job; its data's fingerprint would be wrong there."""
    lanes = [Lane("azure-speech", "", "e1", dialect="azure-speech", pointer=True)]
    books = ledger_with(2, lanes)
    first, second = books.jobs.values()
    arrive(books, first.id, "azure-speech", data=first.pointer)
    arrive(books, second.id, "azure-speech", data=first.pointer)
    books.learn([], {})
    assert (books.row(lanes[0]).delivered, books.altered) == (1, 1)


def test_nothing_may_come_before_the_proof():
    """A request before the challenge was answered is a problem; so is an endpoint that never was challenged."""
    lanes = [Lane("azure-speech", "", "e1", dialect="azure-speech", proves=True)]
    books = ledger_with(2, lanes)
    first, second = books.jobs
    books.challenged({"endpoint": "azure-speech", "challenge": "received", "signature": "ok"})
    arrive(books, first, "azure-speech")
    problems = books.summary(1.0).problems
    assert "1 requests came before their endpoint had proved itself" in problems
    assert "1 endpoints were not challenged" in problems
    books.challenged({"endpoint": "azure-speech", "challenge": "answered", "signature": "ok"})
    arrive(books, second, "azure-speech")
    summary = books.summary(1.0)
    assert (books.early, summary.challenges) == (1, 1)
    assert "1 endpoints were not challenged" not in summary.problems


def test_each_dialect_is_counted():
    """Requests and verified ones are told for each dialect; one that was never heard of is a problem."""
    lanes = [Lane("a", "", "e1", dialect="prosa"), Lane("b", "", "e2", dialect="pulse"), Lane("c", "", "e3")]
    books = ledger_with(2, lanes)
    first, second = books.jobs
    arrive(books, first, "a")
    arrive(books, second, "a", signature="the signature does not fit")
    arrive(books, first, "b")
    books.learn([], {})
    summary = books.summary(1.0)
    assert {name: (tally.verified, tally.requests) for name, tally in summary.dialects.items()} == {
        "prosa": (1, 2), "pulse": (1, 1),
    }  # fmt: skip
    assert "1 dialects were not heard of" in summary.problems
    told = io.StringIO()
    print_summary(Console(file=told, width=110), summary)
    assert "1 of 2" in told.getvalue()


def test_a_double_under_another_id_is_a_problem():
    """What comes twice must be known by the same id, or the receiver would act twice."""
    books = ledger_with(1, LANES[:1])
    (only,) = books.jobs
    arrive(books, only, mark="one")
    arrive(books, only, mark="two")
    books.learn([Known("e1", only, "succeeded", 1)], {})
    assert books.summary(1.0).problems == ["1 requests came again under another id"]


async def test_the_producer_writes_again_what_was_not_answered(tmp_path):
    """When the connection breaks, unanswered lines come again with the same ids, in order, and each is acked once."""
    path, jobs = str(tmp_path / "events.sock"), make_jobs(60)
    seen, stored = [], set()

    async def serve(reader, writer):
        budget = 20 if not seen else 10_000
        while line := await reader.readline():
            event_id = json.loads(line)["id"]
            again = event_id in stored
            stored.add(event_id)
            seen.append(event_id)
            budget -= 1
            if budget == 0:  # stored, and never answered: as by a kill
                break
            writer.write(json.dumps({"ok": True, "deliveries": 4, **({"duplicate": True} if again else {})}).encode())
            writer.write(b"\n")
        writer.close()

    books = Ledger.of(jobs)
    producer = Producer(path, jobs, 0.0, books, SystemClock())
    server = await asyncio.start_unix_server(serve, path)
    async with asyncio.timeout(60):
        await producer.run()
    server.close()
    assert list(books.accepted) == [job.id for job in jobs]
    assert books.resent >= 1
    assert books.duplicates == len(seen) - len(set(seen)) >= 1
    assert producer.halfway.is_set()
    assert producer.caught_up.is_set()


def test_what_is_on_the_leash_dies_with_its_parent():
    """A leashed process is gone soon after its parent was killed without a chance to clean up."""
    script = (
        "import os,subprocess,sys;"
        "c=subprocess.Popen([sys.executable,'-I',sys.argv[1],str(os.getpid()),sys.executable,'-c',"
        "'import time;print(1,flush=True);time.sleep(60)'],stdout=subprocess.PIPE);"
        "c.stdout.readline();print(c.pid,flush=True);c.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script, leash.__file__], stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone(child)


def gone(*processes):
    """Wait until they ended; fail if one doesn't."""
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def start(*options):
    """The demo as a process, its standard output a pipe."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")}
    return subprocess.Popen(
        [sys.executable, "-m", "ringback", "demo", "--events", "60", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


@pytest.mark.parametrize("width", [80, 100, 110, 120])
def test_the_table_fits_its_terminal(width):
    """At every width each lane has one line with its name, its status and its numbers, and nothing is cut."""
    books = ledger_with(2000)
    for event_id in books.jobs:
        arrive(books, event_id)
    books.learn([Known("e2", event_id, "dead", 3) for event_id in books.jobs], {"e1": "active", "e2": "disabled"})
    console = Console(width=width, force_terminal=True, file=io.StringIO(), color_system=None)
    with LiveScreen(console, lambda: 1.0) as screen:
        screen.draw(books, "up")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).splitlines()
    assert not any("…" in line or len(line) > width for line in lines)
    (healthy,) = [line for line in lines if "healthy" in line]
    (dead,) = [line for line in lines if "dead" in line]
    assert "active" in healthy
    assert "2,000" in healthy
    assert [word for word in dead.split() if word in ("disabled", "4,000", "2,000")] == ["disabled", "4,000", "2,000"]


def test_plain_lines_are_spaced_in_time():
    """Without a terminal announcements come at once, and the lanes at most every three seconds."""
    console = Console(width=110, file=io.StringIO())
    now = [0.5]
    screen = PlainScreen(console, lambda: now[0])
    books = ledger_with(5)
    for now[0] in (0.5, 3.1, 3.3, 6.2):
        screen.draw(books, "up")
    screen.say("something happens")
    told = console.file.getvalue()
    assert told.count("healthy") == 2
    assert "something happens" in told


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (2, 1)])
def test_the_exit_code_is_the_verdict(monkeypatch, capsys, lost, code):
    """Exit 0 only without problems; a problem is told in words; the directory is gone either way."""
    stages = []

    class Told:
        def __init__(self, _count, stage, *_):
            stages.append(stage)

        async def play(self):
            books = ledger_with(3, LANES[:1])
            for event_id in list(books.jobs)[lost:]:
                arrive(books, event_id)
            return books.summary(1.0)

    monkeypatch.setattr(play, "Story", Told)
    assert play.run(60, keep=False, as_json=False) == code
    told = capsys.readouterr().out
    assert ("2 acknowledged deliveries are lost" in told) == bool(lost)
    assert ("Nothing was lost" in told) != bool(lost)
    assert not stages[0].folder.exists()


@pytest.mark.whole
def test_the_demo_loses_nothing():
    """The whole play ends with exit 0, a JSON account without losses, a killed daemon in it, and an empty stage."""
    with start("--json") as demo:
        out, err = demo.communicate(timeout=240)
    assert demo.returncode == 0, err
    account = json.loads(out)
    assert account["accepted"] == account["events"] == 60
    assert account["owed_in_all"] == 445
    assert account["delivered"] == 385
    assert account["dead"] == 60
    assert account["retried"] >= 120
    assert (account["lost"], account["still_owed"], account["signatures_failed"], account["altered"]) == (0, 0, 0, 0)
    assert account["problems"] == []
    assert set(account["dialects"]) == set(dialects.names())
    assert all(tally["verified"] == tally["requests"] >= 10 for tally in account["dialects"].values())
    assert account["challenges"] >= 1
    assert account["searched"] > 10
    assert account["readable"] == 0
    assert "pending → challenged" in err
    assert "challenged → active" in err
    assert "kill -9" in err
    assert "back after" in err
    assert not folder_of(err).exists()


@pytest.mark.whole
def test_without_a_master_key_the_demo_says_what_can_be_read(monkeypatch, capsys):
    """The look over the files can fail: in the clear it finds secrets and phrases, and the demo ends with exit 1."""
    monkeypatch.setattr(stage_module, "CONFIG", stage_module.CONFIG.replace("key_file =", 'old_key_file = "" #'))
    assert play.run(60, keep=False, as_json=False) == 1
    assert "can be read in the files" in capsys.readouterr().out


def folder_of(story):
    """The directory that the first line of the story names."""
    return Path(story.split(" in ", 1)[1].split()[0])


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_cut_off_demo_leaves_no_process(number):
    """Ctrl-C ends every process and removes the directory; kill -9 to the demo itself ends every process too."""
    with start("--events", "2000") as demo:  # so many that it still emits, however late this process gets its turn
        folder = folder_of(demo.stdout.readline())
        assert any("ready" in demo.stdout.readline() for _ in range(3))
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == 2
        time.sleep(0.3)  # somewhere in the middle of emitting
        demo.send_signal(number)
        demo.communicate(timeout=120)
    gone(*children)
    if number == signal.SIGINT:
        assert demo.returncode == 130
        assert not folder.exists()
    else:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
