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
from typing import Any

#: Delivery states in which the daemon still means to deliver.
OWED = frozenset({"pending", "in_flight", "held"})


@dataclass(frozen=True)
class Lane:
    """One endpoint of the demo. ``answers`` is False for the one that nobody listens at."""

    name: str
    about: str
    endpoint_id: str
    answers: bool = True


@dataclass(frozen=True)
class Known:
    """One delivery as the daemon's API tells it. ``attempts`` counts recorded requests."""

    endpoint_id: str
    event_id: str
    status: str
    attempts: int


@dataclass(frozen=True)
class Row:
    """A lane's line in the table; numbers are deliveries but for ``retried``, which is requests after the first."""

    name: str
    about: str
    status: str
    delivered: int
    retried: int
    waiting: int
    in_flight: int
    dead: int
    doubled: int


@dataclass(frozen=True)
class Summary:
    """How it went. ``problems`` is empty if the promises held; ``lost`` and the rest count deliveries."""

    events: int
    accepted: int
    resent: int
    owed_in_all: int
    delivered: int
    retried: int
    doubled: int
    dead: int
    still_owed: int
    lost: int
    signatures_verified: int
    signatures_failed: int
    altered: int
    seconds: float
    problems: list[str]


@dataclass
class Ledger:
    """The books of one run. ``digests`` holds each emitted event's fingerprint by id."""

    digests: dict[str, str]
    lanes: list[Lane] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    resent: int = 0
    duplicates: int = 0
    refused: list[str] = field(default_factory=list)
    verified: int = 0
    unverified: int = 0
    altered: int = 0
    _arrived: Counter[tuple[str, str]] = field(default_factory=Counter)
    _known: dict[tuple[str, str], Known] = field(default_factory=dict)
    _statuses: dict[str, str] = field(default_factory=dict)

    def acked(self, event_id: str, answer: dict[str, Any]) -> None:
        """The daemon answered for an event."""
        if answer.get("ok"):
            self.accepted[event_id] = int(answer["deliveries"])
            self.duplicates += bool(answer.get("duplicate"))
        else:
            self.refused.append(f"{event_id}: {answer.get('error', {}).get('message', 'refused')}")

    def arrived(self, told: dict[str, Any]) -> None:
        """The receiver told of a request; only one that it answered with 200 counts as delivered."""
        if told["signature"] != "ok":
            self.unverified += 1
            return
        self.verified += 1
        if self.digests.get(told["id"]) != told["data"]:
            self.altered += 1
        elif told["status"] == 200:
            self._arrived[told["endpoint"], told["id"]] += 1

    def learn(self, known: Iterable[Known], statuses: dict[str, str]) -> None:
        """Replace what the daemon's API said by what it says now; ``statuses`` are the endpoints' by id."""
        names = {lane.endpoint_id: lane.name for lane in self.lanes}
        self._known = {(names[row.endpoint_id], row.event_id): row for row in known if row.endpoint_id in names}
        self._statuses = statuses

    def cut_off(self) -> None:
        """The daemon doesn't answer: whatever it had in flight is owed, not in flight."""
        for key, row in self._known.items():
            if row.status == "in_flight":
                self._known[key] = replace(row, status="pending")

    def row(self, lane: Lane) -> Row:
        """Where a lane stands."""
        known = [row for (name, _), row in self._known.items() if name == lane.name]
        arrived = [count for (name, _), count in self._arrived.items() if name == lane.name]
        dead = sum(row.status == "dead" for row in known)
        in_flight = sum(row.status == "in_flight" for row in known)
        return Row(
            name=lane.name,
            about=lane.about,
            status=self._statuses.get(lane.endpoint_id, ""),
            delivered=len(arrived),
            retried=sum(max(0, row.attempts - 1) for row in known),
            waiting=max(0, len(self.accepted) - len(arrived) - dead - in_flight),
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
        dead, still_owed = standing["dead"], sum(standing[status] for status in OWED)
        counts = Summary(
            events=len(self.digests),
            accepted=len(self.accepted),
            resent=self.resent,
            owed_in_all=sum(self.accepted.values()),
            delivered=sum(row.delivered for row in rows),
            retried=sum(row.retried for row in rows),
            doubled=sum(row.doubled for row in rows),
            dead=dead,
            still_owed=still_owed,
            lost=len(missing) - dead - still_owed,
            signatures_verified=self.verified,
            signatures_failed=self.unverified,
            altered=self.altered,
            seconds=round(seconds, 1),
            problems=[],
        )
        counts.problems.extend(self._problems(counts))
        return counts

    def _wanted(self) -> list[tuple[str, str]]:
        return [(lane.name, event_id) for lane in self.lanes for event_id in self.accepted]

    def _problems(self, counts: Summary) -> list[str]:
        given_up = sum(
            known.status == "dead" for (name, _), known in self._known.items() if name in self._answering_names()
        )
        checks = (
            (counts.lost, "{} acknowledged deliveries are lost"),
            (counts.signatures_failed, "{} requests had a signature that didn't hold"),
            (counts.altered, "{} bodies are not what was emitted"),
            (counts.events - counts.accepted, "{} events were not accepted"),
            (counts.accepted * len(self.lanes) - counts.owed_in_all, "{} deliveries are missing from the acks"),
            (given_up, "{} deliveries were given up at endpoints that answer"),
            (counts.still_owed, "time ran out with {} deliveries still owed (on disk, not lost)"),
        )
        return [words.format(count) for count, words in checks if count] + self.refused[:3]

    def _answering_names(self) -> set[str]:
        return {lane.name for lane in self.lanes if lane.answers}
