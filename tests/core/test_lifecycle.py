"""core.lifecycle: the table, the guarded apply, and what a finished attempt makes of a delivery."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ringback.core import lifecycle
from ringback.core.lifecycle import FINAL_STATES, TABLE, Step, after_attempt, apply, step_of
from ringback.core.model import DeliveryState, RetryPolicy, Transition, Verdict

NOW_MS = 1_795_262_400_000
POLICY = RetryPolicy(delays_s=(5.0, 60.0), jitter=0.0)

ONE_OF_EACH = {
    Step.SUCCEEDED: lifecycle.succeeded(),
    Step.RETRY_AT: lifecycle.retry_at(NOW_MS),
    Step.POSTPONED: lifecycle.postponed(NOW_MS),
    Step.DEAD: lifecycle.dead(),
    Step.EXPIRED: lifecycle.expired(),
    Step.CANCELLED: lifecycle.cancelled(),
    Step.INTERRUPTED: lifecycle.interrupted(),
    Step.HASTENED: lifecycle.hastened(),
    Step.REOPENED: lifecycle.reopened(NOW_MS),
}


def after(verdict, attempts_before=0, **more):
    """after_attempt with the usual rest."""
    return after_attempt(verdict, attempts_before, **{"policy": POLICY, "now_ms": NOW_MS, "u": 0.5} | more)


def test_every_step_has_a_constructor_and_back():
    """Constructor and step name belong together one to one."""
    assert {step: step_of(transition) for step, transition in ONE_OF_EACH.items()} == {step: step for step in Step}


@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("step", Step)
def test_apply_follows_the_table(state, step):
    """From every state every step leads where the table says, or nowhere."""
    assert apply(state, ONE_OF_EACH[step]) is TABLE.get((state, step))


def test_the_table_agrees_with_what_a_transition_carries():
    """A row's target is the transition's own, so the store may write ``to`` once the guard has passed."""
    assert all(target is ONE_OF_EACH[step].to for (_, step), target in TABLE.items())


def test_final_states_are_left_only_by_hand():
    """Late and doubled reports change nothing: from a final state only ``reopened`` leads anywhere."""
    leaving = {(state, step) for state, step in TABLE if state in FINAL_STATES}
    assert leaving == {(state, Step.REOPENED) for state in FINAL_STATES}


def test_what_is_our_own_doing_is_uncounted():
    """Every step that an attempt's own result can make uses up one of the schedule; no other does."""
    uncounted = {step for step, transition in ONE_OF_EACH.items() if not transition.counted}
    assert uncounted == {Step.INTERRUPTED, Step.POSTPONED, Step.HASTENED, Step.REOPENED}


@pytest.mark.parametrize(
    "made_up",
    [
        Transition(DeliveryState.SUCCEEDED, due_at_ms=1),
        Transition(DeliveryState.DEAD, reopen=True),
    ],
)
def test_a_transition_no_constructor_makes_is_a_bug(made_up):
    """A nonsensical transition raises instead of being taken for a late report."""
    with pytest.raises(ValueError, match="no step"):
        apply(DeliveryState.PENDING, made_up)


@pytest.mark.parametrize(
    ("verdict", "step"),
    [
        (Verdict.DELIVERED, Step.SUCCEEDED),
        (Verdict.GIVE_UP, Step.DEAD),
        (Verdict.DISABLE, Step.DEAD),
        (Verdict.UNCOUNTED, Step.INTERRUPTED),
        (Verdict.POSTPONE, Step.POSTPONED),
        (Verdict.RETRY, Step.RETRY_AT),
    ],
)
def test_after_the_first_attempt(verdict, step):
    """Each verdict on a first attempt has its step."""
    assert step_of(after(verdict)) is step


def test_retries_run_out():
    """Two gaps make three attempts; the third failure is the end."""
    assert [after(Verdict.RETRY, n) for n in range(3)] == [
        lifecycle.retry_at(NOW_MS + 5_000),
        lifecycle.retry_at(NOW_MS + 60_000),
        lifecycle.dead(),
    ]


