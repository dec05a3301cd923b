"""The limits on open files and core dumps."""

import subprocess
import sys


def test_a_low_soft_limit_is_raised_to_the_hard_one() -> None:
    """Started from a shell with 64 open files allowed, and 500 possible, the process allows itself 500."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500));"
        "from ringback.kit.limits import allow_open_files; print(allow_open_files())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "500\n"


def test_no_core_is_dumped() -> None:
    """Neither soft nor hard limit leaves room for one, so none can be allowed again."""
    code = (
        "import resource; from ringback.kit.limits import forbid_core_dumps; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0)\n"
