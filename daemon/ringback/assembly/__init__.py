"""Floor 7, the composition root: makes every part and says who knows whom.

Must not know: formats, SQL, HTTP, signals.
"""

from ringback.assembly.root import Parts, assemble

__all__ = ["Parts", "assemble"]
