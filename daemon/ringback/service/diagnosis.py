"""What stands between the daemon and a receiver, in plain words: each fact of the way with what to do about it.

Role: pure functions from the facts of a walk (``transports.probe``, an Outcome) to steps for people.
Rules: a step is ok, a warning or a problem; what isn't ok says what to do. Never a secret, a URL's query or user info.
Must not know: sockets, HTTP calls, how the facts were gathered, endpoints (``service.diagnosis_endpoint``).
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from ringback.core.model import Outcome, OutcomeKind
from ringback.core.retry import parse_http_date
from ringback.core.times import rfc3339
from ringback.transports.probe import Knock, Lookup, Shake

#: What is asked of the receiver: safe by RFC 9110, without a body, and answered by servers and frameworks themselves; a
#: HEAD runs the code behind a GET, which for a receiver of callbacks may be a delivery.
METHOD = "OPTIONS"
DAY_MS = 86_400_000
#: A certificate that ends sooner is worth a warning.
EXPIRES_SOON_DAYS = 14
SLOW_LOOKUP_MS = 1000
#: Receivers compare a signature's time with their clock, commonly within five minutes.
SKEW_WARNING_S = 60
SKEW_PROBLEM_S = 300

#: OpenSSL's numbers for a chain that doesn't verify, and what each means for people.
_CHAIN = {
    9: "its time has not come yet: look at this host's clock, and at the certificate's dates",
    10: "the receiver must renew it",
    18: "it signed itself: the receiver needs one of an authority, or make its certificate trusted on this host",
    19: "an authority this host doesn't know signed it: add that authority to this host's trusted certificates",
    20: "the receiver must send the intermediate certificates too, or add its authority to this host's trusted ones",
    21: "the receiver must send the intermediate certificates too",
    62: "the receiver needs a certificate for this name, or the URL one of the names it is for",
    64: "the receiver needs a certificate for this address, or the URL one of the names it is for",
}

_CREDENTIALS = "if a delivery is refused too, it wants credentials: set them as the endpoint's headers"
_PATH = "is the path right? Only a delivery shows what POST gets: doctor ENDPOINT --send"
#: Statuses to a harmless request that may mean that a delivery isn't taken either.
_WORTH_A_LOOK = {
    401: _CREDENTIALS,
    403: _CREDENTIALS,
    407: _CREDENTIALS,
    404: _PATH,
    410: _PATH,
    429: "it is asked too often: give the endpoint a rate_limit",
}


class Level(StrEnum):
    """How bad a step is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Step(msgspec.Struct, frozen=True):
    """One step of the way. ``name``: what was looked at; ``do``: what to do about it, None if nothing need be done."""

    name: str
    level: Level
    text: str
    do: str | None = None


def ok(name: str, text: str) -> Step:
    """All is well."""
    return Step(name, Level.OK, text)


def warning(name: str, text: str, do: str) -> Step:
    """It may work, or stop to."""
    return Step(name, Level.WARNING, text, do)


def problem(name: str, text: str, do: str) -> Step:
    """It does not work."""
    return Step(name, Level.PROBLEM, text, do)


def by_proxy(place: str) -> Step:
    """What comes next is seen from the proxy: a direct look would take a way that no delivery takes."""
    return ok("proxy", f"requests go through the proxy {place} (egress.proxy): it resolves the name and connects")


def found(lookup: Lookup, host: str, nameservers: Sequence[str]) -> Step:
    """What the name servers said."""
    asked = f"delivery.nameservers ({', '.join(nameservers)})" if nameservers else "the system's name servers"
    if lookup.error is not None:
        do = f"is the name right? Ask from this host: getent ahosts {host}; others can be set as delivery.nameservers"
        return problem("dns", f"{host} has no address: {lookup.error} (asked {asked}, {lookup.elapsed_ms} ms)", do)
    how = f"asked {asked}, {lookup.elapsed_ms} ms" if lookup.asked else "remembered from a look-up of a moment ago"
    text = f"{host} is {', '.join(lookup.addresses)} ({how})"
    if lookup.elapsed_ms > SLOW_LOOKUP_MS:
        return warning("dns", text, "the name servers are slow, which counts against connect_timeout_s")
    return ok("dns", text)


def allowed(knocks: Sequence[Knock]) -> Step:
    """What the egress rules say of the addresses."""
    refused = [knock.refused for knock in knocks if knock.refused is not None]
    if not refused:
        return ok("egress", f"the egress rules allow {_counted(len(knocks), 'address', 'addresses')}")
    do = _open_up(refused[0], next(knock.address for knock in knocks if knock.refused is not None))
    if len(refused) == len(knocks):
        return problem("egress", f"the egress rules refuse it: {'; '.join(refused)}", do)
    return warning("egress", f"the egress rules refuse some of its addresses: {'; '.join(refused)}", do)


def forbidden(message: str) -> Step:
    """The rules refuse it before any name is looked up."""
    return problem("egress", f"the egress rules refuse it: {message.removeprefix('url: ')}", _open_up(message, ""))


def _open_up(reason: str, address: str) -> str:
    if "deny_networks" in reason:
        return "take it out of egress.deny_networks if it is meant to be reached, and reload"
    if "plain http" in reason:
        return "use https, or egress.allow_http or egress.allow_networks if you mean it, and reload"
    size = 128 if ":" in address else 32
    example = f' = ["{address}/{size}"]' if address else ""
    return f"if it is meant to be reached: egress.allow_networks{example}, and reload"


