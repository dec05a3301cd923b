"""The egress guard: which addresses and which URLs a request may go to.

Role: one judgement for creation, handshake and dial. ``judge_url`` judges what a URL's text already tells;
``judge_address`` is asked with the final socket address of every connect, so DNS answers and rebinding meet the same
rules as literals.
Rules: an explicit deny wins over an explicit allow, an explicit allow over the built-in list; everything not known to
be public unicast is denied; what can't be understood is denied, never an exception.
Must not know: DNS, sockets, who asks.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import msgspec

from ringback.core.model import Rejection
from ringback.core.target import DEFAULT_PORTS, MAX_URL, Target, parse_url

__all__ = ["MAX_URL", "EgressPolicy", "Target", "judge_address", "judge_url", "parse_policy"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_NETWORKS = 256  #: in each of the allow and deny lists
MAX_ADDRESS_CHARS = 45  #: the longest IPv6 address, an IPv4-mapped one in full
ADDRESS_MEMO = 4096  #: verdicts remembered; an entry is a few hundred bytes

#: Sources: the IANA special-purpose address registries (RFC 6890 and successors), RFC 1112, 5771, 3056, 4291, and cloud
#: providers' own words. Whole blocks are listed even where single addresses inside are reachable: nobody lives there.
SPECIAL_V4: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared address space of carriers"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "multicast tunnelling"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("168.63.129.16/32", "a cloud's host channel"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved or broadcast"),
)

#: The first match names the reason, so the narrow ones come first. The last entries deny all outside 2000::/3.
SPECIAL_V6: tuple[tuple[str, str], ...] = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard-only"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("::/3", "not global unicast"),
    ("4000::/2", "not global unicast"),
    ("8000::/1", "not global unicast"),
)


def _compiled(table: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int, str], ...]:
    """(mask, prefix, reason) as integers: a tenth of the cost of asking the network objects."""
    rows = ((ip_network(prefix), reason) for prefix, reason in table)
    return tuple((int(net.netmask), int(net.network_address), f"{reason}, {net}") for net, reason in rows)


_SPECIAL = {4: _compiled(SPECIAL_V4), 6: _compiled(SPECIAL_V6)}
_LOOPBACK = IPv4Address("127.0.0.1")
_MAPPED = IPv6Network("::ffff:0:0/96")


class EgressPolicy(msgspec.Struct, frozen=True, cache_hash=True):
    """What the operator opened and closed. ``allow_http``: plain http to any address that is not denied."""

    allow_http: bool = False
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()


def parse_policy(allow_http: bool, allow_networks: Sequence[str], deny_networks: Sequence[str]) -> EgressPolicy:  # noqa: FBT001 - the settings' own names
    """The policy of the settings' three values. Raises ValueError naming every network that is none."""
    problems: list[str] = []
    allow = _parse_networks("allow_networks", allow_networks, problems)
    deny = _parse_networks("deny_networks", deny_networks, problems)
    if problems:
        raise ValueError("; ".join(problems))
    return EgressPolicy(allow_http, allow, deny)


def judge_address(policy: EgressPolicy, address: str | Address, scheme: str) -> str | None:
    """Whether a connection to this address may be made.

    Args:
        policy: the operator's rules.
        address: the final address of the socket; an IPv4-mapped one is judged as the IPv4 address it is.
        scheme: ``http`` or ``https``.

    Returns:
        None if it may; else the reason, in words an operator can read. Never raises.
    """
    if scheme not in DEFAULT_PORTS:
        return "the scheme is neither http nor https"
    if not isinstance(address, str | IPv4Address | IPv6Address):
        return "not an address"
    if isinstance(address, str) and len(address) > MAX_ADDRESS_CHARS:
        return "not an address"
    return _judge_address(policy, address, scheme)


def judge_url(policy: EgressPolicy, url: str) -> Target | Rejection:
    """Read a URL and judge what can be judged without DNS.

    Returns:
        A Target, or a Rejection of the field ``url``: ``invalid_url`` for its form, ``forbidden`` for the policy. A
        name is not resolved: its addresses are judged by ``judge_address`` when they are known, at every dial.
    """
    target = parse_url(url)
    if isinstance(target, Rejection):
        return target
    reason = _forbidden(policy, target)
    return target if reason is None else Rejection("forbidden", f"url: {reason}", "url")


@lru_cache(maxsize=ADDRESS_MEMO)
def _judge_address(policy: EgressPolicy, address: str | Address, scheme: str) -> str | None:
    given = _parse_address(address)
    if given is None:
        return "not an address without a zone"
    judged = given.ipv4_mapped or given if isinstance(given, IPv6Address) else given
    if any(judged in net or given in net for net in policy.deny):
        return f"{judged} is in deny_networks"
    if any(judged in net for net in policy.allow):
        return None
    number = int(judged)
    for mask, prefix, reason in _SPECIAL[judged.version]:
        if number & mask == prefix:
            return f"{judged} is not a public address ({reason}) and not in egress.allow_networks"
    if scheme == "http" and not policy.allow_http:
        return f"plain http to {judged}, which is outside allow_networks; use https"
    return None


def _parse_address(address: str | Address) -> Address | None:
    """The address object, or None for what is no address or carries a zone (that names an interface of this host)."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return None
    return None if isinstance(address, IPv6Address) and address.scope_id is not None else address


def _parse_networks(name: str, texts: Sequence[str], problems: list[str]) -> tuple[Network, ...]:
    if len(texts) > MAX_NETWORKS:
        problems.append(f"{name}: at most {MAX_NETWORKS} networks, not {len(texts)}")
        return ()
    networks: dict[Network, None] = {}
    for text in texts:
        try:
            networks[_parse_network(text)] = None
        except ValueError as error:
            problems.append(f"{name}: {text!r}: {error}")
    return tuple(networks)


def _parse_network(text: str) -> Network:
    """One network; one inside ``::ffff:0:0/96`` becomes the IPv4 network it means, as addresses do."""
    if "%" in text:
        raise ValueError("not a network such as 10.0.0.0/8")
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _forbidden(policy: EgressPolicy, target: Target) -> str | None:
    """Judge a literal, a name that means loopback, and plain http that no address could make allowed."""
    literal = target.literal
    if literal is None and (target.host == "localhost" or target.host.endswith(".localhost")):
        literal = _LOOPBACK
    if literal is not None:
        return judge_address(policy, literal, target.scheme)
    if target.scheme == "http" and not policy.allow_http and not policy.allow:
        return "plain http is not allowed here; use https"
    return None
