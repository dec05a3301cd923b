"""The database's budget: when the oldest finished events go before their time, and when events are refused.

Role: a pure judgement of one look at the bytes in use. An *episode* begins when they pass the budget and ends when
pruning has brought them down to ``PRUNE_TO`` of it, so that the work is done in pieces worth doing.
Rules: what is owed never goes. Events are refused only when pruning can't help: nothing finished is left, or the
database has grown by ``OUTPACED`` of the budget since the episode began, although what is finished goes as fast as it
can. They are taken again only at ``TAKE_AGAIN``, else every delivery made would let in one event and refuse the next.
Must not know: how bytes are counted, what is deleted, who is refused.
"""

import msgspec

PRUNE_TO = 0.9
TAKE_AGAIN = 0.95
OUTPACED = 0.1
MIB = 1024 * 1024


class Episode(msgspec.Struct, frozen=True):
    """Over the budget. ``ceiling_bytes``: growing beyond it means that pruning is outpaced.

    ``exhausted``: all that is left was looked through and nothing of it is finished. ``refusing``: the words events are
    refused with; None while they are taken.
    """

    ceiling_bytes: int
    exhausted: bool = False
    refusing: str | None = None


def look(episode: Episode | None, used_bytes: int, max_bytes: int) -> Episode | None:
    """Judge one look: the episode that goes on or begins, None if there is nothing to do. ``max_bytes`` 0 is none."""
    if episode is None:
        over = 0 < max_bytes < used_bytes
        return Episode(used_bytes + int(max_bytes * OUTPACED)) if over else None
    if not max_bytes or used_bytes <= max_bytes * PRUNE_TO:
        return None
    return msgspec.structs.replace(episode, refusing=_refusal(episode, used_bytes, max_bytes))


def _refusal(episode: Episode, used_bytes: int, max_bytes: int) -> str | None:
    budget = f"the database's budget of {max_bytes // MIB} MiB (retention.max_database_bytes) is used up"
    if episode.refusing is not None and used_bytes <= max_bytes * TAKE_AGAIN:
        return None
    if episode.exhausted and (used_bytes > max_bytes or episode.refusing is not None):
        return f"{budget} by what is owed: deliveries go on, and make room"
    if episode.refusing is None and used_bytes > episode.ceiling_bytes:
        return f"{budget}: events come faster than old ones can be removed"
    return episode.refusing