def test_retry_after_is_heeded():
    """The receiver's wish reaches the due time."""
    assert after(Verdict.RETRY, retry_after_ms=30_000) == lifecycle.retry_at(NOW_MS + 30_000)


@pytest.mark.parametrize(("expires_in_ms", "step"), [(5_001, Step.RETRY_AT), (5_000, Step.EXPIRED), (0, Step.EXPIRED)])
def test_a_retry_that_would_come_too_late_expires_now(expires_in_ms, step):
    """A retry due at or after expires_at is never made."""
    assert step_of(after(Verdict.RETRY, expires_at_ms=NOW_MS + expires_in_ms)) is step


def test_used_up_is_dead_even_when_expired():
    """The schedule's end is named before the expiry: it is the nearer cause."""
    assert after(Verdict.RETRY, 2, expires_at_ms=NOW_MS) == lifecycle.dead()


def test_a_late_success_still_counts():
    """An attempt that succeeds after expires_at has delivered: the receiver has it."""
    assert after(Verdict.DELIVERED, expires_at_ms=NOW_MS - 1) == lifecycle.succeeded()


@given(
    st.sampled_from(Verdict),
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.integers(0, 10**12),
    st.none() | st.integers(0, 2 * NOW_MS),
)
def test_what_follows_an_attempt_is_always_legal(verdict, attempts_before, u, retry_after_ms, expires_at_ms):
    """Whatever the verdict, the transition made applies to a pending delivery, and a retry lies before the expiry."""
    transition = after(verdict, attempts_before, u=u, retry_after_ms=retry_after_ms, expires_at_ms=expires_at_ms)
    assert apply(DeliveryState.PENDING, transition) is transition.to
    if step_of(transition) is Step.RETRY_AT:
        assert NOW_MS < transition.due_at_ms < (expires_at_ms or transition.due_at_ms + 1)


class DeliveryMachine(RuleBasedStateMachine):
    """A delivery against a naive model: reports come late, doubled and out of order."""

    def __init__(self):
        super().__init__()
        self.state = DeliveryState.PENDING
        self.attempts = 0
        self.ended = False

    def take(self, transition):
        """Apply as the store does: guarded, and nothing at all changes without a next state."""
        target = apply(self.state, transition)
        if target is None:
            return False
        self.state = target
        if transition.reopen:
            self.attempts = 0
        elif transition.counted and target in (DeliveryState.PENDING, DeliveryState.SUCCEEDED, DeliveryState.DEAD):
            self.attempts += 1
        return True

    @rule(verdict=st.sampled_from(Verdict), wish=st.none() | st.integers(0, 10**7))
    def an_attempt_ends(self, verdict, wish):
        """A report arrives, whether or not anybody still waits for it."""
        applied = self.take(after(verdict, self.attempts, retry_after_ms=wish))
        assert applied == (not self.ended)
        self.ended = self.ended or verdict in (Verdict.DELIVERED, Verdict.GIVE_UP, Verdict.DISABLE)
        self.ended = self.ended or self.attempts > len(POLICY.delays_s)

    @rule(end=st.sampled_from([lifecycle.cancelled(), lifecycle.expired()]))
    def it_ends_without_an_attempt(self, end):
        """Cancelled or expired, perhaps twice."""
        assert self.take(end) == (not self.ended)
        self.ended = True

    @precondition(lambda self: self.ended)
    @rule()
    def it_is_retried_by_hand(self):
        """From any final state it begins anew."""
        assert self.take(lifecycle.reopened(NOW_MS))
        self.ended = False

    @precondition(lambda self: not self.ended)
    @rule()
    def a_retry_by_hand_of_an_open_one_is_ignored(self):
        """Reopening what is still owed would count twice: it changes nothing."""
        assert not self.take(lifecycle.reopened(NOW_MS))

    @invariant()
    def state_and_model_agree(self):
        """Final in the model is final in the table, and the schedule is never overrun."""
        assert (self.state in FINAL_STATES) == self.ended
        assert self.attempts <= len(POLICY.delays_s) + 1


TestDeliveryMachine = DeliveryMachine.TestCase
TestDeliveryMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
