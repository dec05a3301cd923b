"""What a type is called: the names that mean the same, and a type in a dialect's own words.

Role: ``stt.jobs.completed`` is ``TranscriptionCompletion`` to one receiver and ``deepva.transcript.on_created`` to
another. A dialect brings its words for the common names, the configuration its aliases; ``Names`` answers for both.
Rules: a common name is the table's key; a word two common names share means the first of them when an event comes under
it, and either when a filter asks for it. The daemon's own types have words but no aliases. A Names never changes.
Must not know: which dialects there are, what they do with a name, endpoints.
"""

import re
from collections.abc import Mapping

from ringback.core.model import OWN_TYPE_PREFIX

#: What ping and test send; every dialect can say it.
TEST_TYPE = OWN_TYPE_PREFIX + "test"

MAX_ALIASES = 256
MAX_TYPE_CHARS = 255
_TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class Names:
    """The table.

    ``words``: for each dialect, common name to its own word, in the order of precedence. ``aliases``: another name to a
    name of the table.
    """

    def __init__(self, words: Mapping[str, Mapping[str, str]], aliases: Mapping[str, str]) -> None:
        self._words = {dialect: dict(own) for dialect, own in words.items() if own}
        self._common: dict[str, str] = {}
        self._names: dict[str, dict[str, None]] = {}
        for own in self._words.values():
            for common in own:
                self._call(common, common)
        for own in self._words.values():
            for common, word in own.items():
                self._call(common, word)
        for alias, name in aliases.items():
            self._call(self.common(name), alias)

    def _call(self, common: str, name: str) -> None:
        if common.startswith(OWN_TYPE_PREFIX):
            return
        self._common.setdefault(name, common)
        self._names.setdefault(common, {})[name] = None

    def common(self, name: str) -> str:
        """The name all dialects' words hang on; the name itself if the table doesn't know it."""
        return self._common.get(name, name)

    def own(self, dialect: str, type_: str) -> str:
        """The type in that dialect's words; as it is if the dialect has none for it."""
        words = self._words.get(dialect)
        return type_ if words is None else words.get(self._common.get(type_, type_), type_)

    def also(self, type_: str) -> tuple[str, ...]:
        """Every other name of the type, for filters that ask for it under that name."""
        return tuple(name for name in self._names.get(self.common(type_), ()) if name != type_)

    def table(self) -> dict[str, tuple[str, ...]]:
        """Every common name with its other names."""
        return {common: self.also(common) for common in self._names}


def check_aliases(aliases: Mapping[str, str], known: Names) -> list[str]:
    """Every problem of configured aliases, in words; ``known`` is the table without them."""
    problems = [f"at most {MAX_ALIASES} aliases, not {len(aliases)}"] if len(aliases) > MAX_ALIASES else []
    for alias, name in list(aliases.items())[:MAX_ALIASES]:
        if not _is_type(alias) or not _is_type(name):
            problems.append(f"{alias[:MAX_TYPE_CHARS]!r}: both must be event types: A-Z a-z 0-9 _ - joined by dots")
        elif alias.startswith(OWN_TYPE_PREFIX) or name.startswith(OWN_TYPE_PREFIX):
            problems.append(f"{alias!r}: types under {OWN_TYPE_PREFIX} are the daemon's own")
        elif known.also(alias):
            problems.append(f"{alias!r} is a name for {known.common(alias)!r} already")
        elif name in aliases:
            problems.append(f"{alias!r} must name a type, not {name!r}, which is an alias itself")
    return problems


def _is_type(text: str) -> bool:
    return len(text) <= MAX_TYPE_CHARS and _TYPE.fullmatch(text) is not None
