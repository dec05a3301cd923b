"""What the demo's books are made of. Values only; must not know where they come from or how they are shown."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lane:
    """One registered endpoint. ``takes``: the types it is owed, none named is all of them.

    ``answers`` is False for the one that nobody listens at; ``proves``: it must answer a challenge first;
    ``pointer``: its requests say where the job is found and carry no data.
    """

    name: str
    about: str
    endpoint_id: str
    answers: bool = True
    dialect: str = "standard"
    takes: frozenset[str] = frozenset()
    proves: bool = False
    pointer: bool = False


@dataclass(frozen=True)
class Known:
    """One delivery as the daemon's API tells it. ``attempts`` counts recorded requests."""

    endpoint_id: str
    event_id: str
    status: str
    attempts: int


@dataclass(frozen=True)
class Row:
    """A lane's line in the table; numbers are deliveries but for ``retried``, which is requests after the first.

    ``owed`` is how many it gets in all, so far.
    """

    name: str
    about: str
    status: str
    owed: int
    delivered: int
    retried: int
    waiting: int
    in_flight: int
    dead: int
    doubled: int


@dataclass
class Tally:
    """How many requests came in one dialect, and how many of them verified."""

    requests: int = 0
    verified: int = 0


@dataclass(frozen=True)
class Summary:
    """How it went. ``problems`` is empty if the promises held; ``lost`` and the rest count deliveries.

    ``dialects``: what the receiver verified of each; ``challenges``: those of handshakes. ``readable``: of the
    ``searched`` secrets and phrases those that stand in a file or in the log.
    """

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
    challenges: int
    dialects: dict[str, Tally]
    seconds: float
    searched: int = 0
    readable: int = 0
    problems: list[str] = field(default_factory=list)
