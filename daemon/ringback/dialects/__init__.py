"""Floor 2: one file a webhook format; each ends in one ``DIALECT`` value of pure functions. Discovery lives here too.

Rules: a new format joins by its file being here, nothing else changes; a file beginning with ``_`` is no format.
Must not know: which formats there are.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from ringback.core.names import Names
from ringback.dialects._base import Dialect, Shot

__all__ = ["Dialect", "Shot", "get", "names", "vocabulary"]


def _discover() -> dict[str, Dialect]:
    """Every format in this folder by its name. A file without its ``DIALECT``, or a name taken twice, is a bug."""
    found: dict[str, Dialect] = {}
    for module in iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        dialect = import_module(f"{__name__}.{module.name}").DIALECT
        if not isinstance(dialect, Dialect) or dialect.name in found:
            raise TypeError(f"dialects/{module.name}.py must end in one DIALECT with a name of its own")
        found[dialect.name] = dialect
    return dict(sorted(found.items()))


_DIALECTS = _discover()


def get(name: str) -> Dialect | None:
    """The format of that name, or None."""
    return _DIALECTS.get(name)


def names() -> tuple[str, ...]:
    """The names of all formats, in alphabetical order."""
    return tuple(_DIALECTS)


def vocabulary(aliases: Mapping[str, str]) -> Names:
    """The table of type names: every format's words and aliases, and those given (of the configuration)."""
    words = {name: dialect.words for name, dialect in _DIALECTS.items()}
    known = {alias: name for dialect in _DIALECTS.values() for alias, name in dialect.aliases.items()}
    return Names(words, {**known, **aliases})
