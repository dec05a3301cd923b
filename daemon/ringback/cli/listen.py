"""``ringback listen``: a local receiver that shows, checks, answers handshakes and misbehaves on demand.

Role: the customer's side on one's own desk. Must not know: how anything is checked or answered (``cli.receiver``).
"""

import asyncio
import contextlib
import errno
import json
import signal
from typing import Any

import click

from ringback.cli.client import CommandError
from ringback.cli.context import Command
from ringback.cli.verify import options_of, secret_file_option, secrets_of

MAX_BODY_BYTES = 16 * 1024 * 1024
#: Of a request's first line, and of a header: a GET carries a whole event in its URL.
MAX_HEAD_BYTES = 4 * 1024 * 1024
#: Of a body that is shown.
SHOWN_CHARS = 2000


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--dialect", help="The format; guessed for each request if left out.")
@click.option("--secret", "secrets", multiple=True, help="Check signatures with it; more than one during a rotation.")
@secret_file_option
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A setting of the dialect.")
@click.option("--status", type=click.IntRange(200, 599), default=200, show_default=True, help="Answer with this.")
@click.option("--delay", type=click.FloatRange(0, 3600), default=0.0, metavar="SECONDS", help="Think before answering.")
@click.option("--drop", is_flag=True, help="Close the connection instead of answering.")
@click.option("--fail-first", type=click.IntRange(0), default=0, metavar="N", help="Answer the first N with 503.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N deliveries.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a request.")
def listen(**given: Any) -> None:
    """Receive webhooks on this machine: print them, check signatures, answer handshakes, fail on demand.

    Handshakes (azure-speech, graph, cloudevents, websub, zoom) are answered whatever else is asked for. The
    daemon must allow 127.0.0.0/8 (egress.allow_networks) to send here.

    \b
    Example:
      ringback listen --secret whsec_…
      ringback endpoint add http://127.0.0.1:8008/hook
    """  # noqa: D301 - \b is click's mark for lines to keep as they are
    from ringback.cli.receiver.checks import CHECKS  # noqa: PLC0415 - only this command needs it

    if given["dialect"] and given["dialect"] not in CHECKS:
        raise click.UsageError(f"there is no dialect {given['dialect']}; there are {', '.join(CHECKS)}")
    try:
        asyncio.run(_Listener(given).run())
    except OSError as problem:
        taken = problem.errno == errno.EADDRINUSE  # asyncio's own words for it are long and name the address again
        why = "somebody listens there already; --port 0 takes a free port" if taken else problem.strerror or problem
        raise CommandError(f"cannot listen on {given['host']}:{given['port']}: {why}") from None


class _Listener:
    """One run of the receiver."""

    def __init__(self, given: dict[str, Any]) -> None:
        from ringback.kit.clock import SystemClock  # noqa: PLC0415 - only this command needs it

        self._given = given | {"secrets": secrets_of(given)}
        self._options = options_of(given["options"])
        self._clock = SystemClock()
        self._left_to_fail: int = given["fail_first"]
        self._seen = 0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or the count."""
        from aiohttp import web  # noqa: PLC0415 - slow to import, and most commands do without

        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._take)
        sizes: dict[str, Any] = {"max_line_size": MAX_HEAD_BYTES, "max_field_size": MAX_HEAD_BYTES}
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, **sizes)
        await runner.setup()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, self._ended.set)
        try:
            await web.TCPSite(runner, self._given["host"], self._given["port"]).start()
            host, port = runner.addresses[0][:2]
            url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
            self._say({"listening": url}, f"listening on {url}  (Ctrl-C ends it)")
            await self._ended.wait()
        finally:
            await runner.cleanup()

    async def _take(self, request: Any) -> Any:
        from aiohttp import web  # noqa: PLC0415 - as above

        from ringback.cli.receiver.captured import Captured  # noqa: PLC0415 - as above
        from ringback.cli.receiver.challenges import reply_to  # noqa: PLC0415 - as above

        headers = {name.lower(): value for name, value in request.headers.items()}
        captured = Captured(headers, await request.read(), request.method, request.path_qs)
        reply = reply_to(captured, self._given["secrets"])
        if reply is not None:
            self._say({"handshake": reply.kind, "url": captured.url}, f"{reply.kind} handshake: answered")
            return web.Response(status=reply.status, text=reply.body, headers=_without_type(reply.headers))
        status = self._status()
        self._show(captured, status)
        await self._clock.sleep(self._given["delay"])
        if self._given["count"] is not None and self._seen >= self._given["count"]:
            asyncio.get_running_loop().call_later(0.2, self._ended.set)
        if self._given["drop"]:
            request.transport.abort()
        return web.Response(status=status, text="thank you\n" if status < 300 else "not now\n")

    def _status(self) -> int:
        self._seen += 1
        if self._left_to_fail > 0:
            self._left_to_fail -= 1
            return 503
        status: int = self._given["status"]
        return status

    def _show(self, captured: Any, status: int) -> None:
        from ringback.cli.receiver.captured import Settings  # noqa: PLC0415 - as above
        from ringback.cli.receiver.checks import check, recognise  # noqa: PLC0415 - as above
        from ringback.cli.verify import describe, shown  # noqa: PLC0415 - as above

        dialect = self._given["dialect"] or recognise(captured)
        settings = Settings(self._given["secrets"], self._clock.now_ms() // 1000, options=self._options)
        findings = check(dialect, captured, settings)
        answered = "dropped" if self._given["drop"] else str(status)
        text = captured.body.decode(errors="backslashreplace")
        facts = {
            "n": self._seen,
            "method": captured.method,
            "url": captured.url,
            "dialect": dialect,
            "ok": all(finding.ok for finding in findings),
            "findings": [{"part": f.part, "ok": f.ok, "said": f.said, "hint": f.hint} for f in findings],
            "answered": answered,
            "headers": dict(captured.headers),
            "body": text,
        }
        lines = [f"#{self._seen} {captured.method} {shown(captured.url)} → {answered}"]
        lines += ["  " + line for line in describe(dialect, findings, guessed=not self._given["dialect"])]
        body = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + f"… ({len(text)} characters)"
        lines += ["  " + shown(line) for line in body.splitlines()]
        self._say(facts, "\n".join(lines))

    def _say(self, facts: dict[str, Any], text: str) -> None:
        click.echo(json.dumps(facts, ensure_ascii=False) if self._given["as_json"] else text)


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    """A text has to have a type: the headers say which, or it is plain."""
    return {"content-type": "text/plain"} | headers
