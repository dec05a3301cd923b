"""The demo's plot: start, register, emit, kill halfway, restart, wait until all is settled, stop.

Role: the order of things and their deadlines; numbers come from the books, processes from the stage.
Rules: bounded in time whatever happens; a run that is cut off by its deadline still gives its account.
Must not know: how anything is shown.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from ringback.cli.client import CommandError
from ringback.cli.demo.cast import make_cast
from ringback.cli.demo.jobs import PHRASES, make_jobs
from ringback.cli.demo.ledger import Ledger
from ringback.cli.demo.producer import Producer
from ringback.cli.demo.stage import DemoError, Stage
from ringback.cli.demo.values import Summary
from ringback.kit.clock import Chance, Clock

#: Emitting 300 events takes this long; more take longer in proportion.
GAP_S = 0.013
#: The daemon stays dead for so long, for people to see it.
ABSENCE_S = 0.8
#: Deadline of a run: a fixed part, ten times what an idle machine needs, for a busy one loses nothing either; and for
#: each event what the slow endpoint needs, ten times over.
DEADLINE_S = 90.0
DEADLINE_PER_EVENT_S = 0.1
#: The table is renewed this often, but asking may take at most a quarter of the time.
POLL_S = 0.25
POLL_SHARE = 0.25
#: Of the events, so many in a hundred requests are what the flaky endpoint refuses.
REFUSED_PERCENT = 25
#: Of the time it takes to emit all, so much passes before a challenge is answered: well before the kill.
HESITATION_SHARE = 0.25


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

    def __init__(self, count: int, stage: Stage, screen: Screen, clock: Clock, chance: Chance) -> None:
        jobs = make_jobs(count)
        self._stage, self._screen, self._clock, self._chance = stage, screen, clock, chance
        self._ledger = Ledger.of(jobs)
        self._producer = Producer(stage.events_socket, jobs, GAP_S, self._ledger, clock)
        self._count = count
        self._confidential = list(PHRASES)  # and the endpoints' secrets, once there are any
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
                await self._peek()
        except TimeoutError:
            self._screen.say(f"the deadline of {deadline_s:.0f} s is over", "red")
        return self._ledger.summary(self._clock.monotonic() - self._started)

    async def _open(self) -> None:
        stage, screen = self._stage, self._screen
        screen.say(f"starting a daemon and a receiver in {stage.folder}")
        refusals = self._count * REFUSED_PERCENT // 100
        hesitation_s = self._count * GAP_S * HESITATION_SHARE
        await asyncio.gather(stage.start_receiver(refusals, hesitation_s, self._hear), stage.start_daemon())
        roles = make_cast(refusals, self._chance)
        for role in roles:
            lane, secret = await stage.add_endpoint(role)
            self._ledger.lanes.append(lane)  # before the receiver can tell of it
            await stage.tell_receiver(role, secret)
            if secret:
                self._confidential.append(secret)
        dialects = len({role.dialect for role in roles})
        screen.say(f"ready: {len(roles)} endpoints in {dialects} dialects; {self._count} events go in over the socket")

    def _hear(self, told: dict[str, Any]) -> None:
        """The receiver tells of a request."""
        if "challenge" not in told:
            self._ledger.arrived(told)
            return
        self._ledger.challenged(told)
        if told["challenge"] == "received":
            held = "the signature over its token held" if told["signature"] == "ok" else told["signature"]
            self._screen.say(f"{told['endpoint']}: pending → challenged; {held}, what it is owed waits", "cyan")

    async def _peek(self) -> None:
        """Try to read in the files what must not be read there."""
        self._ledger.peeked(len(self._confidential), await self._stage.readable(self._confidential))

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
        ledger = self._ledger
        unproved = [lane for lane in ledger.lanes if lane.proves and ledger.status(lane) in ("", "pending")]
        try:
            ledger.learn(*await self._stage.ask())
        except CommandError:
            ledger.cut_off()
            return False
        for lane in unproved:
            if ledger.status(lane) == "active":
                self._screen.say(f"{lane.name}: challenged → active; what waited for it goes out", "cyan")
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
        await self._peek()
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
