"""An endpoint's states and the one table of its transitions.

Role: what pause, resume, disable, a challenge, its end and a new url make of an endpoint: endpoint in, endpoint out.
Rules: proof (pending, active, failed) lies under the two stops (paused, disabled); a stop remembers in ``below`` what
it covers, a challenge or a new url goes on beneath it, and only ``resume`` lifts it. So no way round leads an unproved
endpoint to ``active``. What already holds is a no-op and answers the very same object.
``disable`` on a paused endpoint wins: its reason must be seen, and one ``resume``, by hand, then lifts both. ``pause``
on a disabled one is refused, for a second cover would hide the first one's reason.
Must not know: handshakes' contents, storage, who asked.
"""

from enum import StrEnum
from typing import assert_never

import msgspec

from ringback.core.model import Endpoint, EndpointStatus

_PENDING, _ACTIVE, _FAILED = EndpointStatus.PENDING, EndpointStatus.ACTIVE, EndpointStatus.FAILED
_PAUSED, _DISABLED = EndpointStatus.PAUSED, EndpointStatus.DISABLED

#: Handshake kinds that ask nothing of the receiver: the endpoint counts as proved from the start.
UNASKED_HANDSHAKES = frozenset({"none", "assumed"})

#: Why an endpoint that no file names any more is disabled.
UNDECLARED = "undeclared"


class EndpointEvent(StrEnum):
    """What can happen to an endpoint's status."""

    PAUSE = "pause"
    RESUME = "resume"
    DISABLE = "disable"
    CHALLENGED = "challenged"
    CHALLENGE_PASSED = "challenge_passed"
    CHALLENGE_FAILED = "challenge_failed"
    PROOF_VOID = "proof_void"


class Move(StrEnum):
    """A table entry that isn't a fixed state."""

    STAY = "stay"  #: already so: nothing changes
    UNCOVER = "uncover"  #: back to what lies below
    BENEATH = "beneath"  #: the stop stays; the event happens to what lies below
    START = "start"  #: as a new endpoint would begin: active if its handshake asks nothing, else pending


class Refused(msgspec.Struct, frozen=True):
    """An event that the endpoint's state doesn't allow. ``code`` is always ``conflict`` (API: 409)."""

    code: str
    message: str


#: (status, event) to what becomes of it. Total: every pair is here.
TABLE: dict[EndpointStatus, dict[EndpointEvent, EndpointStatus | Move | Refused]] = {
    _PENDING: {
        EndpointEvent.PAUSE: _PAUSED,
        EndpointEvent.RESUME: Refused("conflict", "the endpoint is not proved yet; challenge it instead"),
        EndpointEvent.DISABLE: _DISABLED,
        EndpointEvent.CHALLENGED: Move.STAY,
        EndpointEvent.CHALLENGE_PASSED: _ACTIVE,
        EndpointEvent.CHALLENGE_FAILED: _FAILED,
        EndpointEvent.PROOF_VOID: Move.START,
    },
    _ACTIVE: {
        EndpointEvent.PAUSE: _PAUSED,
        EndpointEvent.RESUME: Move.STAY,
        EndpointEvent.DISABLE: _DISABLED,
        EndpointEvent.CHALLENGED: Move.STAY,
        EndpointEvent.CHALLENGE_PASSED: Move.STAY,
        EndpointEvent.CHALLENGE_FAILED: _FAILED,
        EndpointEvent.PROOF_VOID: Move.START,
    },
    _FAILED: {
        EndpointEvent.PAUSE: _PAUSED,
        EndpointEvent.RESUME: Refused("conflict", "the endpoint failed its proof; challenge it or give it a new url"),
        EndpointEvent.DISABLE: _DISABLED,
        EndpointEvent.CHALLENGED: _PENDING,
        EndpointEvent.CHALLENGE_PASSED: _ACTIVE,
        EndpointEvent.CHALLENGE_FAILED: _FAILED,
        EndpointEvent.PROOF_VOID: Move.START,
    },
    _PAUSED: {
        EndpointEvent.PAUSE: Move.STAY,
        EndpointEvent.RESUME: Move.UNCOVER,
        EndpointEvent.DISABLE: _DISABLED,
        EndpointEvent.CHALLENGED: Move.BENEATH,
        EndpointEvent.CHALLENGE_PASSED: Move.BENEATH,
        EndpointEvent.CHALLENGE_FAILED: Move.BENEATH,
        EndpointEvent.PROOF_VOID: Move.BENEATH,
    },
    _DISABLED: {
        EndpointEvent.PAUSE: Refused("conflict", "the endpoint is disabled and gets nothing; resume it first"),
        EndpointEvent.RESUME: Move.UNCOVER,
        EndpointEvent.DISABLE: Move.STAY,
        EndpointEvent.CHALLENGED: Move.BENEATH,
        EndpointEvent.CHALLENGE_PASSED: Move.BENEATH,
        EndpointEvent.CHALLENGE_FAILED: Move.BENEATH,
        EndpointEvent.PROOF_VOID: Move.BENEATH,
    },
}


