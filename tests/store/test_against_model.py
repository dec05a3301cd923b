"""The store against a dictionary: whatever is done in whatever order, both say the same."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.store.faulty import UnsyncedConnection
from tests.store.kit import NOW_MS, accept, attempt, check_invariants, rows

from ringback.core import lifecycle
from ringback.core.model import DeliveryState
from ringback.store.database import open_state
from ringback.store.engine import Engine
from ringback.store.lane_history import index_history
from ringback.store.ops import Accepted, Conflict, Finish
from ringback.store.queue import cancel_owed
from ringback.store.retention import prune_events

STEPS = {
    "succeeded": lifecycle.succeeded(),
    "retry": lifecycle.retry_at(NOW_MS + 5),
    "later": lifecycle.retry_at(NOW_MS + 9),
    "postponed": lifecycle.postponed(NOW_MS + 7),
    "dead": lifecycle.dead(),
    "expired": lifecycle.expired(),
    "cancelled": lifecycle.cancelled(),
    "interrupted": lifecycle.interrupted(),
    "hastened": lifecycle.hastened(),
    "reopened": lifecycle.reopened(NOW_MS),
}
ids = st.integers(0, 5)
lanes = st.lists(st.integers(1, 4), unique=True, max_size=4)
events = st.tuples(ids, st.sampled_from([b'{"a":1}', b'{"b":22}']), lanes)
ends = st.tuples(st.integers(1, 12), st.integers(1, 4), st.sampled_from(list(STEPS)), st.booleans())


class StoreMachine(RuleBasedStateMachine):
    """Batches of events and results, retention, the index, restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="rb-model-"))
        self.events: dict[str, tuple[int, bytes, int]] = {}
        self.deliveries: dict[tuple[int, int], dict] = {}
        self.high = 0
        self._open()

    def _open(self) -> None:
        self.database = open_state(self.directory, NOW_MS, UnsyncedConnection)  # durability is tested elsewhere
        self.engine = Engine(self.database.writer, self.database.high_seq)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.database.close()
        shutil.rmtree(self.directory)

    @rule(batch=st.lists(st.one_of(events, ends), max_size=12))
    def commit(self, batch) -> None:
        """One batch of whatever."""
        ops = [
            accept(f"e{item[0]}", *item[2], data=item[1])
            if len(item) == 3
            else Finish(item[1], item[0], STEPS[item[2]], attempt() if item[3] and item[2] != "reopened" else None)
            for item in batch
        ]
        # Events before results: a result can't be about an event its sender doesn't know yet.
        ops.sort(key=lambda op: isinstance(op, Finish))
        known = set(self.deliveries)
        for op, answer in zip(ops, self.engine.commit(ops), strict=True):
            if isinstance(op, Finish):
                assert answer is self._finish(op, known), op
            else:
                self._accept(op, answer)

    def _accept(self, op, answer) -> None:
        stored = self.events.get(op.event.id)
        if stored is None:
            assert isinstance(answer, Accepted)
            assert (answer.duplicate, answer.deliveries) == (False, len(op.lanes))
            assert answer.seq > self.high
            self.high = answer.seq
            self.events[op.event.id] = (answer.seq, op.event.data, len(op.lanes))
            for lane in op.lanes:
                self.deliveries[answer.seq, lane] = {"state": 0, "due": 0, "counted": 0, "n": 0, "run": 1}
        elif stored[1] == op.event.data:
            assert answer == Accepted(stored[0], stored[2], duplicate=True)
        else:
            assert answer == Conflict()

    def _finish(self, op: Finish, known) -> bool:
        row = self.deliveries.get((op.event, op.lane))
        if row is None:
            return False
        assert known is not None
        step = op.transition
        state = lifecycle.apply(DeliveryState(row["state"]), step)
        if state is None:
            return False
        if step.reopen:
            row.update(state=0, due=0, counted=0, run=row["run"] + 1)
            return True
        row["n"] += op.attempt is not None
        row["state"] = int(state)
        if step.due_at_ms is not None:
            row["due"] = step.due_at_ms
            row["counted"] += step.counted
        return True

    @rule(lane=st.integers(1, 4), limit=st.integers(1, 3))
    def cancel(self, lane, limit) -> None:
        """A deleted endpoint's rows, in steps."""
        (count,) = self.engine.commit([cancel_owed(lane, limit)])
        pending = {key for key, row in self.deliveries.items() if key[1] == lane and row["state"] == 0}
        assert count == min(limit, len(pending))
        left = {tuple(key) for key in rows(self.database.path, "SELECT event, lane FROM owed WHERE lane = ?", lane)}
        for key in pending - left:
            self.deliveries[key]["state"] = int(DeliveryState.CANCELLED)

    @rule(limit=st.integers(1, 4))
    def prune(self, limit) -> None:
        """A few steps of retention: only events that nobody is owed may go."""
        for _ in range(3):
            self.engine.commit([prune_events(NOW_MS + 1, limit)])
        left = {seq for (seq,) in rows(self.database.path, "SELECT seq FROM event")}
        for name, (seq, _, _) in list(self.events.items()):
            if seq not in left:
                gone = [key for key in self.deliveries if key[0] == seq]
                assert all(self.deliveries[key]["state"] != 0 for key in gone)
                del self.events[name]
                for key in gone:
                    del self.deliveries[key]

    @rule(chunk=st.integers(1, 5))
    def index(self, chunk) -> None:
        """A chunk of the history index."""
        self.engine.commit([index_history(chunk)])

    @rule()
    def restart(self) -> None:
        """Close and open again."""
        self.database.mark(self.engine.high_seq)
        self.database.close()
        self._open()
        assert self.database.lost_events == 0
        assert self.engine.high_seq >= self.high

    @invariant()
    def tables_say_the_same(self) -> None:
        """Deliveries, owed rows and attempts are those of the dictionary."""
        path = self.database.path
        found = {
            (event, lane): {"state": state, "due": due, "counted": counted, "n": n, "run": run}
            for event, lane, state, due, counted, n, run in rows(
                path,
                "SELECT d.event, d.lane, d.state, o.due_ms, o.attempts, d.attempts, d.run FROM delivery d"
                " LEFT JOIN owed o ON o.lane = d.lane AND o.event = d.event",
            )
        }
        expected = {
            key: {**row, **({"due": None, "counted": None} if row["state"] else {})}
            for key, row in self.deliveries.items()
        }
        assert found == expected
        check_invariants(path)


StoreMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase
