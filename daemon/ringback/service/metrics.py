"""What the daemon counts of its own work: plain integers, kept by those who do the work, folded when scraped.

Role: one ``Metrics`` for the process. A delivery costs about a microsecond here.
Rules: only on the loop's thread; labels come from the fixed lists below and whatever else turns up is ``other``, so no
producer or receiver can make a label; nothing is ever counted by id, tenant or URL.
Must not know: the scraper's format, the log, where anything is stored.
"""

from ringback.core.histogram import COMMIT_BOUNDS_S, LATENCY_BOUNDS_S, ROW_BOUNDS, WAIT_BOUNDS_S, Histogram
from ringback.core.model import DeliveryState, OutcomeKind, Owed, Phase
from ringback.core.verdict import BAD_STATUS, DELIVERED
from ringback.service.attempt import Ended

OTHER = "other"
REJECTION_CODES = (
    "invalid_json",
    "invalid_event",
    "unknown_field",
    "not_supported",
    "too_large",
    "conflict",
    "forbidden",
    "overloaded",
    "storage_full",
    "shutting_down",
    "internal_error",
    "unknown_outcome",
)
ATTEMPT_OUTCOMES = (
    DELIVERED,
    BAD_STATUS,
    *(kind.value for kind in OutcomeKind if kind is not OutcomeKind.RESPONSE),
    "data_corrupt",
)
DELIVERY_OUTCOMES = tuple(state.name.lower() for state in DeliveryState if state is not DeliveryState.PENDING)

# Looked up once: an enumeration's members cost a tenth of a microsecond each time.
_FRESH, _PENDING = int(Phase.FRESH), DeliveryState.PENDING
_STATE_NAMES = tuple(state.name.lower() for state in sorted(DeliveryState))


class Tally:
    """Counts under a fixed list of labels, and ``other``."""

    __slots__ = ("counts",)

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.counts = dict.fromkeys((*labels, OTHER), 0)

    def add(self, label: str, count: int = 1) -> None:
        """Count under this label, or under ``other`` if it isn't in the list."""
        try:
            self.counts[label] += count
        except KeyError:
            self.counts[OTHER] += count


class Metrics:
    """Everything counted since the start."""

    def __init__(self) -> None:
        self.events_accepted = 0
        self.events_rejected = Tally(REJECTION_CODES)
        self.deliveries = Tally(DELIVERY_OUTCOMES)
        self.attempts = Tally(ATTEMPT_OUTCOMES)
        self.attempt_s = Histogram(LATENCY_BOUNDS_S)
        self.accept_to_attempt_s = Histogram(WAIT_BOUNDS_S)
        self.commit_s = Histogram(COMMIT_BOUNDS_S)
        self.commit_rows = Histogram(ROW_BOUNDS)

    def rejected(self, code: str) -> None:
        """One event was refused."""
        self.events_rejected.add(code)

    def attempted(self, item: Owed, accepted_at_ms: int, ended: Ended) -> None:
        """An attempt is over and its result committed and applied.

        The wait before it is counted for the first attempts of deliveries that had no wish about their time.
        """
        record = ended.record
        if record is not None:
            self.attempts.add(record.outcome)
            self.attempt_s.observe(record.elapsed_ms / 1000)
            if item.phase == _FRESH:
                self.accept_to_attempt_s.observe(max(0, record.started_at_ms - accepted_at_ms) / 1000)
        state = ended.transition.to
        if state is not _PENDING:
            self.deliveries.add(_STATE_NAMES[state])

    def ended(self, state: DeliveryState, count: int = 1) -> None:
        """Deliveries ended without an attempt: expired or cancelled."""
        self.deliveries.add(_STATE_NAMES[state], count)

    def committed(self, rows: int, seconds: float) -> None:
        """One transaction is on disk."""
        self.commit_s.observe(seconds)
        self.commit_rows.observe(rows)
