"""ringback under a real systemd, in namespaces: installed by ``make install``, its units, its journal.

Nothing here touches the machine's own systemd. See ``ns-systemd`` beside this file.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.receiver_client import ROOT
from tests.harness.waiting import wait_until

TOOL = Path(__file__).with_name("ns-systemd")
PYTHON = "/usr/bin/python3"
PREFIX = "/opt/ringback"
#: Where the tests' own scripts lie inside.
SCRIPTS = "/srv/harness"
CREDENTIALS = "/srv/credentials"
#: In the namespace alone: the clouds' metadata service, and a public-looking address beside it.
ADDRESSES = ("169.254.169.254/32", "203.0.113.7/32")
TIME_LIMIT_S = 600
TOOLS = ("unshare", "nsenter", "systemctl", "systemd-sysusers", "ip", "pgrep", "make", PYTHON)
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROBE = 'mount --make-rprivate / && mount -t cgroup2 none "$1" && mount -t tmpfs none "$1"'


def missing_tools() -> list[str]:
    """What has to be installed first."""
    return [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None] + (
        [] if Path("/lib/systemd/systemd").exists() else ["systemd"]
    )


def probe(folder: Path) -> str:
    """Why namespaces can't be had here; empty if they can."""
    command = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup"]
    done = subprocess.run(
        [*command, "sh", "-c", PROBE, "-", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr.strip() if done.returncode else ""


def run(command: Sequence[str], **kwargs: Any) -> str:
    """Run something that must succeed; its output."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
        env=os.environ | {"PATH": PATH},
        **kwargs,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


class Machine:
    """One boot. ``etc`` is /etc/ringback inside, to be written from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = folder / "stage"
        self.units = folder / "units"
        self.etc = self.stage / "etc" / "ringback"
        self.credentials = folder / "credentials"

    def install(self) -> None:
        """``make install`` into the stage."""
        self.make("install", self.stage)
        shutil.copytree(self.stage / PREFIX.lstrip("/") / "lib/systemd/system", self.units)
        self.credentials.mkdir()

    def make(self, target: str, stage: Path) -> None:
        """``make install`` or ``make uninstall``, as somebody whose files nobody else may read."""
        variables = [f"DESTDIR={stage}", f"PREFIX={PREFIX}", f"PYTHON={PYTHON}"]
        run(["sh", "-c", 'umask 077; exec make "$@"', "-", target, *variables], cwd=ROOT)

    def boot(self) -> None:
        """Start systemd, make the account and the spool as an installation would."""
        binds = [
            f"{self.stage}{PREFIX}:{PREFIX}",
            f"{self.etc}:/etc/ringback",
            f"{Path(__file__).parent}:{SCRIPTS}",
            f"{self.credentials}:{CREDENTIALS}",
        ]
        run([str(TOOL), "start", str(self.folder / "run"), str(self.units), *binds])
        for address in ADDRESSES:
            self.exec("ip", "addr", "add", address, "dev", "lo")
        self.exec("systemd-sysusers", f"{PREFIX}/lib/sysusers.d/ringback.conf")
        self.exec("systemd-tmpfiles", "--create", f"{PREFIX}/lib/tmpfiles.d/ringback.conf")

    def stop(self) -> None:
        """End it; what it did is gone."""
        run([str(TOOL), "stop", str(self.folder / "run")])

    def command(self, *command: str) -> list[str]:
        """A command as it is run inside."""
        return [str(TOOL), "exec", str(self.folder / "run"), *command]

    def exec(self, *command: str) -> str:
        """Run it inside; it must succeed."""
        return run(self.command(*command))

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.exec("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def log(self, event: str, unit: str = "ringback") -> list[dict[str, Any]]:
        """The daemon's lines of that event in the journal."""
        lines = self.exec("journalctl", "-u", unit, "-o", "cat", "--no-pager").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line.get("event") == event]

    def wait_log(self, event: str, lines: int = 1, timeout_s: float = 60) -> list[dict[str, Any]]:
        """Wait until the journal has that many lines of an event."""
        wait_until(lambda: len(self.log(event)) >= lines, timeout_s, lambda: f"{lines} × {event}", poll_s=0.2)
        return self.log(event)

    def api(self, path: str) -> Any:
        """GET on the control socket, as root."""
        client = (
            "import http.client,socket,sys\n"
            "c=http.client.HTTPConnection('localhost')\n"
            "c.sock=socket.socket(socket.AF_UNIX)\n"
            "c.sock.connect('/run/ringback/control.sock')\n"
            "c.request('GET',sys.argv[1])\n"
            "print(c.getresponse().read().decode())\n"
        )
        return json.loads(self.exec(PYTHON, "-c", client, path))
