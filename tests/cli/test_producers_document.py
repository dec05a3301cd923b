"""The programs in docs/producers.md run as they stand, also when they start before the daemon does."""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.postgres import Postgres, missing_programs
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
TIME_LIMIT_S = 120


def program(language):
    """The one program of that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "producers.md").read_text(), re.DOTALL)
    return found


def env_of(daemon):
    """Where the programs find the daemon."""
    return os.environ | {
        "RINGBACK_EVENTS": str(daemon.events_path),
        "RINGBACK_SOCKET": str(daemon.control_path),
        "RINGBACK_SPOOL": str(daemon.state_dir / "spool"),
    }


def needs(tool):
    """Skip where a language isn't installed."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} isn't installed")


def run(daemon, command, **options):
    """Run a program against a daemon that is up; its output."""
    done = subprocess.run(
        command, env=env_of(daemon), capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(daemon):
    """The ids in the table."""
    return [key for (key,) in daemon.sql("SELECT id FROM event ORDER BY id")]


@pytest.mark.parametrize(
    ("language", "name", "command", "key"),
    [
        pytest.param("js", "emit.mjs", ["node"], "job-42-node", marks=needs("node")),
        pytest.param("go", "emit.go", ["go", "run"], "job-42-go", marks=[needs("go"), pytest.mark.long]),
        pytest.param("java", "Emit.java", ["java"], "job-42-java", marks=[needs("java"), pytest.mark.long]),
    ],
)
def test_a_program_waits_for_the_daemon_and_emits_once(daemon, tmp_path, language, name, command, key):
    """Started before the daemon it retries; run again it is answered with a duplicate."""
    (tmp_path / name).write_text(program(language))
    running = subprocess.Popen(
        [*command, str(tmp_path / name)], env=env_of(daemon), stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1)
        daemon.start()
        assert key in running.communicate(timeout=TIME_LIMIT_S)[0]
        assert running.returncode == 0
    finally:
        running.kill()
        running.communicate()
    assert key in run(daemon, [*command, str(tmp_path / name)], cwd=tmp_path)
    assert stored(daemon) == [key]


def test_the_python_programs_emit(daemon):
    """One event and its acknowledgement, a thousand in a stream, a thousand at once."""
    daemon.start()
    told = run(daemon, [sys.executable, "-c", program("python")])
    assert told.splitlines() == ["job-42-completed 0 False", "0 refused"]
    assert run(daemon, [sys.executable, "-c", program("python-async")]).strip() == "0"
    assert len(stored(daemon)) == 2001


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")
def test_the_curl_command_emits(daemon):
    """The answer is the socket's."""
    daemon.start()
    assert '"ok":true' in run(daemon, ["sh", "-c", program("curl")])
    assert stored(daemon) == ["job-42-curl"]


def test_the_shell_program_spools(daemon):
    """A file for each call, with the daemon down and up; called again with the same id it makes no double."""
    daemon.start().kill()
    spool = daemon.state_dir / "spool"
    command = ["sh", "-c", program("sh"), "to-spool", "stt.jobs.completed"]
    key = run(daemon, command, input='{"job_id":"42"}').strip()
    assert (spool / "new" / f"{key}.json").stat().st_mode & 0o777 == 0o660
    assert list((spool / "tmp").iterdir()) == []
    daemon.start()
    for _ in range(2):
        run(daemon, [*command, "job-43"], input='{"job_id":"43"}')
        wait_until(lambda: not list((spool / "new").iterdir()), TIME_LIMIT_S, daemon.tail)
    assert stored(daemon) == sorted([key, "job-43"])
    assert list((spool / "failed").iterdir()) == []


def test_the_outbox_is_relayed_over_kills(daemon, tmp_path):
    """Relay and daemon are killed in the middle: each job's event is stored exactly once, none without its job."""
    database = tmp_path / "app.db"
    names = {"__name__": "outbox"}
    exec(program("python-outbox"), names)

    def relay():
        return subprocess.Popen([sys.executable, "-c", program("python-outbox"), str(database)], env=env_of(daemon))

    with contextlib.closing(sqlite3.connect(database, timeout=30)) as db:
        db.executescript(names["SCHEMA"])
        relaying = relay()
        try:
            for n in range(300):
                names["finish_job"](db, f"job-{n}")
                if n % 100 == 20:
                    daemon.start()
                if n % 100 == 60:
                    relaying.kill()
                    relaying.wait()
                    relaying = relay()
                if n % 100 == 90:
                    daemon.kill()
            daemon.start()
            wait_until(lambda: db.execute("SELECT count(*) FROM outbox").fetchone() == (0,), TIME_LIMIT_S, daemon.tail)
        finally:
            relaying.kill()
            relaying.wait()
    data = sorted(text for (text,) in daemon.sql("SELECT data FROM payload"))
    assert data == sorted(b'{"job_id":"job-%d"}' % n for n in range(300))


def test_a_row_that_is_no_json_does_not_stop_the_outbox(daemon, tmp_path):
    """It stays with the reason beside it, as one the daemon refuses does, and the rows around it are carried."""
    daemon.start()
    names = {"__name__": "outbox"}
    exec(program("python-outbox"), names)
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as db:
        db.executescript(names["SCHEMA"])
        too_deep = '{"n":' + "[" * 100_000 + "]" * 100_000 + "}"
        bad = ['{"n": NaN}', '{"name": "\\ud800"}', "{", "[]", too_deep]
        for data in ('{"n": 1}', *bad, '{"n": 2}'):
            db.execute("INSERT INTO outbox (type, data) VALUES ('a.b', ?)", (data,))
        db.commit()
        with names["Producer"](str(daemon.events_path)) as producer:
            assert names["relay"](db, producer) == 2 + len(bad)
            assert names["relay"](db, producer) == 0
        assert [data for (data,) in db.execute("SELECT data FROM outbox WHERE refused <> '' ORDER BY n")] == bad
    assert daemon.sql("SELECT count(*) FROM event") == [(2,)]


@pytest.fixture
def postgres():
    """A PostgreSQL server, running, with the recipe's table."""
    if missing := missing_programs():
        reason = f"no PostgreSQL to relay from: needs {', '.join(missing)} (Debian: postgresql)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with Postgres() as running:
        with running.connect() as db:
            db.execute(POSTGRESQL_TABLE)
        yield running


@pytest.fixture
def relays(daemon, postgres):
    """Start the PostgreSQL recipe's relay, as often as called; all end with the test."""
    started = []
    env = env_of(daemon) | {"OUTBOX_DSN": postgres.address}

    def start(stuck_s=60):
        code = program("python-postgresql").replace("timeout = '60s'", f"timeout = '{stuck_s}s'")
        started.append(subprocess.Popen([sys.executable, "-c", code], env=env))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


POSTGRESQL_TABLE, POSTGRESQL_INSERT = program("sql").split("-- the application, in its own transaction:")
ADD = "INSERT INTO outbox (type, data) VALUES ('a.b', %s)"


def finish(postgres, numbers):
    """The application: a transaction and a notification for each."""
    with postgres.connect() as db:
        for n in numbers:
            with db.transaction():
                db.execute(ADD, (f'{{"n": {n}}}',))
                db.execute("NOTIFY outbox")


def wait_relayed(postgres, daemon, kept=0):
    """Wait until no row is left but those that were refused."""
    with postgres.connect() as db:
        left = "SELECT count(*) FILTER (WHERE refused IS NULL), count(*) FROM outbox"
        wait_until(lambda: db.execute(left).fetchone() == (0, kept), TIME_LIMIT_S, daemon.tail)


def test_the_postgresql_outbox_is_relayed_over_kills(daemon, postgres, relays):
    """Over kills of relays, daemon and PostgreSQL each committed row's event is stored exactly once, and in order."""
    killed, _standing_by = relays(), relays()
    finish(postgres, range(100))
    with postgres.connect() as db:  # one has the rows and waits for the daemon: the other doesn't go round it
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: db.execute(waiting).fetchone(), TIME_LIMIT_S, postgres.tail)
    daemon.start()
    wait_until(lambda: daemon.sql("SELECT 1 FROM event LIMIT 1"), TIME_LIMIT_S, daemon.tail)
    killed.kill()
    finish(postgres, range(100, 200))
    staying = relays()
    daemon.kill()
    postgres.crash()
    daemon.start()
    postgres.start()
    with postgres.connect() as db:
        with db.transaction(force_rollback=True):
            db.execute(ADD, ("{}",))
        db.execute(POSTGRESQL_INSERT)
    finish(postgres, range(200, 300))
    wait_relayed(postgres, daemon)
    assert staying.poll() is None
    stored = [data for (data,) in daemon.sql("SELECT data FROM payload ORDER BY event")]
    in_order = [b'{"n":%d}' % n for n in range(300)]
    assert stored == [*in_order[:200], b'{"job_id":"42"}', *in_order[200:]]


