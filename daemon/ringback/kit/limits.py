"""What the kernel lets this process have.

Role: raises soft limits to the hard ones. A shell's soft limit of 1,024 open files is less than the sockets that the
default settings allow, and a request that gets no file counts against an endpoint that did nothing wrong.
Must not know: what the files are for.
"""

import contextlib
import resource


def allow_open_files() -> int:
    """Allow as many open files as the hard limit does; returns how many that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # forbidden where it is, the daemon runs with what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
