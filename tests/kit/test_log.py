"""The log as it is written: names, levels, time, redaction, and nothing a caller hands in can break it."""

import asyncio
import logging
import os
import pty
import warnings

import msgspec
import orjson
import pytest
import structlog

from ringback.kit import log as log_module
from ringback.kit.clock import SystemClock
from ringback.kit.log import MAX_LINE_BYTES, configure, get_logger, set_level

NOW_MS = 1_795_000_000_123  # 2026-11-18T11:06:40.123Z


class FixedClock(SystemClock):
    """A clock that stands still."""

    def now_ms(self):
        return NOW_MS


@pytest.fixture
def logged(tmp_path):
    """Run something with the log configured; return what was written. What it lost is forgotten with the test."""
    output, as_it_was = log_module._output, vars(log_module._output).copy()
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    level, shown = root.level, warnings.showwarning

    def run(act, fmt="json", level="debug"):
        path = tmp_path / "log"
        with path.open("wb", buffering=0) as file:
            sink = configure(fmt, level, file, FixedClock())
            act(get_logger())
            assert sink.stop(10)
        text = path.read_bytes()
        return text.decode() if fmt == "console" else [orjson.loads(line) for line in text.splitlines()]

    yield run
    vars(output).clear()
    vars(output).update(as_it_was)
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_has_event_level_timestamp_then_the_rest(logged):
    """The three fixed keys come first, the others in the order given; the time is RFC 3339 UTC with milliseconds."""
    (line,) = logged(lambda log: log.info("delivery.succeeded", endpoint_id="e", attempt=1, elapsed_ms=12))
    assert list(line.items()) == [
        ("event", "delivery.succeeded"),
        ("level", "info"),
        ("timestamp", "2026-11-18T11:06:40.123Z"),
        ("endpoint_id", "e"),
        ("attempt", 1),
        ("elapsed_ms", 12),
    ]


def test_levels_filter_and_are_named_as_usual(logged):
    """Below the level nothing is written; each method has its level's name."""

    def act(log):
        for name in ("debug", "info", "warning", "warn", "error", "critical"):
            getattr(log, name)("x")
        log.log(logging.ERROR, "y")

    assert [line["level"] for line in logged(act, level="warning")] == [
        "warning",
        "warning",
        "error",
        "critical",
        "error",
    ]


def test_the_level_can_change_while_loggers_are_in_use(logged):
    """A logger that has logged before follows a change of the level in both directions."""

    def act(log):
        log.debug("a")
        set_level("info")
        log.debug("b")
        log.info("c")
        set_level("critical")
        log.error("d")
        set_level("debug")
        log.debug("e")

    assert [line["event"] for line in logged(act)] == ["a", "c", "e"]
    with pytest.raises(ValueError, match="loud"):
        set_level("loud")


def test_an_unknown_level_is_refused(tmp_path):
    """A typo in the settings is said, with the choices."""
    with (tmp_path / "log").open("wb") as file, pytest.raises(ValueError, match="'loud' is none of debug"):
        configure("json", "loud", file, FixedClock())


def test_bound_values_come_along(logged):
    """A logger bound to values writes them on each line."""
    (line,) = logged(lambda log: log.bind(endpoint_id="e").info("x", attempt=1))
    assert (line["endpoint_id"], line["attempt"]) == ("e", 1)


def test_secrets_and_urls_are_redacted(logged):
    """No secret by key, by shape or inside another value; URLs lose their query."""

    def act(log):
        log.info(
            "x",
            secret="hunter2",
            headers={"Authorization": "hunter2"},
            url="https://u:hunter2@h/p?token=hunter2",
            error="bad secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            payload=b"hunter2",
        )

    (line,) = logged(act)
    assert "hunter2" not in str(line)
    assert "MfKQ" not in str(line)
    assert line["url"] == "https://h/p"
    assert line["error"] == "bad secret whsec_[redacted]"


class Evil:
    """Its repr fails."""

    def __repr__(self):
        raise ZeroDivisionError


class Row(msgspec.Struct):
    """Something the encoder doesn't know."""

    a: int


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\xff", "b'\\xff'"),
        (2**70, str(2**70)),
        (float("nan"), None),
        ("\ud800", "\\ud800"),
        (Row(1), "Row(a=1)"),
        ({1: 2}, {"1": 2}),
        ({"x": 2**70}, "{'x': 1180591620717411303424}"),
        (Evil(), "<Evil: repr failed with ZeroDivisionError>"),
        ({"a"}, ["a"]),
        (ValueError("x"), "ValueError('x')"),
        ("a\nb\x1b\0", "a\nb\x1b\0"),
    ],
)
def test_no_value_breaks_a_line(logged, value, shown):
    """What can't be encoded is shown by its repr, and the rest of the line stands."""
    (line,) = logged(lambda log: log.info("x", odd=value, fine=1))
    assert line["odd"] == shown
    assert line["fine"] == 1


def test_keys_can_be_odd_too(logged):
    """A key with a lone surrogate, or one that takes a fixed name, costs neither the line nor the fixed keys."""
    (line,) = logged(lambda log: log.info("x", **{"\ud800": 2**70, "level": "mine", "timestamp": 5}))
    assert (line["event"], line["level"], line["level_"], line["timestamp_"]) == ("x", "info", "mine", 5)
    assert line["\\ud800"] == str(2**70)