def delivers(status: EndpointStatus) -> bool:
    """Whether attempts may start; in every other status what is owed is held."""
    return status is _ACTIVE


def standing(endpoint: Endpoint) -> EndpointStatus:
    """How its proof stands: pending, active or failed, also beneath a stop."""
    return _covered(endpoint) if endpoint.status in (_PAUSED, _DISABLED) else endpoint.status


def starting_status(handshake: str) -> EndpointStatus:
    """Where a new endpoint, or one with a new url, begins."""
    return _ACTIVE if handshake in UNASKED_HANDSHAKES else _PENDING


def hold(endpoint: Endpoint, *, now_ms: int) -> Endpoint:
    """The endpoint so that it sends nothing by itself until somebody resumes it: paused, if it isn't stopped already.

    One that is disabled because no file named it would be resumed by a file that names it again: it is paused as a
    declared one, so that the files decide as at any start, and that it is sent to waits for a hand.
    """
    if endpoint.status is _DISABLED and endpoint.status_reason == UNDECLARED:
        covered = _changed(endpoint, _PAUSED, _covered(endpoint), None, now_ms)
        return msgspec.structs.replace(covered, declared=True)
    paused = apply(endpoint, EndpointEvent.PAUSE, now_ms=now_ms)
    return endpoint if isinstance(paused, Refused) else paused


def apply(endpoint: Endpoint, event: EndpointEvent, *, now_ms: int, reason: str | None = None) -> Endpoint | Refused:
    """What the event makes of the endpoint.

    Args:
        endpoint: as it stands.
        event: what happened.
        now_ms: wall clock; becomes ``updated_at_ms`` if anything changed.
        reason: for ``status_reason``, from disable and challenge_failed; the other events have none.

    Returns:
        The changed endpoint; the same object if it was so already; or Refused.
    """
    entry = TABLE[endpoint.status][event]
    if isinstance(entry, Refused):
        return entry
    if isinstance(entry, EndpointStatus):
        return _moved(endpoint, entry, now_ms, reason)
    if entry is Move.STAY:
        return endpoint
    if entry is Move.START:
        return _moved(endpoint, starting_status(endpoint.handshake), now_ms, None)
    if entry is Move.UNCOVER:
        return _uncovered(endpoint, now_ms)
    if entry is Move.BENEATH:
        return _beneath(endpoint, event, now_ms, reason)
    assert_never(entry)


def _moved(endpoint: Endpoint, status: EndpointStatus, now_ms: int, reason: str | None) -> Endpoint:
    """The endpoint in its new state; a stop remembers what it covers, a pause keeps the covered state's reason too."""
    below = None
    if status in (_PAUSED, _DISABLED):
        below = endpoint.below if endpoint.status is _PAUSED else endpoint.status
    if status is _PAUSED:
        reason = endpoint.status_reason
    elif status in (_ACTIVE, _PENDING):
        reason = None
    return _changed(endpoint, status, below, reason, now_ms)


def _uncovered(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """The endpoint without its stop. Words kept by a pause belong to the state below; those of a disable end."""
    reason = endpoint.status_reason if endpoint.status is _PAUSED else None
    return _changed(endpoint, _covered(endpoint), None, reason, now_ms)


def _beneath(endpoint: Endpoint, event: EndpointEvent, now_ms: int, reason: str | None) -> Endpoint:
    """The same stop over what the event makes of the state below it, which is never itself a stop."""
    entry = TABLE[_covered(endpoint)][event]
    if entry is Move.START:
        entry = starting_status(endpoint.handshake)
    if not isinstance(entry, EndpointStatus):
        return endpoint
    if endpoint.status is _DISABLED:
        reason = endpoint.status_reason
    elif entry is not _FAILED:
        reason = None
    return _changed(endpoint, endpoint.status, entry, reason, now_ms)


def _covered(endpoint: Endpoint) -> EndpointStatus:
    """What lies below a stop; a row that doesn't say so begins anew, so that it is never taken as proved."""
    return endpoint.below or starting_status(endpoint.handshake)


def _changed(
    endpoint: Endpoint, status: EndpointStatus, below: EndpointStatus | None, reason: str | None, now_ms: int
) -> Endpoint:
    """The endpoint with these three, or the very same object if it has them already."""
    if (status, below, reason) == (endpoint.status, endpoint.below, endpoint.status_reason):
        return endpoint
    return msgspec.structs.replace(endpoint, status=status, below=below, status_reason=reason, updated_at_ms=now_ms)
