"""The watchdog is fed by a healthy daemon alone; the status line is said when it changes."""

import pytest
from tests.harness.world import FakeClock

from ringback.service.watchdog import StatusLine, Watchdog, watchdog_s


class Commits:
    """A writer as far as the watchdog sees it."""

    def __init__(self):
        self.commit_started = None


@pytest.fixture
def said():
    """What was sent to the manager."""
    return []


async def test_an_idle_daemon_is_healthy(said):
    """Nothing to commit is no reason to be killed."""
    dog = Watchdog(30.0, Commits(), FakeClock(), said.append)
    assert await dog.turn(0) == 7.5
    assert said == ["WATCHDOG=1"]


async def test_a_commit_may_take_half_of_the_time(said):
    """Up to half of the watchdog's time a commit is slow; beyond, the daemon lets itself be killed."""
    clock, commits = FakeClock(), Commits()
    dog = Watchdog(30.0, commits, clock, said.append)
    commits.commit_started = clock.monotonic()
    clock.advance(15)
    await dog.turn(0)
    assert said == ["WATCHDOG=1"]
    clock.advance(0.1)
    await dog.turn(0)
    await dog.turn(0)
    assert said == ["WATCHDOG=1"]


async def test_a_commit_that_ends_after_all_feeds_again(said):
    """A stall that ended before the manager acted is forgiven."""
    clock, commits = FakeClock(), Commits()
    dog = Watchdog(30.0, commits, clock, said.append)
    commits.commit_started = clock.monotonic()
    clock.advance(20)
    await dog.turn(0)
    commits.commit_started = clock.monotonic()
    await dog.turn(0)
    assert said == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "18446744073709551615"}, 18446744073709.551615),
    ],
)
def test_what_the_manager_allows(env, seconds):
    """Only a number that was meant for this process counts."""
    assert watchdog_s(env, 7) == seconds


async def test_the_status_is_said_when_it_changes(said):
    """The same words twice are sent once; a note goes before them and away again."""
    words = ["idle"]
    line = StatusLine(lambda: words[0], said.append)
    await line.turn(0)
    await line.turn(0)
    words[0] = "busy"
    await line.turn(0)
    line.note = "reload refused"
    await line.turn(0)
    line.note = ""
    line.say()
    assert said == ["STATUS=idle", "STATUS=busy", "STATUS=reload refused; busy", "STATUS=busy"]
