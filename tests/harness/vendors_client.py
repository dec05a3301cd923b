"""The process of ``tests.harness.vendors``, and what it tells.

Must not know: what any vendor's request looks like.
"""

import json
import subprocess
import sys
from typing import Any, Self

from tests.harness.receiver_client import ROOT

WAIT_S = 60


class VendorsProcess:
    """The receiver; ``secrets`` by path. A context manager, ended with it."""

    def __init__(self, secrets: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "tests.harness.vendors", json.dumps(secrets or {})]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.origin = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def url(self, path: str) -> str:
        """Where that path is."""
        return self.origin + path

    def next(self) -> dict[str, Any]:
        """The next request."""
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        self._process.stdout.close()
