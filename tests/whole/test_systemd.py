"""The unit under a real systemd: readiness, reload, restarts under load, watchdog, credentials, sandbox, peers."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.systemd import CREDENTIALS, PREFIX, PYTHON, SCRIPTS, Machine, missing_tools, probe
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

RESTARTS = 20
PORT = 9100
SECRET = "whsec_c2VjcmV0IG9mIHRoZSBzeXN0ZW1kIHRlc3RzIQ=="
#: For the test of the watchdog alone: elsewhere a machine that stands still for so long must not change what is tested.
WATCHDOG_S = 3
#: Acknowledgements between two restarts under load.
PROGRESS = 32
STRANGER_UID = 4242

CONFIG = """
egress.allow_networks = ["127.0.0.0/8"]
daemon.shutdown_grace_s = 5
"""
DROP_IN = f"""
[Service]
LoadCredential=crm-secret:{CREDENTIALS}/crm-secret
LoadCredential=master-key:{CREDENTIALS}/master-key
"""
DECLARED = f"""
[[endpoint]]
name = "crm"
url = "http://127.0.0.1:{PORT}/hook"
secret_file = "crm-secret"
retry = {{ initial_s = 0.2, factor = 1.5, max_s = 2, attempts = 100 }}
"""
#: Options that make a process what the service is and that a probe must not have.
NOT_IN_PROBE = re.compile(
    r"^(Type|NotifyAccess|ExecStart|ExecReload|Restart\w*|WatchdogSec|Wants|After|Also)=.*\n", re.MULTILINE
)


def configure(machine: Machine, extra: str = "") -> None:
    """Write the configuration."""
    (machine.etc / "ringback.toml").write_text(CONFIG + extra)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted systemd with ringback installed; skipped, saying why, where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("a systemd in namespaces needs root")
    missing = missing_tools()
    if missing:
        reason = f"needs {', '.join(missing)} (Debian: systemd, iproute2, procps, util-linux, python3-venv)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    refused = probe(tmp_path_factory.mktemp("probe"))
    if refused:
        pytest.skip(f"namespaces can't be had here: {refused}")
    made = Machine(tmp_path_factory.mktemp("systemd"))
    made.install()
    configure(made)
    (made.etc / "endpoints.d" / "crm.toml").write_text(DECLARED)
    (made.credentials / "crm-secret").write_text(SECRET + "\n")
    (made.credentials / "master-key").write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    service = (made.units / "ringback.service").read_text()
    (made.units / "ringback.service.d").mkdir()
    (made.units / "ringback.service.d" / "test.conf").write_text(DROP_IN)
    probing = NOT_IN_PROBE.sub("", service).replace(
        "[Service]\n",
        f"[Service]\nType=oneshot\nExecStart={PYTHON} {SCRIPTS}/systemd_probe.py\n{DROP_IN.splitlines()[2]}\n",
    )
    (made.units / "probe.service").write_text(probing)
    try:
        made.boot()
        yield made
    finally:
        made.stop()


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The service, ready, its configuration as it came."""
    configure(machine)
    try:
        machine.exec("systemctl", "start", "ringback.socket", "ringback.service")
    except AssertionError as failed:
        raise AssertionError(machine.exec("journalctl", "-u", "ringback", "-n", "30", "--no-pager")) from failed
    return machine


def emit(*, event_type: str) -> list[str]:
    """A client that sends one line and prints the answer."""
    line = json.dumps({"type": event_type, "data": {}}) + "\n"
    text = (
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect('/run/ringback/events.sock')\n"
        f"s.sendall({line!r}.encode())\n"
        "print(s.makefile().readline())\n"
    )
    return [PYTHON, "-c", text]


def test_it_starts_says_so_and_owns_no_more_than_it_should(running: Machine) -> None:
    """Started by systemctl, the daemon is ready when that returns; sockets and folders have their owners and rights."""
    assert running.exec("systemctl", "is-active", "ringback.service", "ringback.socket", "ringback-control.socket")
    assert "taking events" in running.show("ringback", "StatusText")
    assert running.wait_log("daemon.ready")
    stat = running.exec(
        "stat", "-c", "%n %a %U:%G", "/run/ringback/events.sock", "/run/ringback/control.sock", "/var/lib/ringback",
        "/var/spool/ringback/new",
    )  # fmt: skip
    assert stat.splitlines() == [
        "/run/ringback/events.sock 660 ringback:ringback",
        "/run/ringback/control.sock 600 ringback:ringback",
        "/var/lib/ringback 700 ringback:ringback",
        "/var/spool/ringback/new 2770 ringback:ringback",
    ]
    assert running.exec("ps", "-o", "user=", "-p", running.show("ringback", "MainPID")).strip() == "ringback"


def test_a_declared_endpoint_has_the_secret_of_a_credential(running: Machine) -> None:
    """What LoadCredential hands over, and nobody else can read, is the endpoint's secret."""
    (endpoint,) = running.api("/api/v1/endpoints?name=crm&reveal=true")["data"]
    assert (endpoint["secret"], endpoint["declared"], endpoint["status"]) == (SECRET, True, "active")


def test_the_master_key_of_a_credential_encrypts_what_is_stored(running: Machine) -> None:
    """The sandboxed daemon makes its keyring, seals what it accepts, and says so; files are its own alone."""
    running.exec(*emit(event_type="sealed.in.the.sandbox"))
    assert running.wait_log("encryption.on")
    assert not running.log("encryption.key_exposed")
    status = running.api("/api/v1/status")["encryption"]
    assert status["on"] is True
    assert re.search(r"encryption +on\b", running.exec(f"{PREFIX}/bin/ringback", "status"))
    count = (
        "import sqlite3\n"
        "db = sqlite3.connect('file:/var/lib/ringback/ringback.db?mode=ro', uri=True)\n"
        "print(*db.execute('SELECT min(key_no), count(*) > 0 FROM payload').fetchone())\n"
    )
    assert running.exec(PYTHON, "-c", count).split() == ["1", "1"]
    stat = running.exec("stat", "-c", "%a %U:%G", "/var/lib/ringback/keyring.db", "/var/lib/ringback/ringback.db")
    assert stat.splitlines() == ["600 ringback:ringback"] * 2


def test_reload_takes_what_is_good_and_refuses_what_is_not(running: Machine) -> None:
    """A reload applies a good configuration in the same process and keeps the old one against a bad one."""
    pid = running.show("ringback", "MainPID")
    configure(running, "delivery.concurrency = 33\n")
    running.exec("systemctl", "reload", "ringback")
    assert "delivery.concurrency" in running.wait_log("config.reloaded")[0]["changed"]
    configure(running, "delivery.concurrency = 0\ndelivery.timeout_s = 0\n")
    running.exec("systemctl", "reload", "ringback")
    assert running.wait_log("config.rejected")[0]["count"] == 2
    wait_until(lambda: "reload refused" in running.show("ringback", "StatusText"), 60, lambda: "the status", poll_s=0.1)
    configure(running)
    running.exec("systemctl", "reload", "ringback")
    wait_until(lambda: "refused" not in running.show("ringback", "StatusText"), 60, lambda: "the status", poll_s=0.1)
    assert (running.show("ringback", "MainPID"), running.show("ringback", "ActiveState")) == (pid, "active")


