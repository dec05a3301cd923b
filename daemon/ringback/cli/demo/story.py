"""The demo's plot: start, register, emit, kill halfway, restart, wait until all is settled, stop.

Role: the order of things and their deadlines; numbers come from the books, processes from the stage.
Rules: bounded in time whatever happens; a run that is cut off by its deadline still gives its account.
Must not know: how anything is shown.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ringback.cli.client import CommandError
from ringback.cli.demo.jobs import make_jobs
from ringback.cli.demo.ledger import Ledger, Summary
from ringback.cli.demo.producer import Producer
from ringback.cli.demo.receiver import FLAKY, HEALTHY, SLOW, SLOW_S
from ringback.cli.demo.stage import DemoError, Stage
from ringback.kit.clock import Clock

DEAD = "dead"
#: Emitting 300 events takes this long; more take longer in proportion.
GAP_S = 0.013
#: The daemon stays dead for so long, for people to see it.
ABSENCE_S = 0.8
#: Deadline of a run: a fixed part, and for each event what the slow endpoint needs, thrice over.
DEADLINE_S = 19.0
DEADLINE_PER_EVENT_S = 0.03
#: The table is renewed this often, but asking may take at most a quarter of the time.
POLL_S = 0.25
POLL_SHARE = 0.25
#: Of the events, so many in a hundred requests are what the flaky endpoint refuses.
REFUSED_PERCENT = 25

FLAKY_DELAYS_S = [0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0]
DEAD_DELAYS_S = [0.5, 1.5]
PLAIN_DELAYS_S = [1.0, 2.0, 4.0]


class Screen(Protocol):
    """Where the story is told."""

    def say(self, text: str, style: str = "") -> None:
        """Announce one thing that happens."""
        ...

    def draw(self, ledger: Ledger, daemon: str) -> None:
        """Show where every lane stands; ``daemon`` is ``up`` or ``down``."""
        ...


@dataclass(frozen=True)
class Before:
    """What the daemon had in hand a moment before it was killed."""

    in_flight: int
    owed: int


class Story:
    """One run of the demo. ``count`` events."""

    def __init__(self, count: int, stage: Stage, screen: Screen, clock: Clock) -> None:
        jobs = make_jobs(count)
        self._stage, self._screen, self._clock = stage, screen, clock
        self._ledger = Ledger({job.id: job.digest for job in jobs})
        self._producer = Producer(stage.events_socket, jobs, GAP_S, self._ledger, clock)
        self._count = count
        self._started = clock.monotonic()

    async def play(self) -> Summary:
        """Play it. Raises DemoError if it can't be played to the end."""
        deadline_s = DEADLINE_S + DEADLINE_PER_EVENT_S * self._count
        try:
            async with asyncio.timeout(deadline_s):
                await self._open()
                await self._deliver()
                self._screen.say("everything is settled; SIGTERM to the daemon, as a service manager would")
                code = await self._stage.stop_daemon()
                if code:
                    raise DemoError(f"the daemon should have stopped with exit 0, not {code}")
        except TimeoutError:
            self._screen.say(f"the deadline of {deadline_s:.0f} s is over", "red")
        return self._ledger.summary(self._clock.monotonic() - self._started)

    async def _open(self) -> None:
        stage, screen = self._stage, self._screen
        screen.say(f"starting a daemon and a receiver in {stage.folder}")
        refusals = self._count * REFUSED_PERCENT // 100
        await asyncio.gather(stage.start_receiver(refusals, self._ledger.arrived), stage.start_daemon())
        self._ledger.lanes = [
            await stage.add_endpoint(HEALTHY, "answers at once", PLAIN_DELAYS_S),
            await stage.add_endpoint(FLAKY, f"{refusals} × 503 first", FLAKY_DELAYS_S),
            await stage.add_endpoint(SLOW, f"{SLOW_S * 1000:.0f} ms an answer", PLAIN_DELAYS_S),
            await stage.add_endpoint(DEAD, "nobody listens", DEAD_DELAYS_S, answers=False),
        ]
        screen.say("ready: four endpoints, each with a signing secret of its own")
        screen.say(f"{self._count} speech jobs go in over the events socket, each for all four endpoints")

    async def _deliver(self) -> None:
        """Emit, kill and restart at once with watching, until all is settled."""
        tasks = [asyncio.create_task(self._producer.run()), asyncio.create_task(self._kill_and_restart())]
        try:
            while not await self._look(tasks):
                pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, tasks: "list[asyncio.Task[None]]") -> bool:
        """Ask, draw, rest. Returns whether it is over; raises what went wrong in a task or a process."""
        began = self._clock.monotonic()
        for task in tasks:
            if task.done():
                task.result()
        self._stage.check_alive()
        emitted = all(task.done() for task in tasks)
        daemon = "up" if await self._ask() else "down"
        self._screen.draw(self._ledger, daemon)
        if emitted and daemon == "up" and self._ledger.settled():
            return True
        await self._clock.sleep(max(POLL_S, (self._clock.monotonic() - began) / POLL_SHARE))
        return False

    async def _ask(self) -> bool:
        """Renew what the API says; False if the daemon doesn't answer."""
        try:
            self._ledger.learn(*await self._stage.ask())
        except CommandError:
            self._ledger.cut_off()
            return False
        return True

    async def _kill_and_restart(self) -> None:
        stage, screen, ledger = self._stage, self._screen, self._ledger
        await self._producer.halfway.wait()
        await self._ask()
        before = self._in_hand()
        await self._producer.next_burst()
        pid = await stage.kill_daemon()
        screen.say(
            f"kill -9 {pid}: half of the events are in, {before.in_flight} requests in flight, "
            f"{before.owed} more deliveries waiting",
            "bold red",
        )
        ledger.cut_off()
        screen.draw(ledger, "down")
        await self._clock.sleep(ABSENCE_S)
        screen.say("starting it again on what is on disk", "bold")
        began = self._clock.monotonic()
        await stage.start_daemon()
        await self._ask()
        after = self._in_hand()
        screen.say(
            f"back after {self._clock.monotonic() - began:.1f} s: "
            f"{after.owed + after.in_flight} deliveries found in its tables, still to be made",
            "bold green",
        )
        await self._producer.caught_up.wait()
        if ledger.resent:
            screen.say(
                f"{ledger.resent} events had no answer yet when it died: written again with the same ids, "
                f"{ledger.duplicates} were on disk already"
            )

    def _in_hand(self) -> Before:
        rows = [self._ledger.row(lane) for lane in self._ledger.lanes]
        return Before(sum(row.in_flight for row in rows), sum(row.waiting for row in rows))
