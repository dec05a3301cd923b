"""Sentences on a screen: folded, counted, harmless.

Rules: on a terminal a sentence is folded between its words; into a pipe it stays a line, so that grep finds it.
Must not know: what the sentences say.
"""

import sys
from shutil import get_terminal_size
from textwrap import wrap

import click

#: Columns: a sentence with less room than this beside its head is left to the terminal.
NARROW = 24
#: Columns a tab goes on to the next multiple of.
TAB = 4


def plain(text: str) -> str:
    """Text that can't steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def plain_lines(text: str) -> str:
    """The same for a text of many lines, as bodies are; blanks at its end are left out."""
    return "\n".join(plain(line.expandtabs(TAB)) for line in text.rstrip().splitlines())


def folded(head: str, text: str) -> str:
    """``head`` and the sentence ``text`` beside it; on a terminal folded between words, its lines under each other."""
    return fold(head, plain(text), get_terminal_size().columns if sys.stdout.isatty() else None)


def tell(head: str, text: str) -> None:
    """The same on standard error, for what isn't the answer: a warning, a problem, a hint."""
    columns = get_terminal_size().columns if sys.stderr.isatty() else None
    click.echo(fold(head, plain(text), columns), err=True)


def fold(head: str, text: str, width: int | None) -> str:
    """The same for a terminal of ``width`` columns; None: nothing is folded. ``head`` may be coloured."""
    taken = len(click.unstyle(head))
    if width is None or width - taken < NARROW:
        return head + text
    lines = wrap(text, width - taken, break_long_words=False, break_on_hyphens=False)
    return head + f"\n{'':{taken}}".join(lines)


def counted(count: int, thing: str) -> str:
    """``1 event``, ``2 events``, ``1,000 events``; ``thing`` is a word whose plural ends in s."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
