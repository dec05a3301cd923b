"""The demo's books: what was acknowledged, what arrived, what the daemon says it still owes.

Role: three witnesses kept apart (the acks of the events socket, the receiver's own account, the daemon's API) and
compared. ``lost`` is an acknowledged event for one endpoint that neither arrived there nor stands in the daemon's
books.
Rules: pure; nothing is assumed from another witness.
Must not know: sockets, processes, how anything is shown.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ringback.cli.demo.jobs import Job
from ringback.cli.demo.values import Known, Lane, Row, Summary, Tally

#: Delivery states in which the daemon still means to deliver.
OWED = frozenset({"pending", "in_flight", "held"})


@dataclass
class Ledger:
    """The books of one run. ``jobs`` holds the emitted events by id."""

    jobs: dict[str, Job]
    lanes: list[Lane] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    resent: int = 0
    searched: int = 0
    readable: set[str] = field(default_factory=set)
    duplicates: int = 0
    refused: list[str] = field(default_factory=list)
    altered: int = 0
    renamed: int = 0
    early: int = 0
    challenges: int = 0
    _tallies: dict[str, Tally] = field(default_factory=dict)
    _proved: set[str] = field(default_factory=set)
    _marks: dict[tuple[str, str], str] = field(default_factory=dict)
    _arrived: Counter[tuple[str, str]] = field(default_factory=Counter)
    _known: dict[tuple[str, str], Known] = field(default_factory=dict)
    _statuses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Self:
        """Empty books for these events."""
        return cls({job.id: job for job in jobs})

    def acked(self, event_id: str, answer: dict[str, Any]) -> None:
        """The daemon answered for an event."""
        if answer.get("ok"):
            self.accepted[event_id] = int(answer["deliveries"])
            self.duplicates += bool(answer.get("duplicate"))
        else:
            self.refused.append(f"{event_id}: {answer.get('error', {}).get('message', 'refused')}")

    def arrived(self, told: dict[str, Any]) -> None:
        """The receiver told of a request; only one that it answered with 200 counts as delivered."""
        lane = self._lane(told["endpoint"])
        if not self._verifies(lane, told["signature"]):
            return
        if lane.proves and lane.name not in self._proved:
            self.early += 1
        key = (lane.name, told["id"])
        job = self.jobs.get(told["id"])
        if job is None or told["data"] != (job.pointer if lane.pointer else job.digest):
            self.altered += 1
            return
        self.renamed += self._marks.setdefault(key, told["mark"]) != told["mark"]
        if told["status"] == 200:
            self._arrived[key] += 1

    def challenged(self, told: dict[str, Any]) -> None:
        """The receiver told of a challenge that it received, or is about to answer."""
        lane = self._lane(told["endpoint"])
        if told["challenge"] == "answered":
            self._proved.add(lane.name)
        else:
            self.challenges += self._verifies(lane, told["signature"])

    def _verifies(self, lane: Lane, signature: str) -> bool:
        tally = self._tallies.setdefault(lane.dialect, Tally())
        tally.requests += 1
        tally.verified += signature == "ok"
        return signature == "ok"

    def _lane(self, name: str) -> Lane:
        return next(lane for lane in self.lanes if lane.name == name)

    def learn(self, known: Iterable[Known], statuses: dict[str, str]) -> None:
        """Replace what the daemon's API said by what it says now; ``statuses`` are the endpoints' by id."""
        names = {lane.endpoint_id: lane.name for lane in self.lanes}
        self._known = {(names[row.endpoint_id], row.event_id): row for row in known if row.endpoint_id in names}
        self._statuses = statuses

    def peeked(self, searched: int, found: set[str]) -> None:
        """So many secrets and phrases were searched for in the files; these could be read there."""
        self.searched = searched
        self.readable |= found

    def status(self, lane: Lane) -> str:
        """The endpoint's status, as the daemon said last."""
        return self._statuses.get(lane.endpoint_id, "")

    def cut_off(self) -> None:
        """The daemon doesn't answer: whatever it had in flight is owed, not in flight."""
        for key, row in self._known.items():
            if row.status == "in_flight":
                self._known[key] = replace(row, status="pending")

    def row(self, lane: Lane) -> Row:
        """Where a lane stands."""
        known = [row for (name, _), row in self._known.items() if name == lane.name]
        arrived = [count for (name, _), count in self._arrived.items() if name == lane.name]
        owed = sum(self._takes(lane, event_id) for event_id in self.accepted)
        dead = sum(row.status == "dead" for row in known)
        in_flight = sum(row.status == "in_flight" for row in known)
        return Row(
            name=lane.name,
            about=lane.about,
            status=self.status(lane),
            owed=owed,
            delivered=len(arrived),
            retried=sum(max(0, row.attempts - 1) for row in known),
            waiting=max(0, owed - len(arrived) - dead - in_flight),
            in_flight=in_flight,
            dead=dead,
            doubled=sum(count > 1 for count in arrived),
        )

    def settled(self) -> bool:
        """Whether every accepted delivery came to an end: arrived and recorded so, or given up."""
        return all(self._ended(key) for key in self._wanted())

    def _ended(self, key: tuple[str, str]) -> bool:
        known = self._known.get(key)
        if known is None or known.status in OWED:
            return False
        return known.status != "succeeded" or key in self._arrived

    def summary(self, seconds: float) -> Summary:
        """The account in all, and what is wrong with it."""
        rows = [self.row(lane) for lane in self.lanes]
        missing = [key for key in self._wanted() if key not in self._arrived]
        standing = Counter(known.status if (known := self._known.get(key)) else "unknown" for key in missing)
        verified = sum(tally.verified for tally in self._tallies.values())
        dead, still_owed = standing["dead"], sum(standing[status] for status in OWED)
        counts = Summary(
            events=len(self.jobs),
            accepted=len(self.accepted),
            resent=self.resent,
            owed_in_all=sum(self.accepted.values()),
            delivered=sum(row.delivered for row in rows),
            retried=sum(row.retried for row in rows),
            doubled=sum(row.doubled for row in rows),
            dead=dead,
            still_owed=still_owed,
            lost=len(missing) - dead - still_owed,
            signatures_verified=verified,
            signatures_failed=sum(tally.requests for tally in self._tallies.values()) - verified,
            altered=self.altered,
            challenges=self.challenges,
            dialects=self._tallies,
            seconds=round(seconds, 1),
            searched=self.searched,
            readable=len(self.readable),
        )
        counts.problems.extend(self._problems(counts))
        return counts

    def _wanted(self) -> list[tuple[str, str]]:
        return [
            (lane.name, event_id) for lane in self.lanes for event_id in self.accepted if self._takes(lane, event_id)
        ]

    def due(self, lane: Lane) -> int:
        """How many deliveries it gets when everything is emitted."""
        return sum(self._takes(lane, event_id) for event_id in self.jobs)

    def _takes(self, lane: Lane, event_id: str) -> bool:
        return not lane.takes or self.jobs[event_id].type in lane.takes

    def _problems(self, counts: Summary) -> list[str]:
        given_up = sum(
            known.status == "dead" for (name, _), known in self._known.items() if name in self._answering_names()
        )
        checks = (
            (counts.lost, "{} acknowledged deliveries are lost"),
            (counts.readable, "{} secrets or phrases of transcripts can be read in the files"),
            (counts.signatures_failed, "{} requests had a signature that didn't hold"),
            (counts.altered, "{} bodies are not what was emitted"),
            (counts.events - counts.accepted, "{} events were not accepted"),
            (len(self._wanted()) - counts.owed_in_all, "the acks count {} deliveries fewer than are due"),
            (self._strays(), "{} deliveries came to an endpoint that doesn't take such events"),
            (self.renamed, "{} requests came again under another id"),
            (self.early, "{} requests came before their endpoint had proved itself"),
            (sum(self._silent(lane) for lane in self.lanes), "{} dialects were not heard of"),
            (
                sum(lane.proves and lane.name not in self._proved for lane in self.lanes),
                "{} endpoints were not challenged",
            ),
            (given_up, "{} deliveries were given up at endpoints that answer"),
            (counts.still_owed, "time ran out with {} deliveries still owed (on disk, not lost)"),
        )
        return [words.format(count) for count, words in checks if count] + self.refused[:3]

    def _strays(self) -> int:
        lanes = {lane.name: lane for lane in self.lanes}
        return sum(not self._takes(lanes[name], event_id) for name, event_id in self._arrived)

    def _silent(self, lane: Lane) -> bool:
        return lane.answers and lane.dialect not in self._tallies

    def _answering_names(self) -> set[str]:
        return {lane.name for lane in self.lanes if lane.answers}
