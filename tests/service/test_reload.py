"""A reload over the real store: good is applied, bad changes nothing, and what needs a restart is named."""

import asyncio

import pytest
import structlog
from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.config import ConfigError, load_all
from ringback.service.declared import Declared
from ringback.service.reload import Live, Reload
from ringback.service.watchdog import StatusLine


class Bench:
    """A reload with a file of its own, what it applied, what it said."""

    def __init__(self, folder, world):
        self.file = folder / "ringback.toml"
        self.applied, self.said = [], []
        self.asked = asyncio.Event()
        self.write("")
        self.status = StatusLine(lambda: "fine", self.said.append)
        self.reload = Reload(
            load=self.load,
            settings=self.load().settings,
            live=(
                Live(("egress.",), lambda settings: self.applied.append(("egress", settings))),
                Live(("delivery.concurrency",), lambda settings: self.applied.append(("delivery", settings))),
            ),
            declared=Declared(world.endpoints, world.clock),
            asked=self.asked,
            status=self.status,
            notify=self.said.append,
            clock=FakeClock(),
        )

    def load(self):
        return load_all(str(self.file), {"HOME": "/home/ada"}, 1000)

    def write(self, text):
        self.file.write_text(text)

    async def lines(self):
        """Reload; the log's lines of it."""
        with structlog.testing.capture_logs() as lines:
            await self.reload.reload()
        return [line for line in lines if line["event"].startswith("config.")]


@pytest.fixture
async def world(tmp_path):
    """A daemon's inside."""
    made = await World(tmp_path / "state", FakeClock(), FakeChance(1), FakeNetwork(lambda _: answer(200))).start()
    yield made
    await made.stop()


@pytest.fixture
def bench(tmp_path, world):
    """A reload over it."""
    return Bench(tmp_path, world)


async def test_what_changed_is_applied_once_and_named(bench):
    """Only the appliers of keys that differ are called, with the new settings; the next reload has nothing to do."""
    bench.write("delivery.concurrency = 7\n")
    (line,) = await bench.lines()
    assert (line["event"], line["changed"], line["needs_restart"]) == ("config.reloaded", ["delivery.concurrency"], [])
    ((name, settings),) = bench.applied
    assert (name, settings.delivery.concurrency) == ("delivery", 7)
    assert (await bench.lines())[0]["changed"] == []
    assert len(bench.applied) == 1


async def test_what_needs_a_restart_is_named_until_there_was_one(bench):
    """Paths and listeners stay as they are; log and status say so at each reload, until the file is as it was."""
    bench.write('ingest.socket.mode = "0600"\napi.group = "1000"\negress.allow_http = true\n')
    for changed in (["egress.allow_http"], []):
        (line,) = await bench.lines()
        assert (line["changed"], line["needs_restart"]) == (changed, ["api.group", "ingest.socket.mode"])
    assert bench.status.line().startswith("restart needed for api.group")
    bench.write("egress.allow_http = true\n")
    assert (await bench.lines())[0]["needs_restart"] == []
    assert bench.status.line() == "fine"


@pytest.mark.parametrize(
    "bad",
    [
        "delivery.concurrency = 7\n[[endpoint",
        "delivery.concurrency = 7\ndelivery.timeout_s = 0\ndelivery.nonsense = 1\n",
        'delivery.concurrency = 7\n[[endpoint]]\nname = "a"\nurl = "https://10.0.0.1/"\n',
    ],
    ids=["syntax", "settings", "declaration"],
)
async def test_a_bad_configuration_changes_nothing(bench, world, bad):
    """Every problem is in the log and nothing is applied, not even what was good."""
    bench.write(bad)
    (line,) = await bench.lines()
    assert (line["event"], line["log_level"], line["count"]) == ("config.rejected", "error", len(line["problems"]))
    assert bench.applied == []
    assert len(world.endpoints) == 0
    assert "reload refused" in bench.status.line()
    bench.write("")
    assert (await bench.lines())[0]["event"] == "config.reloaded"
    assert bench.status.line() == "fine"


async def test_declarations_are_reconciled_by_a_reload(bench, world):
    """The counts are in the log; a declaration that doesn't fit what there is rejects the whole."""
    bench.write('[[endpoint]]\nname = "a"\nurl = "https://a.example/"\n')
    (line,) = await bench.lines()
    assert (line["declared"], line["endpoints_created"]) == (1, 1)
    (folder := bench.file.parent / "endpoints.d").mkdir()
    (folder / "b.toml").write_text('[[endpoint]]\nname = "b"\nurl = "https://b.example/"\n')
    bench.write("")
    (line,) = await bench.lines()
    assert (line["endpoints_created"], line["endpoints_undeclared"]) == (1, 1)
    assert {endpoint.name: endpoint.status.value for endpoint in world.endpoints} == {"a": "disabled", "b": "active"}


