"""``docs/states.md``, drawn from the two transition tables.

Role: the tables' arrows as diagrams and lists, and for each state the words on what a crash there leaves and who cleans
up. The words stand here, beside the tables, so that a new state without them fails a test.
Rules: ``render()`` is a pure function of the tables; the file equals it, byte for byte (tests/test_shape.py).
Regenerate: ``python -m ringback.core.states_doc > docs/states.md``.
Must not know: where the file lies.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ringback.core import endpoint_state, lifecycle
from ringback.core.endpoint_state import UNASKED_HANDSHAKES, EndpointEvent, Move, Refused
from ringback.core.lifecycle import Step
from ringback.core.model import DeliveryState, EndpointStatus


class StateWords(NamedTuple):
    """What a state means, what a crash in it leaves, and who cleans up."""

    means: str
    crash: str
    cleaner: str


DELIVERY_WORDS: dict[DeliveryState, StateWords] = {
    DeliveryState.PENDING: StateWords(
        "Owed: a row in `delivery` and one in `owed`, written by the same transaction as the event and its payload.",
        "The rows. An attempt that was running is forgotten, and so is a result that was not committed yet.",
        "The dispatcher of the next start: it finds the row by its due time and sends it again under the same id.",
    ),
    DeliveryState.SUCCEEDED: StateWords(
        "The receiver answered 2xx and that is committed. The row in `owed` went in the same transaction.",
        "Nothing: the commit happened, or the delivery is still pending.",
        "Retention, by age.",
    ),
    DeliveryState.DEAD: StateWords(
        "The retries are used up, or it was refused for good (410, egress, a dialect's final status).",
        "Nothing: as above.",
        "A retry by hand reopens it; else retention, by age.",
    ),
    DeliveryState.EXPIRED: StateWords(
        "`expires_at` passed before it could be delivered.",
        "Nothing: as above. One whose time passed while the daemon was down is still pending.",
        "The janitor expires what is overdue after the start; a retry by hand reopens it; else retention, by age.",
    ),
    DeliveryState.CANCELLED: StateWords(
        "By hand, or because its endpoint was deleted.",
        "Nothing: as above. Of a deleted endpoint with much owed, some rows may still be pending.",
        "The janitor cancels the rest in small steps; a retry by hand reopens it; else retention, by age.",
    ),
}

STEP_WORDS: dict[Step, str] = {
    Step.SUCCEEDED: "a 2xx",
    Step.RETRY_AT: "a failed attempt; the schedule has another, before `expires_at`",
    Step.POSTPONED: "we had no descriptor to try it with; not recorded, not counted, due in about two seconds",
    Step.DEAD: "a failed attempt; the schedule has no other, or the failure is final",
    Step.EXPIRED: "`expires_at` has passed, or would have before the next attempt",
    Step.CANCELLED: "by hand, or the endpoint is deleted",
    Step.INTERRUPTED: "we cut the attempt off; recorded, not counted, due as before",
    Step.HASTENED: "a retry by hand of one that waits for its next try: due at once, the schedule goes on; not counted",
    Step.REOPENED: "a retry by hand: fresh schedule, the next run of the same delivery",
}

ENDPOINT_WORDS: dict[EndpointStatus, StateWords] = {
    EndpointStatus.PENDING: StateWords(
        "Not proved yet. What it is owed is held.",
        "The row. A challenge that was under way is forgotten; a consent that may still come by the callback is not.",
        "The start: every pending endpoint is challenged again, with a new token; a receiver may be asked twice.",
    ),
    EndpointStatus.ACTIVE: StateWords(
        "Proved, or its handshake asks nothing. The only state in which attempts start.",
        "The row, and its pending deliveries.",
        "The dispatcher, as for any pending delivery.",
    ),
    EndpointStatus.FAILED: StateWords(
        "Its proof failed; `status_reason` says how. What it is owed is held.",
        "The row.",
        "A person: a challenge, or a new url.",
    ),
    EndpointStatus.PAUSED: StateWords(
        "Stopped by hand. `below` says over what. What it is owed is held; attempts in flight finish and count.",
        "The row, written before the call was answered. A pause is one row, whatever is owed.",
        "A person: resume.",
    ),
    EndpointStatus.DISABLED: StateWords(
        "Stopped by policy; `status_reason` says why. `below` says over what. What it is owed is held.",
        "The row; or, if the 410 was not committed, the state before it, and the next 410 disables it.",
        "A person: resume.",
    ),
}

EVENT_WORDS: dict[EndpointEvent, str] = {
    EndpointEvent.PAUSE: "by hand",
    EndpointEvent.RESUME: "by hand",
    EndpointEvent.DISABLE: "by policy: a 410, or a declaration that is gone",
    EndpointEvent.CHALLENGED: "by hand: it is to be challenged again",
    EndpointEvent.CHALLENGE_PASSED: "the receiver proved itself",
    EndpointEvent.CHALLENGE_FAILED: "it did not, after all its tries",
    EndpointEvent.PROOF_VOID: "a new `url`, another `handshake`, or a new secret where the handshake is keyed by it",
}

_HEAD = """\
# States

Generated from the tables in `core/lifecycle.py` and `core/endpoint_state.py`; don't edit. Regenerate with

    .venv/bin/python -m ringback.core.states_doc > docs/states.md

