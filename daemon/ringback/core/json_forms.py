"""JSON as another program would write it: the same values, other blanks and escapes, nothing lost.

Role: rewrite a valid JSON text token by token. Number tokens stay as written (a float could not hold them all), and so
do members given twice; only blanks between tokens and escapes inside strings change.
Rules: the text has been judged before (``core.events``); a step of Python is spent for each string, none for each byte.
Must not know: who wants which form.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii

import msgspec

#: A string, or what stands between two.
_STRING = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_BLANKS = dict.fromkeys(map(ord, " \t\r\n"))
#: Between strings there is little, and the same again and again.
_REMEMBERED = 4096
_REMEMBERED_CHARS = 64

_text = msgspec.json.Decoder(str).decode

#: What .NET's default encoder writes as \uXXXX, hex in upper case, and what it has a short escape for.
_DOTNET = re.compile(r"""[^ !#-%(-*,-;=?-\[\]-_a-~]""")
_DOTNET_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def python_form(text: bytes) -> bytes:
    """As Python's ``json.dumps`` writes it: blanks after comma and colon, all but ASCII escaped, lower-case hex."""
    escaped = text.isascii() and b"\\" not in text and b"\x7f" not in text
    return _rewrite(text, _spaced, None if escaped else encode_basestring_ascii)


def compact_form(text: bytes) -> bytes:
    """As JavaScript's ``JSON.stringify`` writes it: no blanks, nothing escaped that need not be."""
    return _rewrite(text, _tight, None if b"\\" not in text else encode_basestring)


def dotnet_escapes(text: bytes) -> bytes:
    """Blanks as they are, strings as .NET's default encoder writes them."""
    return _rewrite(text, str, _dotnet_string)


def _rewrite(text: bytes, between: Callable[[str], str], string: Callable[[str], str] | None) -> bytes:
    """Every gap through ``between``; every string's characters through ``string``, None: they stay as written."""
    parts = _STRING.split(text.decode())
    parts[::2] = [between(gap) for gap in parts[::2]]
    if string is not None:
        parts[1::2] = [string(_text(token)) for token in parts[1::2]]
    return "".join(parts).encode()


def _spaced(gap: str) -> str:
    return _spaced_short(gap) if len(gap) <= _REMEMBERED_CHARS else _space(gap)


def _space(gap: str) -> str:
    return gap.translate(_BLANKS).replace(",", ", ").replace(":", ": ")


_spaced_short = lru_cache(maxsize=_REMEMBERED)(_space)


def _tight(gap: str) -> str:
    return gap.translate(_BLANKS)


def _dotnet_string(chars: str) -> str:
    return f'"{chars.translate(_dotnet)}"' if _DOTNET.search(chars) else f'"{chars}"'


def _dotnet_escape(code: int) -> str:
    char = chr(code)
    if not _DOTNET.match(char):
        return char
    if char in _DOTNET_SHORT:
        return _DOTNET_SHORT[char]
    if code < 0x10000:
        return f"\\u{code:04X}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"


class _Escapes(dict[int, str]):
    """What becomes of each character, found out when it is met: a megabyte of them must not be escaped one by one."""

    def __missing__(self, code: int) -> str:
        escaped = _dotnet_escape(code)
        if len(self) < _REMEMBERED:
            self[code] = escaped
        return escaped


_dotnet = _Escapes()
