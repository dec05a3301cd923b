"""Signals as two questions a loop can wait for: stop, and stop at once.

Role: SIGTERM and SIGINT ask for a stop; a second one asks to hurry. SIGHUP is handed on. At the very end all
are ignored.
Must not know: what stopping means.
"""

import asyncio
import signal
from collections.abc import Callable

_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """``stop`` is set by the first signal (or ``ask``), ``hurry`` by the next."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def listen(self, on_hangup: Callable[[], None]) -> None:
        """Take the process's signals over; call in a running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)

    def ignore(self) -> None:
        """Ignore them from now on: call in the same loop, when nothing is left but to end.

        A loop that closes gives the signals back, and one that comes then would end the process with another code.
        """
        loop = asyncio.get_running_loop()
        for number in _ALL:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def ask(self) -> None:
        """Ask for a stop; asked again, ask to hurry."""
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()
