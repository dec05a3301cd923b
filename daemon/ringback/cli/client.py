"""Talks to a daemon over its two Unix sockets, with the standard library alone: a command must start quickly.

Rules: a failure is one of four exceptions, each with its exit code; problems keep the API's own words.
Must not know: how anything is printed.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import click

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 67_108_864
DOWNLOAD_CHUNK_BYTES = 1_048_576
SYSTEM_SOCKET = "/run/ringback/{name}.sock"


class CommandError(click.ClickException):
    """A command that didn't do its work: one plain sentence, and ``exit_code`` as CONTRACT has it."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the sentence on stderr; on a terminal folded between its words."""
        from ringback.cli.words import fold  # noqa: PLC0415 - most commands end well

        columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
        click.echo(fold("ringback: ", self.format_message(), columns), file=file, err=True)


class Unreachable(CommandError):  # noqa: N818 - a state of affairs, named as such
    """No daemon answers on the socket."""

    exit_code = 3


class NotFound(CommandError):  # noqa: N818 - a state of affairs, named as such
    """The daemon knows nothing of that name or id."""

    exit_code = 4


@contextlib.contextmanager
def of_tenant(tenant: str | None) -> Iterator[None]:
    """Where nothing is found and no tenant was named: say how one is."""
    try:
        yield
    except NotFound as unknown:
        if tenant is not None:
            raise
        raise NotFound(f"{unknown.message}; --tenant NAME looks at another's") from None


class Refused(CommandError):  # noqa: N818 - a state of affairs, named as such
    """The daemon understood and said no."""

    exit_code = 5


def connect(path: str) -> socket.socket:
    """A connection to a daemon's socket. Raises Unreachable with what an operator can do."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_TIMEOUT_S)
    try:
        sock.connect(path)
    except OSError as failed:
        sock.close()
        raise Unreachable(f"no daemon answers on {path} ({failed.strerror or failed}): {_way_out(failed)}") from None
    sock.settimeout(ANSWER_TIMEOUT_S)
    return sock


def _way_out(failed: OSError) -> str:
    if isinstance(failed, PermissionError):
        return "may you use it? The control socket is its owner's alone (try sudo), the events socket its group's"
    return "is it running? One with a configuration of its own is found by $RINGBACK_CONFIG or --config"


def beside(control: str, name: str) -> str:
    """The path of another socket in the folder of this one."""
    return os.path.join(os.path.dirname(control), f"{name}.sock")  # noqa: PTH118, PTH120 - pathlib costs start-up time


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, answer_timeout_s: float) -> None:
        super().__init__("localhost", timeout=answer_timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path)
        self.sock.settimeout(self.timeout)


class Api:
    """The management API on a control socket."""

    def __init__(self, path: str, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._path = path
        self._answer_timeout_s = answer_timeout_s

    def get(self, path: str, params: Mapping[str, object] | None = None) -> Any:
        """GET; parameters that are None are left out. Returns the JSON answered."""
        given = {name: _param(value) for name, value in (params or {}).items() if value is not None}
        return self._call("GET", path + (f"?{urlencode(given)}" if given else ""))

    def post(self, path: str, body: object = None) -> Any:
        """POST. Returns the JSON answered."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        """PATCH, a merge patch. Returns the JSON answered."""
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """DELETE. Returns None, or the JSON answered."""
        return self._call("DELETE", path)

    def download(self, path: str, file: str | os.PathLike[str]) -> None:
        """POST, and write the bytes answered into a new file of the caller's own; what broke off is left there.

        Raises OSError too, if the file can't be written.
        """
        connection = _UnixConnection(self._path, self._answer_timeout_s)
        try:
            connection.request("POST", path)
            response = connection.getresponse()
            if response.status >= 400:
                _answered(response.status, response.read(MAX_ANSWER_BYTES))
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                missing = response.length or 0
                while chunk := response.read(DOWNLOAD_CHUNK_BYTES):
                    target.write(chunk)
                    missing -= len(chunk)
        except (ConnectionError, TimeoutError, http.client.HTTPException) as failed:
            raise Unreachable(f"the daemon on {self._path} broke off: {str(failed) or type(failed).__name__}") from None
        finally:
            connection.close()
        if missing:
            raise Unreachable(f"the daemon on {self._path} broke off: {missing} bytes are missing")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = _UnixConnection(self._path, self._answer_timeout_s)
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as failed:
            raise Unreachable(f"the daemon on {self._path} broke off: {str(failed) or type(failed).__name__}") from None
        finally:
            connection.close()
        return _answered(response.status, raw)


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def _param(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _answered(status: int, raw: bytes) -> Any:
    try:
        told = json.loads(raw) if raw else None
    except ValueError:
        raise CommandError(f"the daemon answered {status} with something that is no JSON") from None
    if status < 400:
        return told
    message = _words(told, status)
    if status == 404:
        raise NotFound(message)
    if status < 500 or status in (501, 507):
        raise Refused(message)
    raise CommandError(message)


def _words(told: object, status: int) -> str:
    """A problem document as one line."""
    if not isinstance(told, dict):
        return f"the daemon answered {status}"
    errors = [
        f"{place}: {error['msg']}" if (place := _place(error["loc"])) else str(error["msg"])
        for error in told.get("errors", [])
    ]
    return "; ".join(errors) or str(told.get("detail") or told.get("title") or status)


def _place(loc: list[str | int]) -> str:
    """Where it is wrong, as who typed a command knows it: an option became a parameter without his doing."""
    return ".".join(map(str, loc[1:] if loc[:1] == ["query"] else loc))
