"""The writer: order, batches, cancellation, the end, and the log's length."""

import asyncio
import sqlite3
import threading

import pytest
from tests.store.kit import NOW_MS, Store, accept, attempt, check_invariants, event, opened, rows

from ringback.core.lifecycle import succeeded
from ringback.store import checkpoint, inbox
from ringback.store.errors import StoreError
from ringback.store.inbox import BACKGROUND_PATIENCE, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Entry, Inbox
from ringback.store.ops import Accepted, AcceptEvent, Failed, Finish, Task


async def test_answers_come_in_order_of_submission(store: Store):
    """Events, results and tasks mixed, over many batches: done is called in the order they were submitted."""
    order: list[int] = []
    ops = [accept(f"e{i}", 1) if i % 3 else Task("t", lambda _: None) for i in range(3000)]
    last = asyncio.get_running_loop().create_future()
    for number, op in enumerate(ops):
        store.writer.submit(op, lambda _, number=number: order.append(number))
    store.writer.submit(Task("last", lambda _: None), last.set_result)
    await last
    assert order == list(range(3000))


async def test_one_batch_gathers_while_another_commits(store: Store):
    """What is submitted together is committed together, not one by one, and no batch exceeds its bound."""
    await store.all(*[accept(f"e{i}", 1) for i in range(4000)])
    sizes = [stats.rows for stats in store.commits]
    assert sum(sizes) == 8000
    assert max(sizes) <= MAX_BATCH_ROWS
    assert len(sizes) < 200


async def test_nothing_is_answered_before_it_is_committed(store: Store):
    """When done is called, another connection sees the event."""
    seen: list[int] = []
    finished = asyncio.get_running_loop().create_future()

    def done(_: object) -> None:
        seen.append(rows(store.database.path, "SELECT count(*) FROM event")[0][0])
        if len(seen) == 20:
            finished.set_result(None)

    for number in range(20):
        store.writer.submit(accept(f"e{number}"), done)
    await finished
    assert all(count >= place for place, count in enumerate(seen, start=1))


async def test_the_backlog_is_what_waits(store: Store):
    """Rows and bytes go up with a submission and down with its answer, to zero."""
    waiting = asyncio.ensure_future(store.all(*[accept(f"e{i}", 1, 2) for i in range(10)]))
    await asyncio.sleep(0)
    assert (store.writer.backlog_rows, store.writer.backlog_bytes > 70) == (30, True)
    await waiting
    assert (store.writer.backlog_rows, store.writer.backlog_bytes) == (0, 0)


