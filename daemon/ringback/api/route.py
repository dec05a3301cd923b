"""What a call is: a row of the table in ``routes``.

Must not know: which calls there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ringback.api.access import Rule
from ringback.api.problems import Handler
from ringback.api.reading import Parse


@dataclass(frozen=True, slots=True)
class Route:
    """One call. ``query``: its parameters. ``takes`` and ``gives``: schemas by name (``schemas``), "" without a body.

    ``also``: other good statuses, with the schema's name. ``stores``: False for one that isn't a GET and either changes
    nothing that is stored or has its own answer to a full disk.
    """

    method: str
    path: str
    handler: Handler
    rule: Rule
    summary: str
    status: int = 200
    gives: str = ""
    takes: str = ""
    query: Mapping[str, Parse] = field(default_factory=dict)
    also: Mapping[int, str] = field(default_factory=dict)
    stores: bool = True

    @property
    def needs_room(self) -> bool:
        """Whether it is refused while nothing can be written."""
        return self.stores and self.method != "GET" and self.rule is not Rule.OPEN
