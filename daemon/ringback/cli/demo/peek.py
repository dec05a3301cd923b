"""Looks over the demo's files as a thief would: which of these words can be read in them?

Must not know: what the words are, whose the files are.
"""

from collections.abc import Iterable
from pathlib import Path


def readable(folder: Path, words: Iterable[str]) -> set[str]:
    """Those of the words whose UTF-8 bytes stand in a file below ``folder``."""
    left, found = {word for word in words if word}, set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and left:
            raw = path.read_bytes()
            found |= {word for word in left if word.encode() in raw}
            left -= found
    return found
