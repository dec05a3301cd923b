"""What an outcome means for its delivery.

Role: one order of judgement (SEMANTICS, Deliveries) for every dialect, and the words the attempt log uses.
Rules: 2xx is success and nothing else is; a dialect can make a failure final, never soften or excuse it.
Must not know: schedules, counts, states; what follows from a verdict is ``core.lifecycle``'s.
"""

from collections.abc import Callable

from ringback.core.model import Outcome, OutcomeKind, Verdict

DELIVERED = "delivered"
BAD_STATUS = "bad_status"

_GONE = 410
_FINAL = (Verdict.GIVE_UP, Verdict.DISABLE)

#: What an outcome without a response means; a kind not named here retries.
_WITHOUT_RESPONSE = {
    OutcomeKind.EGRESS_DENIED: Verdict.GIVE_UP,
    OutcomeKind.INTERRUPTED: Verdict.UNCOUNTED,
    OutcomeKind.NO_RESOURCES: Verdict.POSTPONE,
}


def judge(outcome: Outcome, judge_status: Callable[[int], Verdict]) -> Verdict:
    """Judge one outcome.

    Args:
        outcome: what the transport saw.
        judge_status: the dialect's word on a status that is neither 2xx nor 410. Only ``GIVE_UP`` and ``DISABLE`` are
            heeded; anything else means retry, so no dialect can lose a delivery or loop without counting.
    """
    if outcome.kind is not OutcomeKind.RESPONSE:
        return _WITHOUT_RESPONSE.get(outcome.kind, Verdict.RETRY)
    status = outcome.status
    if status is None:
        return Verdict.RETRY
    if 200 <= status <= 299:
        return Verdict.DELIVERED
    if status == _GONE:
        return Verdict.DISABLE
    verdict = judge_status(status)
    return verdict if verdict in _FINAL else Verdict.RETRY


def attempt_outcome(outcome: Outcome) -> str:
    """The word the log and the metrics use: ``delivered``, ``bad_status``, or the kind's value."""
    if outcome.kind is not OutcomeKind.RESPONSE:
        return outcome.kind.value
    return DELIVERED if outcome.status is not None and 200 <= outcome.status <= 299 else BAD_STATUS


def attempt_error(outcome: Outcome) -> str | None:
    """Words an operator can act on, for the attempt log; None if all went well."""
    word = attempt_outcome(outcome)
    if word == DELIVERED:
        return None
    if word == BAD_STATUS:
        return outcome.error or f"the receiver answered {outcome.status}"
    return outcome.error or word.replace("_", " ")
