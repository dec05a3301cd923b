"""The sink: never waits, never raises, counts what it loses, ends in time."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ringback.kit import log_sink
from ringback.kit.log_sink import LogSink


def told(count):
    """The line about lost lines."""
    return b"dropped %d\n" % count


@pytest.fixture
def pipe():
    """A pipe's two ends. The writers end before their descriptor is closed and its number can mean another file."""
    before = set(threading.enumerate())
    ends = list(os.pipe())
    yield ends
    if ends[0] is not None:
        os.close(ends[0])  # a stuck writer gets EPIPE
    for thread in set(threading.enumerate()) - before:
        if thread.name == "log":
            thread.join(60)
    os.close(ends[1])


def read_until(fd, mark):
    """Everything up to and including the mark."""
    text = b""
    while mark not in text:
        chunk = os.read(fd, 1 << 20)
        assert chunk, text[-100:]
        text += chunk
    return text


def test_lines_arrive_in_order_and_whole(pipe):
    """What was put is written, in order, all of it before stop returns."""
    sink = LogSink(pipe[1], told)
    lines = [b"line %d\n" % n for n in range(2_000)]
    for line in lines:
        sink.put(line)
    assert sink.stop(60)
    assert read_until(pipe[0], lines[-1]) == b"".join(lines)
    assert sink.dropped == 0


def test_an_idle_sink_writes_at_once(pipe):
    """A single line needs no second one to be written."""
    sink = LogSink(pipe[1], told)
    sink.put(b"one\n")
    assert read_until(pipe[0], b"\n") == b"one\n"
    sink.put(b"two\n")
    assert read_until(pipe[0], b"\n") == b"two\n"
    assert sink.stop(60)


def test_an_unread_pipe_never_stops_the_caller_and_memory_is_bounded(pipe, monkeypatch):
    """With nobody reading, puts return, the surplus is counted, and the count is told when there is room."""
    monkeypatch.setattr(log_sink, "MAX_LINES", 1_000)
    sink = LogSink(pipe[1], told)
    total = 100_000
    for n in range(total):
        sink.put(b"%099d\n" % n)
    assert len(sink._lines) <= 1_000
    lost = sink.dropped
    assert lost > total - 10_000
    reader = threading.Thread(target=lambda: got.append(read_until(pipe[0], b"last\n")))
    got = []
    reader.start()
    wait_for(lambda: not sink._lines)
    sink.put(b"last\n")
    reader.join(60)
    lines = got[0].splitlines()
    assert sum(int(line.split()[1]) for line in lines if line.startswith(b"dropped")) == lost
    assert len([line for line in lines if line.isdigit()]) == total - lost
    assert sink.stop(60)


def wait_for(condition):
    """Poll; the runner's own time limit ends a vain wait."""
    pause = threading.Event()
    for _ in range(6_000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("waited in vain")


def test_bytes_are_bounded_as_well_as_lines(pipe, monkeypatch):
    """A few huge lines can't fill the memory either."""
    monkeypatch.setattr(log_sink, "MAX_BYTES", 1_000_000)
    sink = LogSink(pipe[1], told)
    for _ in range(100):
        sink.put(b"x" * 99_999 + b"\n")
    assert sink._bytes <= 1_000_000
    assert sink.dropped >= 100 - 2 * 10 - 1
    assert sink.stop(0.05) is False


def test_a_stuck_writer_doesnt_hold_the_end(pipe):
    """Stop gives up after its time and says that not all was written."""
    sink = LogSink(pipe[1], told)
    for _ in range(10_000):
        sink.put(b"x" * 99 + b"\n")
    assert sink.stop(0.05) is False
    os.read(pipe[0], 1 << 20)


def test_a_closed_pipe_is_survived_and_counted(pipe):
    """EPIPE loses the lines, not the process."""
    sink = LogSink(pipe[1], told)
    os.close(pipe[0])
    pipe[0] = None
    sink.put(b"one\n")
    wait_for(lambda: sink.dropped == 1)
    sink.put(b"two\n")
    wait_for(lambda: sink.dropped == 3)  # the line that tells of the first loss is lost, too
    assert sink.stop(60)


def test_a_full_disk_is_survived_and_counted():
    """ENOSPC loses the lines, not the process."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = LogSink(full.fileno(), told)
        sink.put(b"one\n")
        wait_for(lambda: sink.dropped == 1)
        assert sink.stop(60)


def test_a_line_torn_by_a_failed_write_is_ended_before_the_next(monkeypatch, pipe):
    """After half a line and an error the next line starts on a line of its own, and whole lines aren't counted lost."""
    real, calls = os.write, []

    def flaky(fd, data):
        calls.append(bytes(data))
        if len(calls) == 1:
            return real(fd, bytes(data)[:6])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(log_sink.os, "write", flaky)
    sink = LogSink(pipe[1], told)
    with sink._lock:  # both in one batch
        sink._lines += [b"one\n", b"two\n"]
        sink._bytes = 8
    sink._work.set()
    wait_for(lambda: sink.dropped == 1)
    sink.put(b"three\n")
    assert sink.stop(60)
    assert read_until(pipe[0], b"dropped 1\n") == b"one\ntw\nthree\ndropped 1\n"


def test_a_non_blocking_descriptor_is_waited_for(pipe):
    """A terminal or pipe that somebody set non-blocking gets everything all the same."""
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_NONBLOCK)
    sink = LogSink(pipe[1], told)
    for n in range(10_000):
        sink.put(b"%099d\n" % n)
    assert len(read_until(pipe[0], b"%099d\n" % 9_999)) == 1_000_000
    assert sink.stop(60)


def test_many_threads_put_at_once(pipe):
    """Lines of several threads arrive whole, each thread's in order."""
    sink = LogSink(pipe[1], told)
    threads = [
        threading.Thread(target=lambda t=t: [sink.put(b"%d %d\n" % (t, n)) for n in range(1_000)]) for t in range(8)
    ]
    got = []
    reader = threading.Thread(target=lambda: got.append(read_until(pipe[0], b"end\n")))
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.put(b"end\n")
    reader.join(60)
    lines = [tuple(map(int, line.split())) for line in got[0].splitlines()[:-1]]
    assert sorted(lines) == [(t, n) for t in range(8) for n in range(1_000)]
    for t in range(8):
        assert [n for who, n in lines if who == t] == list(range(1_000))
    assert sink.stop(60)


def test_after_the_stop_lines_are_counted_lost(pipe):
    """A straggler's line neither raises nor vanishes uncounted."""
    sink = LogSink(pipe[1], told)
    assert sink.stop(60)
    sink.put(b"late\n")
    assert sink.dropped == 1
