"""What a producer can be told instead of an acknowledgement.

Rules: ``Rejected`` is final: the same event will be refused again. ``Unavailable`` says nothing about the event: it may
or may not be stored, and sending it again under the same id is always right.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ProducerError(Exception):
    """Any of the two below."""


class Rejected(ProducerError):  # noqa: N818 - CONTRACT's name
    """The daemon refused the event for good. ``code`` is one of docs/protocol.md, ``field`` the member at fault."""

    def __init__(self, code: str, message: str, field: str | None = None, id: str | None = None) -> None:  # noqa: A002 - the event's member
        super().__init__(code, message, field, id)
        self.code = code
        self.message = message
        self.field = field
        self.id = id

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Unavailable(ProducerError):  # noqa: N818 - named for what it says
    """The daemon couldn't be reached, or couldn't store it, within the time allowed.

    ``unanswered``: the events nobody knows of, as mappings with their ids filled in: give them to ``send_many`` later.
    ``outcomes``: of ``send_many``, what was answered, in the events' order; None where nothing was.
    ``code``: the daemon's last word, e.g. ``storage_full``; None if it said nothing.
    """

    def __init__(
        self,
        message: str,
        unanswered: Sequence[Mapping[str, Any]] = (),
        outcomes: Sequence[Any] = (),
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.unanswered = tuple(unanswered)
        self.outcomes = tuple(outcomes)
        self.code = code

    def __str__(self) -> str:
        return self.message