def test_restarts_under_load_refuse_nobody_and_lose_nothing(running: Machine, tmp_path: Path) -> None:
    """Over twenty restarts no connect is refused, and every event that was acknowledged is delivered."""
    load = subprocess.Popen(
        running.command(
            PYTHON, f"{SCRIPTS}/systemd_load.py", "--socket", "/run/ringback/events.sock", "--port", str(PORT),
            "--stop", "/run/load.stop", "--acked", "/run/load.acked",
        ),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def acked() -> int:
        return int(running.exec("sh", "-c", "cat /run/load.acked 2>/dev/null || echo 0"))

    try:
        for number in range(RESTARTS):
            goal = (number + 1) * PROGRESS  # without load the restarts prove nothing
            wait_until(lambda least=goal: acked() >= least, 60, lambda: f"{acked()} acknowledged", poll_s=0.05)
            running.exec("systemctl", "restart", "ringback.service")
    finally:
        running.exec("touch", "/run/load.stop")
        out, _ = load.communicate(timeout=240)
        running.exec("rm", "/run/load.stop")
    result = json.loads(out)
    print(result)
    assert (result["errors"], result["refused"], result["missing"]) == ([], [], [])
    assert result["reconnects"] >= RESTARTS


@pytest.fixture
def impatient(running: Machine) -> Iterator[Machine]:
    """The service with a short watchdog, for as long as the test takes."""
    folder = "/run/systemd/system/ringback.service.d"
    text = f"[Service]\\nWatchdogSec={WATCHDOG_S}\\n"
    running.exec("sh", "-c", f"mkdir -p {folder} && printf '{text}' >{folder}/watchdog.conf")
    running.exec("systemctl", "daemon-reload")
    running.exec("systemctl", "restart", "ringback.service")
    yield running
    running.exec("rm", "-r", folder)
    running.exec("systemctl", "daemon-reload")
    running.exec("systemctl", "restart", "ringback.service")


def test_a_daemon_that_hangs_is_restarted(impatient: Machine) -> None:
    """A stopped process feeds no watchdog: systemd kills it and starts another, which takes events again."""
    assert impatient.show("ringback", "WatchdogUSec") == f"{WATCHDOG_S}s"
    pid = impatient.show("ringback", "MainPID")
    impatient.exec("kill", "-STOP", pid)

    def another() -> bool:
        return (
            impatient.show("ringback", "MainPID") not in ("0", pid)
            and impatient.show("ringback", "SubState") == "running"
        )

    wait_until(another, 120, lambda: impatient.exec("systemctl", "status", "ringback", "--no-pager"), poll_s=0.2)
    journal = ("journalctl", "-u", "ringback", "--no-pager")
    wait_until(lambda: "atchdog" in impatient.exec(*journal), 60, lambda: "the cause's line", poll_s=0.2)
    assert json.loads(impatient.exec(*emit(event_type="stt.jobs.completed")))["ok"]


def test_the_uid_of_a_producer_is_seen(running: Machine) -> None:
    """Whoever sends nonsense is named by uid: no user namespace turns every producer into 65534."""
    as_stranger = ("setpriv", f"--reuid={STRANGER_UID}", "--regid=ringback", "--clear-groups")
    answer = json.loads(running.exec(*as_stranger, *emit(event_type="not a type")))
    assert answer["error"]["code"] == "invalid_event"
    wait_until(
        lambda: any(line["uid"] == STRANGER_UID for line in running.log("event.rejected")),
        60,
        lambda: "the uid",
        poll_s=0.2,
    )


def test_a_producer_of_the_group_may_spool(running: Machine) -> None:
    """A file renamed into the spool by another account of the group is taken, and gone once its event is durable."""
    as_producer = ("setpriv", f"--reuid={STRANGER_UID}", "--regid=ringback", "--clear-groups", "sh", "-c")
    line = json.dumps({"id": "spooled", "type": "stt.jobs.completed", "data": {}})
    folder = "/var/spool/ringback"
    running.exec(*as_producer, f"echo '{line}' >{folder}/tmp/a.json && mv {folder}/tmp/a.json {folder}/new/a.json")
    wait_until(
        lambda: any(event["id"] == "spooled" for event in running.api("/api/v1/events")["data"]),
        60,
        lambda: running.exec("journalctl", "-u", "ringback", "-n", "10", "--no-pager"),
        poll_s=0.2,
    )
    wait_until(lambda: not running.exec("ls", f"{folder}/new"), 60, lambda: "the file's end", poll_s=0.2)


def test_who_is_not_in_the_group_may_not_connect(running: Machine) -> None:
    """Neither socket is for everybody."""
    stranger = ("setpriv", f"--reuid={STRANGER_UID}", f"--regid={STRANGER_UID}", "--clear-groups")
    done = subprocess.run(
        running.command(*stranger, *emit(event_type="a")), capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr


def test_the_sandbox_denies_what_it_says(machine: Machine) -> None:
    """A process in the very same sandbox can write its own folders, reach the network, and do nothing else."""
    machine.exec("systemctl", "start", "probe.service")

    def told() -> list[str]:
        lines = machine.exec("journalctl", "-u", "probe", "-o", "cat", "--no-pager").splitlines()
        return [line for line in lines if line.startswith("{")]

    wait_until(told, 60, lambda: machine.exec("journalctl", "-u", "probe", "--no-pager"), poll_s=0.2)
    found = json.loads(told()[0])
    assert found["status"] == {"CapBnd": "0" * 16, "CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert found["uid"] != 0
    denied = {name: found[name] for name in found if name not in ("status", "uid", "credential")}
    # the address is there, so without the fence it would refuse like the other; dropped packets end in a timeout
    assert denied.pop("metadata") in ("TimeoutError", "Operation not permitted")
    assert denied == {
        "write_etc": "Read-only file system",
        "write_usr": "Read-only file system",
        "list_root": "Permission denied",
        "netlink": "Address family not supported by protocol",
        "packet": "Address family not supported by protocol",
        "write_execute": "Operation not permitted",
        "unshare": "Operation not permitted",
        "setuid_file": "Operation not permitted",
        "kernel_log": "No such file or directory",
        "other_address": "Connection refused",
        "write_state": "ok",
        "write_runtime": "ok",
        "write_spool": "ok",
        "write_credential": "Read-only file system",
    }
    assert found["credential"].strip() == SECRET


def test_uninstall_leaves_the_configuration_alone(machine: Machine, tmp_path: Path) -> None:
    """Of what was installed only the operator's own files are left."""
    stage = tmp_path / "stage"
    shutil.copytree(machine.stage, stage, symlinks=True)
    machine.make("uninstall", stage)
    left = {str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file()}
    kept = ("ringback.toml", "endpoints.d/crm.toml", "endpoints.d/crm.toml.example")
    assert left == {f"etc/ringback/{name}" for name in kept}


def test_the_command_is_installed(machine: Machine) -> None:
    """The wrapper runs the installed package, wherever it is called from."""
    assert "endpoints declared: 1" in machine.exec(
        "env", f"CREDENTIALS_DIRECTORY={CREDENTIALS}", f"{PREFIX}/bin/ringback", "config", "check"
    )
    assert "Deliver webhooks" in machine.exec(f"{PREFIX}/bin/ringback", "--help")
