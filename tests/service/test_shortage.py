"""A look whether anybody can connect: told at once, and then now and then."""

import structlog
from tests.harness.world import FakeClock
from tests.transports.http.helpers import out_of_files

from ringback.service.shortage import LOOK_EVERY_S, SAY_EVERY_S, Doors


async def test_a_lack_of_descriptors_is_told_once_in_a_while():
    """Nothing is said while there are some; without, one line and the next after its time, however often it looks."""
    clock = FakeClock()
    doors = Doors(clock)
    with structlog.testing.capture_logs() as lines:
        assert await doors.turn(0) == LOOK_EVERY_S
        assert lines == []
        with out_of_files():
            for step_s in (0, SAY_EVERY_S / 2, SAY_EVERY_S / 2):
                clock.advance(step_s)
                await doors.turn(0)
    assert [(line["event"], line["log_level"]) for line in lines] == [("daemon.out_of_files", "error")] * 2
    assert "too many open files" in lines[0]["error"]
    assert "connects" in lines[0]["connections"]
