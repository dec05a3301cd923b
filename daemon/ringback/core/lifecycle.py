"""A delivery's states and the one table of its transitions.

Role: everything that decides which state a delivery is in lives here: a constructor for each legal step, the table, a
guarded apply. The store holds the same guard in SQL; ``docs/states.md`` is drawn from this table.
Rules: a late or doubled report changes nothing; a final state is left only by a retry by hand (``reopened``).
Must not know: how a state is stored, ``held`` and ``in_flight`` (derived when read), what an outcome looks like.
"""

from enum import StrEnum

from ringback.core.model import DeliveryState, RetryPolicy, Transition, Verdict
from ringback.core.retry import next_due_ms


class Step(StrEnum):
    """The name of a transition: its constructor's."""

    SUCCEEDED = "succeeded"
    RETRY_AT = "retry_at"
    POSTPONED = "postponed"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    HASTENED = "hastened"
    REOPENED = "reopened"


#: A delivery that we could not even try is due again after this long, give or take half of it, so that they don't all
#: come back together.
POSTPONE_MS = 2_000

#: The due time of what is due at once; of a retry only a hand can have set it, so ``why`` knows.
AT_ONCE_MS = 0

FINAL_STATES = frozenset(DeliveryState) - {DeliveryState.PENDING}

#: (state, step) to the next state. What isn't here is no transition: it is ignored.
TABLE: dict[tuple[DeliveryState, Step], DeliveryState] = {
    (DeliveryState.PENDING, Step.SUCCEEDED): DeliveryState.SUCCEEDED,
    (DeliveryState.PENDING, Step.RETRY_AT): DeliveryState.PENDING,
    (DeliveryState.PENDING, Step.POSTPONED): DeliveryState.PENDING,
    (DeliveryState.PENDING, Step.DEAD): DeliveryState.DEAD,
    (DeliveryState.PENDING, Step.EXPIRED): DeliveryState.EXPIRED,
    (DeliveryState.PENDING, Step.CANCELLED): DeliveryState.CANCELLED,
    (DeliveryState.PENDING, Step.INTERRUPTED): DeliveryState.PENDING,
    (DeliveryState.PENDING, Step.HASTENED): DeliveryState.PENDING,
    (DeliveryState.SUCCEEDED, Step.REOPENED): DeliveryState.PENDING,
    (DeliveryState.DEAD, Step.REOPENED): DeliveryState.PENDING,
    (DeliveryState.EXPIRED, Step.REOPENED): DeliveryState.PENDING,
    (DeliveryState.CANCELLED, Step.REOPENED): DeliveryState.PENDING,
}

_SUCCEEDED = Transition(DeliveryState.SUCCEEDED)
_DEAD = Transition(DeliveryState.DEAD)
_EXPIRED = Transition(DeliveryState.EXPIRED)
_CANCELLED = Transition(DeliveryState.CANCELLED)
_INTERRUPTED = Transition(DeliveryState.PENDING, counted=False)
_HASTENED = Transition(DeliveryState.PENDING, due_at_ms=AT_ONCE_MS, counted=False)

_FINAL_STEPS = {
    DeliveryState.SUCCEEDED: Step.SUCCEEDED,
    DeliveryState.DEAD: Step.DEAD,
    DeliveryState.EXPIRED: Step.EXPIRED,
    DeliveryState.CANCELLED: Step.CANCELLED,
}


def succeeded() -> Transition:
    """The receiver answered 2xx."""
    return _SUCCEEDED


def retry_at(due_at_ms: int) -> Transition:
    """The attempt failed and counts; the next is due then (wall clock, milliseconds)."""
    return Transition(DeliveryState.PENDING, due_at_ms=due_at_ms)


def postponed(due_at_ms: int) -> Transition:
    """We could not even try (no descriptor left): not counted, due then (wall clock, milliseconds)."""
    return Transition(DeliveryState.PENDING, due_at_ms=due_at_ms, counted=False)


def dead() -> Transition:
    """The retries are used up, or it was refused for good."""
    return _DEAD


def expired() -> Transition:
    """``expires_at`` has passed, or would have before the next attempt."""
    return _EXPIRED


def cancelled() -> Transition:
    """By hand, or because its endpoint was deleted."""
    return _CANCELLED


def interrupted() -> Transition:
    """We cut the attempt off: it is recorded, not counted, and the row stays owed as it was."""
    return _INTERRUPTED


def hastened() -> Transition:
    """A retry by hand of one that waits for its next try: due at once; the schedule goes on where it was."""
    return _HASTENED


def reopened(due_at_ms: int) -> Transition:
    """A retry by hand, from any final state: a fresh schedule, due then (wall clock, milliseconds)."""
    return Transition(DeliveryState.PENDING, due_at_ms=due_at_ms, counted=False, reopen=True)


def step_of(transition: Transition) -> Step:
    """Which constructor made it. Raises ValueError on one that none of them makes: that is a bug, not a late report."""
    if transition.to is not DeliveryState.PENDING:
        if transition.reopen or transition.due_at_ms is not None:
            raise ValueError(f"no step leads to {transition.to.name.lower()} with a due time or a reopening")
        return _FINAL_STEPS[transition.to]
    if transition.reopen:
        return Step.REOPENED
    if transition.due_at_ms is None:
        return Step.INTERRUPTED
    if transition.counted:
        return Step.RETRY_AT
    return Step.HASTENED if transition.due_at_ms == AT_ONCE_MS else Step.POSTPONED


def apply(state: DeliveryState, transition: Transition) -> DeliveryState | None:
    """The state after the step; None if the table has none from here, and then nothing may change."""
    return TABLE.get((state, step_of(transition)))


def after_attempt(
    verdict: Verdict,
    attempts_before: int,
    *,
    policy: RetryPolicy,
    now_ms: int,
    u: float,
    retry_after_ms: int | None = None,
    expires_at_ms: int | None = None,
) -> Transition:
    """What a finished attempt makes of its delivery.

    Args:
        verdict: what the outcome meant (``core.verdict``).
        attempts_before: counted attempts of this run before the one that just ended (0 for the first).
        policy: the endpoint's retry policy.
        now_ms: when the attempt ended, wall clock.
        u: chance in [0, 1).
        retry_after_ms: the receiver's wish as a wait from now, if it had one.
        expires_at_ms: when the event stops being of use; a retry due then or later is never made.
    """
    if verdict is Verdict.DELIVERED:
        return succeeded()
    if verdict is Verdict.UNCOUNTED:
        return interrupted()
    if verdict is Verdict.POSTPONE:
        return postponed(now_ms + round(POSTPONE_MS * (0.5 + u)))
    due_ms = None
    if verdict is Verdict.RETRY:
        due_ms = next_due_ms(policy, attempts_before + 1, now_ms, u, retry_after_ms)
    if due_ms is None:
        return dead()
    if expires_at_ms is not None and due_ms >= expires_at_ms:
        return expired()
    return retry_at(due_ms)
