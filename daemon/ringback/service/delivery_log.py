"""The log lines of deliveries: one for each attempt that ended, after it was recorded, and for what a hand did.

Role: the words an operator greps for (CONTRACT, Log).
Rules: ids, numbers and reasons only; never a payload, a secret, a signature or a URL's query.
Must not know: how anything was decided.
"""

from ringback.core.ids import delivery_id
from ringback.core.model import DeliveryState, Endpoint, OutcomeKind, Owed, Transition, Verdict
from ringback.core.times import rfc3339
from ringback.kit.log import get_logger
from ringback.kit.redact import redact_url
from ringback.service.attempt import Ended
from ringback.service.bodies import Body
from ringback.service.log_keys import named
from ringback.store.views import DeliveryRow

_log = get_logger()


def ended(item: Owed, body: Body, endpoint: Endpoint, result: Ended, *, applied: bool) -> None:
    """One attempt (or an expiry) is over and its record committed; ``applied`` False: the delivery had moved on."""
    record, transition = result.record, result.transition
    keys: dict[str, object] = {
        "event_id": body.event.id,
        "delivery_id": delivery_id(body.accepted_at_ms, item.event, item.lane),
        **named(endpoint),
        "attempt": item.attempts + 1,
        "elapsed_ms": record.elapsed_ms if record else 0,
    }
    if record is not None and record.status is not None:
        keys["status"] = record.status
    if not applied:
        _log.info("delivery.stale_report", **keys)
        return
    if transition.to is DeliveryState.SUCCEEDED:
        _log.info("delivery.succeeded", **keys)
        return
    if record is not None:
        keys["outcome"], keys["error"] = record.outcome, record.error
        if record.outcome == OutcomeKind.EGRESS_DENIED:
            _log.warning("egress.denied", url=redact_url(endpoint.url), **keys)
    if result.verdict is Verdict.POSTPONE:
        _log.debug("delivery.postponed", **keys)  # of all of them together ``daemon.out_of_files`` tells
    elif transition.to is DeliveryState.PENDING and transition.due_at_ms is not None:
        _log.info("delivery.retrying", due_at=rfc3339(transition.due_at_ms), **keys)
    elif transition.to is DeliveryState.PENDING:
        _log.info("delivery.interrupted", **keys)
    elif transition.to is DeliveryState.EXPIRED:
        _log.warning("delivery.expired", **keys)
    else:
        _log.warning("delivery.dead", **keys)


def expired_unsent(item: Owed, event_id: str, accepted_at_ms: int, endpoint: Endpoint | None) -> None:
    """A delivery's time was over before it was started: held, or behind others."""
    _log.warning(
        "delivery.expired",
        event_id=event_id,
        delivery_id=delivery_id(accepted_at_ms, item.event, item.lane),
        **(named(endpoint) if endpoint else {"endpoint_id": None, "tenant": None}),
        attempt=item.attempts,
        elapsed_ms=0,
    )


def by_hand(row: DeliveryRow, endpoint: Endpoint | None, transition: Transition) -> None:
    """Somebody asked for a delivery to be sent now, or called it off, and that is committed."""
    keys: dict[str, object] = {
        "event_id": row.event_id,
        "delivery_id": delivery_id(row.accepted_at_ms, row.event, row.lane),
        **(named(endpoint) if endpoint else {"endpoint_id": None, "tenant": row.tenant}),
        "attempt": row.attempts,
        "elapsed_ms": 0,
        "was": row.state.name.lower(),
    }
    if transition.to is DeliveryState.CANCELLED:
        _log.info("delivery.cancelled", **keys)
    else:
        _log.info("delivery.retried", **keys)
