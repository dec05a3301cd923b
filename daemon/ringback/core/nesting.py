"""How deep a JSON line nests, judged before any parser recurses into it.

Role: one question, answered at C speed whatever the line holds: a hostile line of 1 MiB must not stall the loop.
Rules: exact for valid JSON; for anything else the answer only has to be quick, a parser refuses the line afterwards.
Must not know: what the line means.

How: outside strings, each opening bracket is a 1 bit and each closing one a 0 bit. Eight of them make a byte, and a
byte's net change and highest point come from tables of 256. So a million brackets cost 131,072 additions in C.
"""

from array import array
from itertools import accumulate
from operator import add

_QUOTE = b'"'
_BRACKETS = b"{[}]"
_TO_BITS = bytes.maketrans(_BRACKETS, b"1100")
_ALL_OTHERS = bytes(byte for byte in range(256) if byte not in _BRACKETS + _QUOTE)


def _highest(byte: int) -> int:
    """The highest point reached within eight steps, 0 if the first one already goes down for good."""
    steps = [1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1)]
    return max(0, *accumulate(steps))


_NET = bytes((2 * byte.bit_count() - 8) & 0xFF for byte in range(256))
_HIGHEST = bytes(_highest(byte) for byte in range(256))


def nests_deeper(line: bytes, levels: int) -> bool:
    """Whether objects and arrays stand in each other more than ``levels`` deep (``{}`` alone is one level)."""
    if line.count(b"{") + line.count(b"[") <= levels:
        return False
    bits = _bracket_bits(line)
    bits += b"0" * (-len(bits) % 8)
    eights = int(bits or b"0", 2).to_bytes(len(bits) // 8, "big")
    before = accumulate(array("b", eights.translate(_NET)), initial=0)
    return max(map(add, before, eights.translate(_HIGHEST)), default=0) > levels


def _bracket_bits(line: bytes) -> bytes:
    """The brackets outside strings as text, ``1`` for an opening and ``0`` for a closing one."""
    if b"\\" in line:  # first the escaped backslashes, so that what is left before a quote does escape it
        line = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between them change nothing, inside a string or out: fewer pieces to split.
    bits = line.translate(_TO_BITS, _ALL_OTHERS).replace(b'""', b"")
    return b"".join(bits.split(_QUOTE)[::2])
