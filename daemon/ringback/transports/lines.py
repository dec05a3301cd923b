"""Bytes in, lines out: the splitter under the events socket.

Role: a bounded buffer that turns any chunking of a byte stream into the same sequence of lines.
Rules: a line ends with LF; one CR before it is stripped; blank lines vanish; a line longer than the limit is reported
once, at its place, and none of its bytes is ever seen again; what is left unterminated is no line.
Must not know: sockets, what a line means.
"""

from typing import Final

#: What ``take`` returns in place of a line over the limit; no line can hold an LF, so it is never one.
TOO_LONG: Final = b"\n"

#: What ``take`` returns after so many blank lines in a row: nothing to handle, but somebody else may have a turn now.
BLANK: Final = b""
MAX_BLANKS: Final = 16

CR: Final = 0x0D


class LineBuffer:
    """Holds what was fed and not yet taken. ``limit``: the longest line in bytes, counted without its LF."""

    __slots__ = ("_data", "_discarding", "_limit", "_scanned", "_start")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._start = 0  # where the first untaken line begins
        self._scanned = 0  # no LF before this: a long line that comes in crumbs is searched once
        self._discarding = False

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._data) - self._start

    def feed(self, chunk: bytes) -> None:
        """Add what was read. The tail of a line that was too long is dropped here and never stored."""
        if self._discarding:
            end = chunk.find(b"\n")
            if end < 0:
                return
            self._discarding = False
            chunk = chunk[end + 1 :]
        if self._start:
            del self._data[: self._start]
            self._scanned -= self._start
            self._start = 0
        self._data += chunk

    def take(self) -> bytes | None:
        """The next line that isn't blank, without its line end; ``TOO_LONG`` in place of one; None: feed more first.

        ``BLANK`` after ``MAX_BLANKS`` of them: a read full of line ends would hold the loop for a tenth of a second.
        """
        data, blanks = self._data, 0
        while (end := data.find(b"\n", self._scanned)) >= 0:
            start = self._start
            self._start = self._scanned = end + 1
            if end - start > self._limit:
                return TOO_LONG
            if end > start and data[end - 1] == CR:
                end -= 1
            line = bytes(data[start:end])
            if line and not line.isspace():
                return line
            blanks += 1
            if blanks >= MAX_BLANKS:
                return BLANK
        return self._judge_rest()

    def clear(self) -> None:
        """Forget everything."""
        self._data.clear()
        self._start = self._scanned = 0

    def _judge_rest(self) -> bytes | None:
        """No LF in sight: keep the beginning of a line, or give up on it."""
        if len(self) > self._limit:
            self.clear()
            self._discarding = True
            return TOO_LONG
        del self._data[: self._start]
        self._start = 0
        self._scanned = len(self._data)
        return None