def test_a_long_line_is_cut(logged):
    """Long values are cut; a line with too many of them keeps its head."""
    one, many = logged(
        lambda log: [
            log.info("one", error="x" * 100_000, attempt=3),
            log.info("many", **{f"k{n}": "y" * 1_000 for n in range(200)}),
        ]
    )
    assert (one["event"], one["attempt"]) == ("one", 3)
    assert 100 < len(one["error"]) < MAX_LINE_BYTES
    assert set(many) == {"event", "level", "timestamp", "too_long"}


def test_an_exception_is_shown_with_its_traceback_and_no_locals(logged):
    """`exception` gives the traceback; values of variables don't get in."""

    def act(log):
        password = "hunter2"
        try:
            int(f"{len(password)}x")
        except ValueError:
            log.exception("x")

    (line,) = logged(act)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: invalid literal" in line["exception"]
    text = logged(act, fmt="console")
    assert "ValueError: invalid literal" in text
    assert "hunter2" not in text


def test_a_bottomless_traceback_is_cut_to_its_end(logged):
    """The end of a traceback says what happened; it is what is kept."""

    def act(log):
        log.error("x", exc_info=ValueError("v" * 20_000 + "the end"))

    (line,) = logged(act)
    assert line["exception"].endswith("vthe end")
    assert len(line["exception"]) < MAX_LINE_BYTES


def test_foreign_records_come_in_from_warning_on(logged):
    """What libraries log is one event with the logger's name; their chatter stays out."""

    def act(_):
        logging.getLogger("aiohttp.access").info("chatter")
        logging.getLogger("asyncio").warning("slow %s", "callback")
        logging.getLogger("x").error("bad arguments %d", "nine")
        logging.getLogger("x").critical("lone \ud800")
        try:
            {}["k"]
        except KeyError:
            logging.getLogger("y").exception("failed")

    slow, bad, lone, failed = logged(act)
    assert slow["event"] == bad["event"] == lone["event"] == failed["event"] == "log.foreign"
    assert (slow["level"], slow["logger"], slow["message"]) == ("warning", "asyncio", "slow callback")
    assert (bad["level"], bad["message"]) == ("error", "bad arguments %d")
    assert (lone["level"], lone["message"]) == ("critical", "lone \\ud800")
    assert "KeyError: 'k'" in failed["exception"]


def test_python_warnings_come_in(logged):
    """A library's deprecation warning is a log line, not text on standard error."""

    def act(_):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit("old", DeprecationWarning, "f.py", 1)

    (line,) = logged(act)
    assert (line["event"], line["logger"]) == ("log.foreign", "py.warnings")
    assert "DeprecationWarning: old" in line["message"]


def test_an_asyncio_bug_report_is_logged(logged):
    """An exception in a callback ends up in the log."""

    async def broken():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    (line,) = logged(lambda _: asyncio.run(broken()))
    assert (line["event"], line["logger"], line["level"]) == ("log.foreign", "asyncio", "error")
    assert "ZeroDivisionError" in line["exception"]


def test_the_console_format_is_readable_and_redacted(logged):
    """On the console: time, level, event, key=value; no colours in a file, no control characters, no secrets."""
    text = logged(
        lambda log: log.warning("endpoint.disabled", endpoint_id="e1", secret="hunter2", error="\x1b[2Jevil"), "console"
    )
    assert "2026-11-18T11:06:40.123Z" in text
    assert "warning" in text
    assert "endpoint.disabled" in text
    assert "endpoint_id=e1" in text
    assert "hunter2" not in text
    assert "error=\\x1b[2Jevil" in text
    assert "\x1b" not in text
    assert text.endswith("\n")


@pytest.mark.parametrize(("fmt", "json"), [("auto", False), ("json", True), ("console", False)])
def test_auto_is_console_on_a_terminal(logged, fmt, json):
    """A terminal gets readable, coloured lines unless JSON is asked for."""
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "wb", 0) as stream, os.fdopen(main, "rb", 0) as screen:
        sink = configure(fmt, "info", stream, FixedClock())
        get_logger().info("hello.there")
        assert sink.stop(10)
        shown = screen.read(4096)
    assert shown.startswith(b"{") is json
    assert (b"\x1b[" in shown) is not json
    assert b"hello.there" in shown


def test_auto_is_json_in_a_file(logged):
    """Anything but a terminal gets JSON."""
    (line,) = logged(lambda log: log.info("x"), fmt="auto")
    assert line["event"] == "x"


def test_dropped_lines_are_told_in_the_log_itself(logged):
    """The count of lost lines is a line of this log, in its form."""

    def act(log):
        log_module._output.sink._lose(4)
        log.info("x")

    told = [line for line in logged(act) if line["event"] != "x"]
    assert told == [{"event": "log.dropped", "level": "warning", "timestamp": "2026-11-18T11:06:40.123Z", "count": 4}]


def test_a_cached_logger_follows_a_new_configuration(logged):
    """A module's logger, used before, writes to where the log goes now."""
    log = get_logger()
    assert [line["event"] for line in logged(lambda _: log.info("first"))] == ["first"]
    assert [line["event"] for line in logged(lambda _: log.info("second"))] == ["second"]


def test_a_test_can_capture_the_log(logged):
    """The capturing that structlog brings works on configured loggers."""

    def act(log):
        log.info("before")
        with structlog.testing.capture_logs() as captured:
            log.info("inside", n=1)
        assert captured == [{"event": "inside", "log_level": "info", "n": 1}]

    assert [line["event"] for line in logged(act)] == ["before"]
