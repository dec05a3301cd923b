"""What the kernel lets this process have.

Role: raises soft limits to the hard ones (a shell's soft limit of 1,024 open files is less than the sockets that the
default settings allow), forbids core dumps, and tells when there is nothing left.
Must not know: what the files are for.
"""

import contextlib
import errno
import os
import resource

#: What the kernel answers when it is this process, or this machine, that has nothing left for one more socket or file.
#: Of a socket: not of a connection, whose peer may cause the like.
OUR_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def lacking() -> str | None:
    """Whether one more file can be opened now: None if it can, else what is lacking, in words.

    For failures that don't say so themselves: a library that couldn't open a file or socket calls it something else.
    """
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno in OUR_LACK else None
    return None


def allow_open_files() -> int:
    """Allow as many open files as the hard limit does; returns how many that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # forbidden where it is, the daemon runs with what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def forbid_core_dumps() -> None:
    """Leave no image of the memory on any disk: it holds secrets, keys and payloads. No way back for this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
