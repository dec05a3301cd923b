"""Runs a command that dies with its parent, even when the parent is killed without a chance to clean up.

Role: ``python -m ringback.cli.demo.leash PARENT_PID COMMAND…`` asks Linux for SIGKILL at the parent's death and becomes
the command. Elsewhere than on Linux it only becomes the command.
Must not know: what the command is.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Take the leash, then exec."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the leash was on
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - becoming the command is what this is for


if __name__ == "__main__":
    main()
