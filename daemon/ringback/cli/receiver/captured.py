"""A request as a receiver has it, and what was found out about it. Values only."""

from collections.abc import Mapping

import msgspec


class Captured(msgspec.Struct, frozen=True):
    """One received request. ``headers`` have lower-case names; ``body`` is the exact bytes."""

    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"
    url: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``hint``: what probably happened, in words for the receiver's author."""

    part: str
    ok: bool
    said: str
    hint: str | None = None


class Settings(msgspec.Struct, frozen=True):
    """What a check goes by. ``now_s``: Unix seconds; ``tolerance_s``: how old a signature may be."""

    secrets: tuple[str, ...]
    now_s: int
    tolerance_s: int = 300
    options: Mapping[str, str] = {}
