"""Requests that aren't HTTP: answered with a problem as every other refusal, told in one line of ours.

Role: the server's protocol with our words for what never became a request, and the logger that it is given. Left alone
it answers in plain text with the line it stumbled over, and logs that with a trace: it may hold a token or a payload.
Rules: no byte of theirs, neither in the answer nor in the log.
Must not know: what any call does.
"""

import logging

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from ringback.api.problems import problem
from ringback.kit.log import get_logger

#: What answers, in its header ``Server``.
SERVER_NAME = "ringback"

_log = get_logger()


class Protocol(web.RequestHandler):
    """The server's protocol, whose last words are a problem document; the connection is closed after them."""

    _latest: StreamReader = EMPTY_PAYLOAD  # the body of the latest request, the only one that can lack its end

    def data_received(self, data: bytes) -> None:
        """Parse. A body that breaks off midway tells whoever reads it, who would wait for its end else.

        The server itself only queues an error behind that request. Whether somebody reads the body or not, the server
        looks for its end after the answer, meets the same exception there, logs it and closes.
        """
        super().data_received(data)
        if not self._messages:
            return
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._latest = body
        elif not self._latest.is_eof():
            self._latest.set_exception(TransferEncodingError("a broken chunk"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is answered when no handler could. Raises ConnectionError if an answer was begun already."""
        super().handle_error(request, status, exc, message)
        if status == 500:
            told = problem("internal_error", "internal error; the log has it")
        elif isinstance(exc, LineTooLong):
            told = problem("invalid_request", "the request's first line or a header is too long", status=status)
        else:
            told = problem("invalid_request", "this is not a request that HTTP/1.1 knows", status=status)
        told.headers["Server"] = SERVER_NAME
        told.force_close()
        return told


class _Malformed(logging.Filter):
    """Takes the records about malformed requests out and says what is worth knowing of them."""

    def filter(self, record: logging.LogRecord) -> bool:
        failure = record.exc_info[1] if record.exc_info else None
        if not isinstance(failure, HttpProcessingError):
            return True
        _log.info("api.malformed", error=type(failure).__name__)
        return False


def server_logger() -> logging.Logger:
    """The logger for a server of ours."""
    logger = logging.getLogger("ringback.api.server")
    if not any(isinstance(known, _Malformed) for known in logger.filters):
        logger.addFilter(_Malformed())
    return logger
