"""Whether a file that holds a secret lies open to everybody.

Role: looks at the rights of the file and of the folders on the way to it.
Rules: others' rights alone count: the group may be the daemon's own. What can't be looked at is not called open.
Must not know: what the secret is for.
"""

import stat
from pathlib import Path

#: What is said of such a file to who looks after it, with what to do.
OPEN_TO_ALL = "everybody on this machine may read this secret: chmod o-rwx"


def open_to_all(path: Path) -> bool:
    """Whether any account of this machine can read the file."""
    try:
        real = path.resolve()
        folders = (folder.stat().st_mode for folder in real.parents)
        return bool(real.stat().st_mode & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in folders)
    except (OSError, RuntimeError):  # gone meanwhile, or links without end
        return False
