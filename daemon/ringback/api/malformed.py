"""Requests that aren't HTTP: told in one line of ours, without a byte of theirs.

Role: the logger that the server is given. Left alone it logs such a request as an error, with a trace and with the line
it stumbled over, which may hold a token or a payload.
Must not know: what any call does.
"""

import logging

from aiohttp.http_exceptions import HttpProcessingError

from ringback.kit.log import get_logger

_log = get_logger()


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
