"""Places for what runs a few at a time: how many one host may hold, how many one tenant.

Role: so that who hangs holds up others as little as can be: a receiver that never answers takes a handful of
places, its tenant a part of them, and the rest stay free for others.
Rules: who finds its host or its tenant full is set aside, in order, and named again by ``ready`` once there is room.
Must not know: what takes a place, and how long.
"""

from collections import Counter

#: Places one host may hold for one tenant, and one tenant in all.
MAX_PER_HOST = 4
MAX_PER_TENANT = 16

#: (tenant, host).
Place = tuple[str, str]


class Places:
    """Who holds places, and who was set aside. Bounded by what ``take`` is asked for."""

    def __init__(self) -> None:
        self._taken: Counter[Place] = Counter()
        self._aside: dict[Place, dict[int, None]] = {}
        self._where: dict[int, Place] = {}

    def take(self, lane: int, place: Place) -> bool:
        """Take one for a lane, and give it back by ``leave``; False: the lane is set aside until ``ready`` names it."""
        self.forget(lane)
        full = next((key for key in _keys(place) if self._room(key) <= 0), None)
        if full is not None:
            self._aside.setdefault(full, {})[lane] = None
            self._where[lane] = full
            return False
        self._taken.update(_keys(place))
        return True

    def leave(self, place: Place) -> None:
        """Give one back."""
        self._taken.subtract(_keys(place))
        for key in _keys(place):
            if not self._taken[key]:
                del self._taken[key]

    def forget(self, lane: int) -> None:
        """A lane that was set aside wants none any more, or asks anew."""
        key = self._where.pop(lane, None)
        if key is not None:
            del self._aside[key][lane]
            if not self._aside[key]:
                del self._aside[key]

    def ready(self, most: int) -> list[int]:
        """Lanes that were set aside and may ask again, as many as have room, at most ``most``; the longest first."""
        found: list[int] = []
        for key, lanes in list(self._aside.items()):
            named = list(lanes)[: max(0, min(self._room(key), most - len(found)))]
            for lane in named:
                self.forget(lane)
            found += named
        return found

    def _room(self, key: Place) -> int:
        return (MAX_PER_HOST if key[1] else MAX_PER_TENANT) - self._taken[key]


def _keys(place: Place) -> tuple[Place, Place]:
    """What one place counts against: the host, and the tenant, which is written with no host."""
    return place, (place[0], "")
