"""A throw-away PostgreSQL cluster: Debian's programs, a temporary folder, a Unix socket and no TCP.

PostgreSQL refuses to run as root; then it runs under an account of its own, or as nobody. It doesn't fsync, which only
a power cut would show: what a crash of the server leaves is in the system's memory.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg
from tests.harness.waiting import wait_until

#: Where Debian keeps them, a folder for each version; elsewhere they are on the PATH.
DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres")
ACCOUNTS = ("postgres", "nobody")
TIME_LIMIT_S = 120
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "autovacuum": "off",
    "max_connections": "20",
    "shared_buffers": "16MB",
}
#: Lines of its log shown when something goes wrong.
TAIL_LINES = 25


def program(name: str) -> str | None:
    """The path of one of its programs, of the newest version there is; None without one."""
    versions = (path.parent for path in DEBIAN.glob(f"*/bin/{name}") if path.parts[-3].isdecimal())
    newest_first = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, newest_first), os.environ.get("PATH", os.defpath)]))


def missing_programs() -> list[str]:
    """What has to be installed first."""
    return [name for name in PROGRAMS if program(name) is None]


def account() -> pwd.struct_passwd | None:
    """Who runs it when the tests are root; None if they aren't, and it runs as they do."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in ACCOUNTS if name in known)


class Postgres:
    """One cluster over all its lives; a context manager that leaves neither process nor file behind."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.log_path = self.root / "log"
        self._data = self.root / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, object] = {}
        if who := account():
            os.chown(self.root, who.pw_uid, who.pw_gid)
            self._as = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}

    def __enter__(self) -> Self:
        try:
            self._initialise()
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.crash()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def address(self) -> str:
        """How a client finds it; it trusts whoever may enter its folder."""
        return f"host={self.root} user=postgres dbname=postgres"

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection that commits each statement."""
        return psycopg.connect(self.address, autocommit=True)

    def start(self) -> Self:
        """Start it and wait until it takes connections, after a crash once it has recovered."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command = [program("postgres"), "-D", str(self._data), "-k", str(self.root), *settings]
        self._process = self._spawn(command)

        def ready() -> bool:
            assert self._process.poll() is None, f"PostgreSQL ended:\n{self.tail()}"
            try:
                self.connect().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(ready, TIME_LIMIT_S, self.tail)
        return self

    def crash(self) -> None:
        """End it without a checkpoint and without a word to clients: the next start recovers from its log."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(TIME_LIMIT_S)
            self._process = None

    def tail(self) -> str:
        """The end of its log, for an assertion's message."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def _initialise(self) -> None:
        options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        code = self._spawn([program("initdb"), "-D", str(self._data), *options]).wait(TIME_LIMIT_S)
        assert code == 0, f"initdb failed:\n{self.tail()}"

    def _spawn(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **self._as
            )
