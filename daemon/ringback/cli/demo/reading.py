"""What a verified request says: which event it is, what makes a double of it known, and its data.

Role: for each dialect, what its receiver's program would take from the request.
Rules: only what was received is looked at. Must not know: the daemon, what was emitted.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringback.cli.demo.jobs import digest_of
from ringback.cli.receiver.captured import Captured


@dataclass(frozen=True)
class Reading:
    """``event``: the event's id. ``mark``: what is the same whenever it comes again. ``data``: its fingerprint."""

    event: str
    mark: str
    data: str


#: Of a request that can't be read.
NOTHING = Reading("", "", "none")


def read(dialect: str, captured: Captured) -> Reading:
    """Read one request; ``NOTHING`` if it isn't of that form."""
    try:
        return READERS[dialect](captured.headers, json.loads(captured.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return NOTHING


def _standard(headers: Any, body: Any) -> Reading:
    return Reading(headers["webhook-id"], headers["webhook-id"], digest_of(body["data"]))


def _prosa(headers: Any, body: Any) -> Reading:
    return Reading(body["job_id"], headers["x-prosa-event-uuid"], digest_of(body))


def _deepva(_headers: Any, body: Any) -> Reading:
    return Reading(body["data"]["job_id"], body["id"], digest_of(body["data"]))


def _pulse(_headers: Any, body: Any) -> Reading:
    data = {name: value for name, value in body.items() if name not in ("status", "request_id")}
    return Reading(body["request_id"], body["request_id"], digest_of(data))


def _azure(_headers: Any, body: Any) -> Reading:
    pointer = body["self"]
    return Reading(pointer.rsplit("/", 1)[1], body["invocationId"], digest_of({"self": pointer}))


def _speechlive(_headers: Any, body: Any) -> Reading:
    return Reading(body["id"], body["id"], digest_of(body))


READERS: dict[str, Callable[[Any, Any], Reading]] = {
    "standard": _standard,
    "prosa": _prosa,
    "deepva": _deepva,
    "pulse": _pulse,
    "azure-speech": _azure,
    "speechlive": _speechlive,
}