async def test_a_cancelled_wait_does_not_cancel_the_write(store: Store):
    """Who stops waiting for the answer still gets the event stored, and the writer goes on."""
    loop = asyncio.get_running_loop()
    reported: list[dict] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    waiting = asyncio.ensure_future(store.run(accept("a", 1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await store.run(accept("a", 1)) == Accepted(1, 1, duplicate=True)
    loop.set_exception_handler(None)
    assert reported == []


async def test_a_failed_operation_raises_by_name(store: Store):
    """``run`` turns Failed into an error that carries the code."""

    def bug(_: sqlite3.Connection) -> None:
        raise KeyError("x")

    with pytest.raises(StoreError) as caught:
        await store.run(Task("bug", bug))
    assert (caught.value.code, "KeyError" in caught.value.message) == ("internal_error", True)


async def test_a_listener_that_fails_costs_no_other_its_answer(store: Store):
    """A bug in one done is reported to the loop; the others are called."""
    loop = asyncio.get_running_loop()
    reported: list[dict] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    answer = loop.create_future()

    def broken(_: object) -> None:
        raise ZeroDivisionError

    store.writer.submit(accept("a"), broken)
    store.writer.submit(accept("b"), answer.set_result)
    assert await answer == Accepted(2, 0)
    loop.set_exception_handler(None)
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


async def test_stopping_commits_everything_gathered(tmp_path):
    """Each event submitted before the stop is answered and stored; a second stop changes nothing."""
    async with opened(tmp_path / "s") as store:
        answers: list[object] = []
        for number in range(500):
            store.writer.submit(accept(f"e{number}", 1), answers.append)
        store.writer.submit(Task("late", lambda _: "ran", background=True), answers.append)
        await asyncio.gather(store.writer.stop(), store.writer.stop())
        assert len(answers) == 501
        assert "ran" in answers
        (late,) = await store.all(accept("late"))
        assert isinstance(late, Failed)
        assert late.code == "shutting_down"
        await store.writer.stop()
    assert rows(tmp_path / "s" / "ringback.db", "SELECT count(*) FROM event") == [(500,)]
    assert not (tmp_path / "s" / "ringback.db-wal").exists(), "the log is emptied"


async def test_a_writer_that_never_started_stops(tmp_path):
    """Stop may come before start."""
    async with opened(tmp_path / "s") as store:
        other = Store(store.database)
        await other.writer.stop()
        (answer,) = await other.all(accept("a"))
        assert answer.code == "shutting_down"


async def test_no_thread_stays(tmp_path):
    """After the stop neither the writer's nor the checkpointer's nor a reader's thread is left."""
    before = set(threading.enumerate())
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert set(threading.enumerate()) <= before


async def test_a_commit_can_be_watched(store: Store):
    """The watchdog sees when a commit began, and that none runs at rest."""
    seen: list[float | None] = []
    await store.run(Task("look", lambda _: seen.append(store.writer.commit_started)))
    assert isinstance(seen[0], float)
    assert store.writer.commit_started is None


def _entry(rows_: int = 1, size: int = 1, name: str = "x") -> Entry:
    return Entry(name, lambda _: None, rows_, size)


def test_a_batch_is_bounded_in_rows_and_bytes():
    """What doesn't fit begins the next batch; one operation is taken however large it is."""
    box = Inbox()
    for entry in (
        _entry(MAX_BATCH_ROWS - 1),
        _entry(),
        _entry(),
        _entry(10 * MAX_BATCH_ROWS),
        _entry(1, MAX_BATCH_BYTES),
        _entry(),
    ):
        box.put(entry)
    assert [len(box.take(0)) for _ in range(5)] == [2, 1, 1, 1, 1]
    assert box.take(0) == []


def test_background_work_waits_but_not_for_ever():
    """It goes in when nothing else waits, or after it has been passed over often enough."""
    box = Inbox()
    box.put(_entry(name="slow"), background=True)
    turns = 0
    while True:
        box.put(_entry(name="hot"))
        batch = [entry.op for entry in box.take(0)]
        turns += 1
        if "slow" in batch:
            break
    assert turns == BACKGROUND_PATIENCE + 1
    box.put(_entry(name="slow"), background=True)
    assert [entry.op for entry in box.take(0)] == ["slow"]


def test_a_closed_inbox_is_drained_first():
    """What was put before the end is handed out, background work too."""
    box = Inbox()
    box.put(_entry(name="a"))
    box.put(_entry(name="b"), background=True)
    box.close()
    taken = []
    while not box.drained:
        taken += [entry.op for entry in box.take(None)]
    assert taken == ["a", "b"]


async def test_the_log_stays_bounded_under_saturation(tmp_path, monkeypatch):
    """Never a quiet moment, a reader at work: the log is cut again and again, and nothing is lost by it."""
    limit = 2 * 1024 * 1024
    monkeypatch.setattr(checkpoint, "WAL_LIMIT_BYTES", limit)
    monkeypatch.setattr("ringback.store.worker.CHECKPOINT_BYTES", limit // 4)
    longest = total = 0
    async with opened(tmp_path / "s") as store:
        store.database.writer.execute(f"PRAGMA journal_size_limit = {limit}")
        blob = b"x" * 2000
        pending: set[asyncio.Future] = set()
        for number in range(6000):
            op = AcceptEvent(event(f"e{number}", blob), (1 + number % 50,), NOW_MS)
            pending.add(asyncio.ensure_future(store.run(op)))
            if len(pending) >= 400:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                longest = max(longest, store.database.wal_path.stat().st_size)
                await store.queue.heads()
        await asyncio.gather(*pending)
        total = sum(stats.size for stats in store.commits)
    assert total > 5 * limit
    assert longest < 4 * limit
    assert rows(tmp_path / "s" / "ringback.db", "SELECT count(*) FROM event") == [(6000,)]


async def test_the_log_stays_bounded_under_a_trickle(tmp_path, monkeypatch):
    """A rest after every event: checkpoints come by what was written, not by how busy it is."""
    monkeypatch.setattr("ringback.store.worker.CHECKPOINT_BYTES", 100_000)
    monkeypatch.setattr(checkpoint, "WAL_LIMIT_BYTES", 500_000)
    monkeypatch.setattr("ringback.store.worker.IDLE_S", 0.001)
    async with opened(tmp_path / "s") as store:
        for number in range(200):
            await store.run(accept(f"e{number}", 1, data=b"x" * 20_000))
            await asyncio.sleep(0.002)
        longest = store.database.wal_path.stat().st_size
    assert longest < 200 * 20_000 / 2


async def test_patience_is_finite_in_the_running_writer(store: Store, monkeypatch):
    """Background tasks end although the writer never rests."""
    monkeypatch.setattr(inbox, "BACKGROUND_PATIENCE", 3)
    slow = asyncio.ensure_future(store.run(Task("slow", lambda _: "done", background=True)))
    number = 0
    while not slow.done():
        number += 1
        await store.all(*[accept(f"e{number}-{i}", 1) for i in range(5)])
        assert number < 1000
    assert await slow == "done"


async def test_results_and_events_share_commits(store: Store):
    """New events and finished attempts alike go into whatever batch is open."""
    first = await store.all(*[accept(f"e{i}", 1) for i in range(100)])
    store.commits.clear()
    mixed = [
        op
        for i, answer in enumerate(first)
        for op in (Finish(1, answer.seq, succeeded(), attempt()), accept(f"f{i}", 1))
    ]
    await store.all(*mixed)
    assert len(store.commits) < 20
    check_invariants(store.database.path)