(a test compares the two). A transition that is not listed changes nothing: a late or doubled report is ignored.
"""

_DELIVERY_FACTS = """\
**Accepted** means one committed, synced transaction that holds the event, its payload, one delivery for each endpoint
that wants it, and the same number of `owed` rows. There is no state between "not there" and "pending everywhere".

The table stores only the states drawn here. Two more are shown by the API and derived when read:

- **`in_flight`**: pending, and the dispatcher holds it in memory. That lives nowhere else: a crash leaves a pending
  row, and it is sent again under the same `webhook-id`. At worst the receiver gets what was in flight twice; no design
  avoids that, for the answer can be lost after the receiver has acted. The id is there so that it can drop the double.
- **`held`**: pending, and its endpoint is not active. Pausing and resuming write one row, whatever is owed. Time held
  uses up no attempt; `expires_at` runs on.

A **result not yet committed** (answered, but the batch that records it is lost) is the same case: pending, sent again.
An attempt that SIGTERM cut off is **`interrupted`**: recorded in the attempt log, not counted, owed as before.
"""

_UNASKED = ", ".join(f"`{kind}`" for kind in sorted(UNASKED_HANDSHAKES))

_ENDPOINT_FACTS = f"""\
Proof (`pending`, `active`, `failed`) lies under the two stops (`paused`, `disabled`). A stop remembers in `below` what
it covers; challenges and new urls go on beneath it, and only `resume` lifts it. A new endpoint, and one with a new url,
starts `active` if its handshake asks nothing ({_UNASKED}), else `pending`.

`disable` of a paused endpoint wins, because its reason must be seen: an attempt in flight at the pause may answer 410.
One `resume`, by hand, then lifts both. A renewal that fails after all its tries takes the proof away: what is owed is
held, not lost. A first challenge has three tries within seconds, a renewal six within hours. DELETE is no state but a
mark on the row: nothing leads back.
"""


def render() -> str:
    """The whole document, ending in one newline."""
    parts = [
        _HEAD,
        "## Deliveries\n",
        _DELIVERY_FACTS,
        _diagram("pending", _delivery_arrows()),
        _table(("from", "step", "to", "when"), _delivery_rows()),
        _state_table((state.name.lower(), words) for state, words in DELIVERY_WORDS.items()),
        "## Endpoints\n",
        _ENDPOINT_FACTS,
        _diagram("start", _endpoint_arrows()),
        _table(("in", *(f"`{event}`" for event in EndpointEvent)), _endpoint_rows()),
        _table(("event", "what it is"), ((f"`{event}`", words) for event, words in EVENT_WORDS.items())),
        _state_table((status.value, words) for status, words in ENDPOINT_WORDS.items()),
    ]
    return "\n".join(parts)


def _delivery_arrows() -> Iterable[tuple[str, str, str]]:
    return ((state.name.lower(), target.name.lower(), step) for (state, step), target in lifecycle.TABLE.items())


def _delivery_rows() -> Iterable[tuple[str, ...]]:
    for (state, step), target in lifecycle.TABLE.items():
        yield f"`{state.name.lower()}`", f"`{step}`", f"`{target.name.lower()}`", STEP_WORDS[step]


def _endpoint_arrows() -> Iterable[tuple[str, str, str]]:
    """The arrows a diagram can carry: fixed targets, and where a resume may lead. The rest is in the table."""
    yield "start", "active", "handshake asks nothing"
    yield "start", "pending", "handshake asks"
    for status, row in endpoint_state.TABLE.items():
        for event, entry in row.items():
            if isinstance(entry, EndpointStatus) and entry is not status:
                yield status, entry, event
            elif entry is Move.UNCOVER:
                yield from ((status, below, f"{event} (below)") for below in _provable())
            elif entry is Move.START and status is not EndpointStatus.PENDING:
                yield status, "pending", f"{event}, handshake asks"


def _provable() -> Iterable[EndpointStatus]:
    """The states a stop can cover: those no stop is."""
    return (status for status, row in endpoint_state.TABLE.items() if Move.UNCOVER not in row.values())


def _endpoint_rows() -> Iterable[tuple[str, ...]]:
    for status, row in endpoint_state.TABLE.items():
        yield f"`{status}`", *(_entry_words(row[event]) for event in EndpointEvent)


def _entry_words(entry: EndpointStatus | Move | Refused) -> str:
    if isinstance(entry, Refused):
        return f"refused: {entry.message}"
    if isinstance(entry, EndpointStatus):
        return f"`{entry}`"
    return {
        Move.STAY: "no change",
        Move.UNCOVER: "what lies below",
        Move.BENEATH: "happens to what lies below",
        Move.START: "starts anew",
    }[entry]


def _diagram(start: str, arrows: Iterable[tuple[str, str, str]]) -> str:
    """A mermaid state diagram; arrows between the same two states share one line."""
    labels: dict[tuple[str, str], list[str]] = {}
    for source, target, label in arrows:
        labels.setdefault((source, target), []).append(label)
    shown = {start: "[*]"} if start == "start" else {}
    lines = [] if shown else [f"    [*] --> {start}"]
    lines += [
        f"    {shown.get(source, source)} --> {target}: {', '.join(names)}"
        for (source, target), names in labels.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _state_table(rows: Iterable[tuple[str, StateWords]]) -> str:
    return _table(
        ("state", "means", "a crash there leaves", "who cleans up"), ((f"`{name}`", *words) for name, words in rows)
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), ""])


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - the generator's whole purpose
