"""The log: one JSON object a line (or readable lines on a terminal), redacted, and never in the loop's way.

Role: sets structlog up for the process and routes the standard library's records in.
Rules: an event is a constant dotted name with key-values; secrets, signatures, payloads and URLs' queries don't get in;
what can't be encoded is shown by its repr, never an exception; a line is made at once, cheaply, and handed to the
sink's thread.
Must not know: what the events mean.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from ringback.kit.clock import Clock
from ringback.kit.log_sink import LogSink
from ringback.kit.redact import Kind, kind_of, redact_line, redact_url, redact_value

__all__ = ["Format", "LogSink", "configure", "get_logger", "redact_url"]

Format = Literal["json", "console", "auto"]

#: A longer line has its values cut to MAX_CUT_CHARS each, and if that doesn't do, has none.
MAX_LINE_BYTES = 16_384
MAX_CUT_CHARS = 512

#: What is kept of a traceback: its end, which says what happened.
MAX_TRACEBACK_CHARS = 8_000

_SIMPLE = frozenset({str, int, float, bool, type(None)})

_Render = Callable[[dict[str, Any]], bytes]


class HasFileno(Protocol):
    """A file as far as the log needs one."""

    def fileno(self) -> int:
        """The descriptor that is written to."""
        ...


def get_logger() -> FilteringBoundLogger:
    """Return a logger for a module to hold: ``log.info("delivery.succeeded", endpoint_id=…)``."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def configure(fmt: Format, level: str, stream: HasFileno, clock: Clock) -> LogSink:
    """Send the process's log to ``stream`` from here on; call ``stop`` on what is returned at the very end.

    ``auto`` is console on a terminal, else json. ``level`` is debug, info, warning, error or critical; records of the
    standard ``logging`` come in as ``log.foreign``, from warning on. The stream stays the caller's and open.

    Raises:
        ValueError: no such level.
    """
    number = _number(level)
    fd = stream.fileno()
    terminal = os.isatty(fd)
    console = fmt == "console" or (fmt == "auto" and terminal)
    _output.open(fd, _console(terminal) if console else _encode, clock)
    _filter(number)
    structlog.configure(
        processors=_processors,
        wrapper_class=_Lean,
        logger_factory=lambda: _output,
        cache_logger_on_first_use=True,
    )
    _route_foreign()
    return _output.sink


def set_level(level: str) -> None:
    """Let lines of this level and above through from here on, loggers in use included.

    Raises:
        ValueError: no such level.
    """
    _filter(_number(level))