async def test_secrets_that_lie_open_are_told_at_start_and_reload(bench, open_folder):
    """One line names each file once; one that only the group may read is nobody's business."""
    for name, mode in (("open", 0o644), ("group", 0o640)):
        (open_folder / name).write_text("whsec_c2VjcmV0IG9mIHRoZSBkZWNsYXJlZCBvbmVz")
        (open_folder / name).chmod(mode)
    tables = [("a", "open"), ("b", "open"), ("c", "group")]
    declared = f'[[endpoint]]\nname = "{{}}"\nurl = "https://a.example/"\nsecret_file = "{open_folder}/{{}}"\n'
    bench.write("".join(declared.format(*table) for table in tables))
    for step in (lambda: bench.reload.start(bench.load()), bench.reload.reload):
        with structlog.testing.capture_logs() as lines:
            await step()
        (line,) = [line for line in lines if line["event"] == "endpoint.secret_exposed"]
        assert (line["log_level"], line["count"], line["files"]) == ("warning", 1, [f"{open_folder}/open"])
    (open_folder / "open").chmod(0o600)
    with structlog.testing.capture_logs() as lines:
        await bench.reload.reload()
    assert "endpoint.secret_exposed" not in [line["event"] for line in lines]


async def test_a_new_default_dialect_tells_which_endpoints_keep_the_old(bench, world):
    """A declaration that names none keeps what it was made with, and a line says so until it names one."""
    declared = '[[endpoint]]\nname = "{}"\nurl = "https://a.example/"\n{}'
    bench.write(declared.format("a", "") + declared.format("b", 'dialect = "standard"\n'))
    assert len(await bench.lines()) == 1
    for given, kept in (("", ["a"]), ('dialect = "standard"\n', None)):
        tables = declared.format("a", given) + declared.format("b", 'dialect = "standard"\n')
        bench.write(f'endpoint_defaults.dialect = "prosa"\n{tables}')
        with structlog.testing.capture_logs() as lines:
            await bench.reload.reload()
        told = [line for line in lines if line["event"] == "endpoint.dialect_kept"]
        assert [(line["names"], line["count"], line["default"]) for line in told] == [(kept, 1, "prosa")] * bool(kept)
    assert {endpoint.dialect for endpoint in world.endpoints} == {"standard"}


async def test_at_start_a_declaration_that_does_not_fit_ends_the_start(bench, world):
    """A start with declarations that contradict the database is a bad configuration, told with its place."""
    bench.write('[[endpoint]]\nname = "a"\nurl = "https://a.example/"\n')
    await bench.reload.start(bench.load())
    assert [endpoint.declared for endpoint in world.endpoints] == [True]
    bench.write('[[endpoint]]\nname = "a"\nurl = "https://a.example/"\ndialect = "prosa"\n')
    with pytest.raises(ConfigError) as caught:
        await bench.reload.start(bench.load())
    assert caught.value.problems[0][0] == "endpoint.0.dialect"


async def test_the_manager_hears_when_it_begins_and_ends(bench):
    """RELOADING and READY come in pairs, with the monotonic time that newer managers want; the asked one is done."""
    ready = asyncio.Event()
    say = bench.said.append
    bench.reload._notify = lambda text: (say(text), text.startswith("READY=1") and ready.set())
    running = asyncio.create_task(bench.reload.run())
    bench.asked.set()
    await asyncio.wait_for(ready.wait(), 60)
    running.cancel()
    assert bench.said == ["RELOADING=1\nMONOTONIC_USEC=0\nSTATUS=reloading", "READY=1\nSTATUS=fine"]
    assert not bench.asked.is_set()


async def test_a_stop_that_calls_a_reload_off_is_not_followed_by_ready(bench):
    """The manager was told that the daemon stops; what it heard last is that, or that a reload began."""
    began = asyncio.Event()

    async def reload_for_ever():
        began.set()
        await asyncio.Event().wait()

    bench.reload.reload = reload_for_ever
    running = asyncio.create_task(bench.reload.run())
    bench.asked.set()
    await asyncio.wait_for(began.wait(), 60)
    running.cancel()
    await asyncio.wait([running])
    assert [text.partition("=")[0] for text in bench.said] == ["RELOADING"]
