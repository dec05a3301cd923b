"""The limit on open files."""

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