def _number(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is none of debug, info, warning, error, critical")
    return number


def lines_dropped() -> int:
    """Lines lost since the start because the reader was too slow; 0 before ``configure``."""
    return _output.sink.dropped if hasattr(_output, "sink") else 0


class _Output:
    """The one end of every logger, which outlives reconfiguration because loggers are cached for good."""

    sink: LogSink

    def __init__(self) -> None:
        self._second = (0, "")

    def open(self, fd: int, render: _Render, clock: Clock) -> None:
        self._render = render
        self._clock = clock
        self.sink = LogSink(fd, lambda count: self._line("warning", "log.dropped", {"count": count}))

    def process(self, logger: WrappedLogger, level: str, values: EventDict) -> bytes:
        del logger
        return self._line(level, values.pop("event", ""), values)

    def put(self, line: bytes) -> None:
        self.sink.put(line)

    debug = info = warning = error = critical = put

    def write(self, level: str, event: str, values: EventDict) -> None:
        self.sink.put(self._line(level, event, values))

    def _line(self, level: str, event: str, values: EventDict) -> bytes:
        if "exc_info" in values:
            _format_exception(values)
        if "level" in values or "timestamp" in values:
            values = {key + "_" if key in ("level", "timestamp") else key: value for key, value in values.items()}
        shown = {"event": event, "level": level, "timestamp": self._timestamp(), **values}
        for key, value in values.items():
            kind = kind_of(key)
            if kind is not Kind.PLAIN or type(value) not in _SIMPLE:
                shown[key] = redact_value(kind, value)
        line = redact_line(self._render(shown))
        return line if len(line) <= MAX_LINE_BYTES else redact_line(_shorten(self._render, shown))

    def _timestamp(self) -> str:
        second, ms = divmod(self._clock.now_ms(), 1000)
        known, text = self._second
        if known != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = (second, text)  # one assignment: several threads log
        return f"{text}{ms:03d}Z"


_output = _Output()
_process = _output.process
_processors = [_process]

#: The long way of every level.
_FULL: type[Any] = structlog.make_filtering_bound_logger(logging.DEBUG)


class _Lean(_FULL):  # type: ignore[misc]  # made at run time, so mypy can't see it
    """The filtering logger with a short way to the output, which saves a quarter of what a line costs.

    One class for the process, whose methods are exchanged when the level changes: loggers are cached for good.
    """


def _filter(number: int) -> None:
    """Give the class the methods of this level."""
    names = logging.getLevelNamesMapping()
    for level in ("debug", "info", "warning", "error", "critical"):
        heard = names[level.upper()] >= number
        setattr(_Lean, level, _lean_method(_FULL, level) if heard else _unheard)


def _unheard(*_: object, **__: object) -> None:
    """A line below the level."""


def _lean_method(base: type[Any], level: str) -> Callable[..., None]:
    long_way = getattr(base, level)

    def log(self: Any, event: str, *args: Any, **values: Any) -> None:
        if args or self._processors[0] is not _process:  # to be formatted, or somebody captures the log, as tests do
            long_way(self, event, *args, **values)
        else:
            _output.write(level, event, {**self._context, **values} if self._context else values)

    return log


def _encode(values: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(values, default=_repr, option=orjson.OPT_APPEND_NEWLINE)
    except (orjson.JSONEncodeError, RecursionError):
        encodable = {_valid(key): _encodable(value) for key, value in values.items()}
        return orjson.dumps(encodable, option=orjson.OPT_APPEND_NEWLINE)


def _encodable(value: object) -> object:
    try:
        orjson.dumps(value)
    except (orjson.JSONEncodeError, RecursionError):
        return _valid(value) if isinstance(value, str) else _repr(value)
    return value


def _repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a value that can't be shown must not cost the line
        text = f"<{type(value).__name__}: repr failed with {type(error).__name__}>"
    return _valid(_cut(text))


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CUT_CHARS else text[:MAX_CUT_CHARS] + "…"


def _shorten(render: _Render, values: dict[str, Any]) -> bytes:
    """The line with its values cut; without them when even that is too long."""
    cut = {key: value if type(value) in _SIMPLE - {str} else _cut(str(value)) for key, value in values.items()}
    line = render(cut)
    if len(line) <= MAX_LINE_BYTES:
        return line
    head = {key: cut[key] for key in ("event", "level", "timestamp")}
    return render({**head, "too_long": len(line)})


def _format_exception(values: EventDict) -> None:
    structlog.processors.format_exc_info(None, "", values)
    text = values.get("exception")
    if isinstance(text, str) and len(text) > MAX_TRACEBACK_CHARS:
        values["exception"] = "…" + text[-MAX_TRACEBACK_CHARS:]


def _console(colours: bool) -> _Render:  # noqa: FBT001 - one flag, one meaning
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)

    def render(values: dict[str, Any]) -> bytes:
        shown = {key: _printable(value) for key, value in values.items()}
        return (str(renderer(None, "", shown)) + "\n").encode("utf-8", "backslashreplace")

    return render


def _printable(value: object) -> object:
    """Text that can't steer a terminal: a control character is shown escaped; lines of a traceback stay lines."""
    if not isinstance(value, str):
        return value if type(value) in _SIMPLE else _repr(value)
    return value if value.isprintable() else "".join(map(_escaped, value))


def _escaped(char: str) -> str:
    return char if char.isprintable() or char == "\n" else repr(char)[1:-1]


class _Foreign(logging.Handler):
    """Brings the standard library's records into this log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that don't fit their format are somebody else's bug
            message = str(record.msg)
        values: dict[str, Any] = {"logger": record.name, "message": _valid(message)}
        if record.exc_info:
            values["exc_info"] = record.exc_info
        _output.write(_level_name(record.levelno), "log.foreign", values)


def _level_name(number: int) -> str:
    if number >= logging.CRITICAL:
        return "critical"
    return "error" if number >= logging.ERROR else "warning"


def _route_foreign() -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_Foreign(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