def connected(knock: Knock, port: int, *, others: bool) -> Step:
    """One address; ``others``: another one is open."""
    at = f"[{knock.address}]:{port}" if ":" in knock.address else f"{knock.address}:{port}"
    if knock.error is None:
        return ok("tcp", f"{at} accepts connections ({knock.elapsed_ms} ms)")
    text = f"cannot connect to {at}: {knock.error}"
    if others:
        return warning(
            "tcp", text, "deliveries go to the next address, but lose time: mend it or take it out of the DNS"
        )
    return problem("tcp", text, _unreached(knock.error))


def _unreached(error: str) -> str:
    if "refused" in error:
        return "nothing listens on that port, or a firewall refuses: is the receiver running, and the port right?"
    if "no answer" in error:
        return "the host is down, or a firewall drops what we send: ask whoever runs it to allow this host"
    if "unreachable" in error or "no route" in error:
        return "this host has no route to it: look at its network"
    return "look at the network between this host and the receiver"


def encrypted(shake: Shake, host: str, now_ms: int, *, verify: bool) -> Step:
    """The TLS handshake and the certificate."""
    seen = shake.certificate
    whose = "" if seen is None else f"; certificate for {_names_of(shake)} by {seen.issuer}, {_ends(shake, now_ms)}"
    if shake.error is not None:
        do = _CHAIN.get(shake.verify_code)
        if do is None:
            do = "its certificate must verify" if shake.verify_code else "does a TLS server listen on that port?"
        return problem("tls", f"{shake.error} (name asked for: {host}{whose})", do)
    text = f"{shake.version}, {shake.cipher} ({shake.elapsed_ms} ms){whose}"
    if not verify:
        return warning(
            "tls", f"{text}; not verified", "tls_verify is off: whoever stands in between can read all of it"
        )
    if seen is not None and seen.not_after_ms - now_ms < EXPIRES_SOON_DAYS * DAY_MS:
        return warning("tls", text, "the receiver must renew its certificate before then")
    return ok("tls", text)


def _names_of(shake: Shake) -> str:
    seen = shake.certificate
    names = () if seen is None else seen.names
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return shown or (seen.subject if seen is not None else "") or "nobody"


def _ends(shake: Shake, now_ms: int) -> str:
    seen = shake.certificate
    if seen is None:
        return ""
    date = rfc3339(seen.not_after_ms)[:10]
    if now_ms < seen.not_before_ms:
        return f"not valid before {rfc3339(seen.not_before_ms)[:10]}"
    days = (seen.not_after_ms - now_ms) // DAY_MS
    return f"expired on {date}" if days < 0 else f"expires on {date}, in {_counted(days, 'day', 'days')}"


def answered(outcome: Outcome, *, proxied: bool = False) -> Step:
    """What came of the harmless request; ``proxied``: nothing was looked at before it."""
    status = outcome.status
    if outcome.kind is not OutcomeKind.RESPONSE or status is None:
        return problem(
            "http", f"no answer to {METHOD}: {outcome.error or outcome.kind}", _unanswered(outcome.kind, proxied)
        )
    text = f"it answered {METHOD} with {status} after {outcome.elapsed_ms} ms"
    if status >= 500 and status != 501:
        return problem("http", text, "the receiver, or what stands before it, fails: look at its log")
    if 300 <= status <= 399:
        return warning("http", f"{text}, a redirect", "redirects are never followed: register the URL it leads to")
    do = _WORTH_A_LOOK.get(status)
    return warning("http", text, do) if do else ok("http", f"{text}: it speaks HTTP" + _allows(outcome))


def _allows(outcome: Outcome) -> str:
    allow = next((value for name, value in outcome.headers if name.lower() == "allow"), "")
    methods = [one.strip().upper() for one in allow.split(",")] if allow else []
    return "" if not methods else ", and says it takes POST" if "POST" in methods else ", but POST is not in its Allow"


def _unanswered(kind: OutcomeKind, proxied: bool) -> str:  # noqa: FBT001 - its caller's own name
    match kind:
        case OutcomeKind.TIMEOUT:
            return "it accepts connections and doesn't answer in time: look at its log and its load, or raise timeout_s"
        case OutcomeKind.EGRESS_DENIED:
            return (
                "if it is meant to be reached: egress.allow_networks, and reload" if proxied else "see the steps above"
            )
        case OutcomeKind.PROTOCOL_ERROR:
            return "does an HTTP/1.1 server listen on that port?"
        case OutcomeKind.RESET:
            return "it hung up: is this an https port asked with http, or a proxy with nothing behind it?"
    if proxied:
        return "is egress.proxy right, with its password? Else the proxy's log and rules say why it can't reach it"
    return "see the steps above"


def clocks(outcome: Outcome, now_ms: int) -> Step | None:
    """The receiver's clock beside ours at the answer, ``now_ms``; None if it doesn't say."""
    told = next((value for name, value in outcome.headers if name.lower() == "date"), "")
    at_ms = parse_http_date(told, now_ms) if told.isascii() else None
    if at_ms is None:
        return None
    skew_s = round((at_ms - now_ms) / 1000)
    if abs(skew_s) <= SKEW_WARNING_S:
        return ok(
            "clock", f"the receiver's clock and ours agree within {_counted(max(abs(skew_s), 1), 'second', 'seconds')}"
        )
    text = f"the receiver's clock is {abs(skew_s)} s {'ahead of' if skew_s > 0 else 'behind'} ours"
    do = "receivers refuse signatures whose time is minutes off: look at the time service of both hosts (timedatectl)"
    return problem("clock", text, do) if abs(skew_s) > SKEW_PROBLEM_S else warning("clock", text, do)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
