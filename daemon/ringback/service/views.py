"""What a delivery and its attempts look like to people: statuses derived, requests rebuilt, secrets masked.

Role: pure functions over what the store gives back.
Rules: the table knows pending and the final states only; what is owed is ``held`` if its endpoint says so (SEMANTICS,
Deliveries). A request is rebuilt from event, endpoint revision and encoder; if its digest isn't the one that was sent,
it says so. Signatures and secret headers are never shown.
Must not know: HTTP, SQL.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ringback.core.endpoint_state import delivers
from ringback.core.headers import is_secret_header
from ringback.core.masks import MASKED, mask_query
from ringback.core.model import AttemptInfo, Endpoint
from ringback.dialects import Dialect, Shot
from ringback.service.rendering import digest_of, render

PENDING, IN_FLIGHT, HELD, CANCELLED = "pending", "in_flight", "held", "cancelled"
STATUSES = (PENDING, IN_FLIGHT, HELD, "succeeded", "dead", "expired", CANCELLED)

_decode_info = msgspec.msgpack.Decoder(AttemptInfo).decode


def status_of_owed(endpoint: Endpoint | None) -> str:
    """Of what is owed and not in flight; ``endpoint`` None: it was deleted, so that is as good as cancelled."""
    if endpoint is None:
        return CANCELLED
    return PENDING if delivers(endpoint.status) else HELD


def read_info(info: bytes) -> AttemptInfo | None:
    """An attempt's details; None if it has none (nothing was sent, or retention took them)."""
    return _decode_info(info) if info else None


def request_shown(
    dialect: Dialect, endpoint: Endpoint, shot: Shot, info: AttemptInfo, divert_to: str, encoded: dict[str, bytes]
) -> dict[str, Any] | None:
    """The request of an attempt, rebuilt; ``endpoint`` is the revision it was made with.

    ``encoded`` is the memo of this event's bodies, one for all its attempts.

    ``rebuilt`` is False if the body can't be shown to be the one that was sent: another encoder version made it, or its
    digest differs. None if the dialect can't encode the event: then nothing was sent either.
    """
    try:
        made = render(dialect, endpoint, shot, info.signed_at_ms, divert_to, encoded)
        body = dialect.mask(made.encoded, shot)
        url = dialect.target_url(divert_to or endpoint.url, shot, body)
    except Exception:  # noqa: BLE001 - the attempt met the same bug and logged it; showing must not fail over it
        return None
    return {
        "method": made.method,
        "url": mask_query(url),
        "headers": masked(made.headers, dialect.secret_headers),
        "body": body.decode(errors="backslashreplace") if made.body else "",
        "rebuilt": info.encoder == dialect.encoder and digest_of(made.encoded) == info.digest,
    }


def response_shown(
    status: int | None, info: AttemptInfo | None, full_body: bytes | None, max_body: int
) -> dict[str, Any] | None:
    """What the receiver answered; None if it didn't. ``truncated``: there was, or may have been, more than is shown.

    ``full_body``: the body as far as it was read, if that is still held; reading ends at ``max_body`` bytes.
    """
    if status is None:
        return None
    if info is None:
        return {"status": status, "headers": {}, "body": "", "truncated": True}
    body = info.body if full_body is None else full_body
    return {
        "status": status,
        "headers": masked(info.headers, frozenset()),
        "body": body.decode(errors="backslashreplace"),
        "truncated": info.truncated if full_body is None else len(full_body) >= max_body,
    }


def masked(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, str]:
    """Headers as an object, secret values hidden; a name that came twice has its values joined."""
    shown: dict[str, str] = {}
    for name, value in headers:
        hidden = MASKED if is_secret_header(name) or name.lower() in secret else value
        shown[name] = f"{shown[name]}, {hidden}" if name in shown else hidden
    return shown
