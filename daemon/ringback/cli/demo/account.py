"""The account at the end of the demo, in words that need no manual.

Must not know: the story, how the numbers came about.
"""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ringback.cli.demo.values import Summary

#: What is verified of each dialect.
SIGNED = {
    "standard": "webhook-signature, HMAC over id, time and body",
    "prosa": "X-Prosa-Signature, SHA-256 of secret and body",
    "deepva": "HMAC over data, inside the body",
    "pulse": "X-Signature, by choice: the vendor has none",
    "azure-speech": "HMAC of the body, and of the challenge's token",
    "speechlive": "X-Trouble-Request-Hash and the shared secret",
}


def print_summary(console: Console, summary: Summary) -> None:
    """The account, in words that need no manual."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column()
    facts.add_column(justify="right", no_wrap=True)
    facts.add_column(style="dim")
    for name, count, style, words in _lines(summary):
        facts.add_row(Text(name, style="bold"), Text(f"{count:,}", style=style), Text(words))
    console.print()
    console.print(Padding(facts, (0, 0, 0, 2)))
    console.print(Padding(_dialects(summary), (0, 0, 1, 4)))
    for problem in summary.problems:
        console.print(_verdict("✗", problem, "bold red"))
    if not summary.problems:
        console.print(_verdict("✓", f"Nothing was lost, in {summary.seconds} s. {_doubles(summary)}", "bold green"))


def _verdict(mark: str, words: str, style: str) -> Padding:
    """A sentence whose further lines stand under its beginning."""
    line = Table.grid(padding=(0, 1))
    line.add_row(Text(mark, style=style), Text(words, style=style))
    return Padding(line, (0, 0, 0, 2), expand=False)


def _dialects(summary: Summary) -> Table:
    """How many of each dialect's requests verified."""
    table = Table.grid(padding=(0, 2))
    for column in range(2):
        table.add_column(justify="right" if column else "left", no_wrap=True)
    table.add_column(style="dim")
    for name, words in SIGNED.items():
        if (tally := summary.dialects.get(name)) is not None:
            count = f"{tally.verified:,} of {tally.requests:,}"
            style = "green" if tally.verified == tally.requests else "bold red"
            table.add_row(Text(name), Text(count, style=style), Text(words))
    return table


def _doubles(summary: Summary) -> str:
    if not summary.doubled:
        return "Every signature held."
    return "Every signature held, and what came twice came under the same id."


def _lines(summary: Summary) -> list[tuple[str, int, str, str]]:
    good = "green"
    return [
        ("accepted", summary.accepted, good, f"of {summary.events:,} events; each was on disk before its ok"),
        ("delivered", summary.delivered, good, f"of {summary.owed_in_all:,} deliveries, as the receiver counts them"),
        (
            "retried",
            summary.retried,
            "yellow" if summary.retried else "dim",
            "requests made again, after a 503 or no answer at all",
        ),
        (
            "given up",
            summary.dead,
            "yellow" if summary.dead else "dim",
            "nobody listens: dead after 3 tries, on record, not lost",
        ),
        (
            "doubled",
            summary.doubled,
            "magenta" if summary.doubled else "dim",
            "arrived twice: the kill cut off the answer; same id",
        ),
        ("lost", summary.lost, "bold red" if summary.lost else good, "acknowledged, yet neither arrived nor on record"),
        (
            "readable",
            summary.readable,
            "bold red" if summary.readable else good,
            f"of {summary.searched} secrets and phrases of transcripts, searched in database, keyring and log",
        ),
        (
            "signatures",
            summary.signatures_verified,
            good,
            f"held, {summary.signatures_failed} failed; checked by the receiver with code of its own:",
        ),
    ]
