"""An error of the operating system in words, with the way out.

Role: what a path or an address that can't be had is told with.
Must not know: what it was wanted for, or which setting names it.
"""

import errno
import os

_HINTS = {
    errno.ENOENT: "nothing can be made there: name another",
    errno.EEXIST: "a file stands where a folder is needed: move it away, or name another",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away, or name another",
    errno.EROFS: "it is mounted read-only, or the unit's sandbox makes it so: name another, or let the unit write",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the quota",
}
_RIGHTS = frozenset({errno.EACCES, errno.EPERM})


def in_words(error: OSError) -> str:
    """The system's own words; where there is something to do about it, that in brackets."""
    said = error.strerror or str(error)
    hint = _HINTS.get(error.errno or 0)
    if error.errno in _RIGHTS:
        hint = f"the daemon's account, uid {os.geteuid()}, may not: give it the right, or name another"
    return f"{said} ({hint})" if hint else said