def test_a_postgresql_relay_that_stands_still_is_stood_in_for(daemon, postgres, relays):
    """Stopped in the middle of a batch it loses its rows to the next one; woken it carries on beside that."""
    finish(postgres, range(10))
    with postgres.connect() as db:

        def holding():
            query = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND pid <> pg_backend_pid()"
            return db.execute(query).fetchone()

        stopped = relays(stuck_s=1)
        wait_until(holding, TIME_LIMIT_S, postgres.tail)
        stopped.send_signal(signal.SIGSTOP)
        standing_in = relays()
        daemon.start()
        wait_relayed(postgres, daemon)
    standing_in.kill()
    stopped.send_signal(signal.SIGCONT)
    finish(postgres, range(10, 20))
    wait_relayed(postgres, daemon)
    assert stopped.poll() is None
    stored = [data for (data,) in daemon.sql("SELECT data FROM payload ORDER BY event")]
    assert stored == [b'{"n":%d}' % n for n in range(20)]


def test_a_bad_row_does_not_stop_the_postgresql_outbox(daemon, postgres, relays):
    """It stays with the reason beside it, the rows around it are carried, and mended it is carried too."""
    daemon.start()
    too_deep = '{"n":' + "[" * 5000 + "]" * 5000 + "}"
    bad = ['{"n": 1e400}', '{"name": "\\ud800"}', too_deep, "[]"]
    with postgres.connect() as db:
        with db.transaction():
            for data in ('{"n": 1}', *bad, '{"n": 2}'):
                db.execute(ADD, (data,))
        relaying = relays()
        wait_relayed(postgres, daemon, kept=len(bad))
        assert daemon.sql("SELECT count(*) FROM event") == [(2,)]
        kept = db.execute("SELECT data::text FROM outbox WHERE refused <> '' ORDER BY n").fetchall()
        assert kept == [(data,) for data in bad]
        db.execute("UPDATE outbox SET refused = NULL, data = '{}'")
    wait_relayed(postgres, daemon)
    assert daemon.sql("SELECT count(*) FROM event") == [(6,)]
    assert relaying.poll() is None
