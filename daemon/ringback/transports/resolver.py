"""Names to addresses, by c-ares (aiodns) alone.

The loop's own ``getaddrinfo`` runs in a small thread pool that three look-ups at a silent name server fill for
everybody, so it is never used. Here look-ups are independent datagrams: any number may hang without delaying another.

Rules: answers are kept for their TTL within named bounds, failures briefly; look-ups of one name are shared, and a
waiter that gives up harms neither the look-up nor the other waiters. ``/etc/hosts`` and ``localhost`` work.
Must not know: which addresses are allowed (every address is judged where it is dialled), HTTP, timeouts of requests.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Sequence

import aiodns
import msgspec
import pycares

from ringback.kit.clock import Clock
from ringback.kit.limits import lacking

MAX_CACHED_NAMES = 4096
MAX_ADDRESSES = 16  #: of one name; the rest is ignored
MAX_LOOKUPS = 4096  #: in flight at once, all names together
MIN_TTL_S = 1.0
MAX_TTL_S = 60.0
FAILURE_TTL_S = 1.0  #: a name that failed is not asked again for this long
QUERY_TIMEOUT_S = 1.0  #: until c-ares asks again, then it doubles: a lost datagram must not cost the connect deadline
QUERY_TRIES = 3
LOOKUP_TIMEOUT_S = 15.0  #: a look-up nobody waits for any more ends at the latest then


class Resolution(msgspec.Struct, frozen=True):
    """What a name resolved to: ``addresses`` as text in the order to try them, or none and the ``error``.

    ``expires_at`` is monotonic seconds. ``lack``: what this process lacked, so that no name server was asked.
    """

    addresses: tuple[str, ...]
    error: str | None
    expires_at: float
    lack: str | None = None


class Resolver:
    """A bounded, shared cache before c-ares.

    ``nameservers`` are ``address`` or ``address:port``; None or empty means the system's.
    """

    def __init__(self, *, clock: Clock, nameservers: Sequence[str] | None = None) -> None:
        self._clock = clock
        self._nameservers = tuple(nameservers or ())
        self._known: OrderedDict[str, Resolution] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Resolution]] = {}
        self._ares: aiodns.DNSResolver | None = None

    async def start(self) -> None:
        """Open the channel to the name servers. Raises ValueError on an unusable name server."""
        try:
            self._ares = aiodns.DNSResolver(
                nameservers=self._nameservers or None, timeout=QUERY_TIMEOUT_S, tries=QUERY_TRIES
            )
        except pycares.AresError as error:
            raise ValueError(
                f"the name servers {', '.join(self._nameservers)} are unusable: {error.args[-1]}"
            ) from error

    async def stop(self) -> None:
        """End every look-up and close the channel."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ares is not None:
            await self._ares.close()
            self._ares = None

    def remembers(self, host: str) -> bool:
        """Whether a look-up now would be answered from memory."""
        known = self._known.get(host)
        return known is not None and known.expires_at > self._clock.monotonic()

    async def resolve(self, host: str) -> Resolution:
        """Look a name up; always a value. Give it a deadline from outside: cancelling it is safe."""
        known = self._known.get(host)
        if known is not None and known.expires_at > self._clock.monotonic():
            return known
        task = self._asking.get(host)
        if task is None:
            if len(self._asking) >= MAX_LOOKUPS:
                return self._failed("too many look-ups are in flight")
            task = self._asking[host] = asyncio.create_task(self._look_up(host))
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        return await asyncio.shield(task)

    async def _look_up(self, host: str) -> Resolution:
        resolution = await self._ask(host)
        if resolution.lack is not None:
            return resolution
        self._known[host] = resolution
        self._known.move_to_end(host)
        if len(self._known) > MAX_CACHED_NAMES:
            self._known.popitem(last=False)
        return resolution

    async def _ask(self, host: str) -> Resolution:
        if self._ares is None:
            return self._failed("the resolver is not running")
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                answer = await self._ares.getaddrinfo(host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            return self._failed(str(error.args[-1]))
        except TimeoutError:
            return self._failed("the name servers do not answer")
        except UnicodeError:
            return self._failed("not a host name")
        nodes = answer.nodes[:MAX_ADDRESSES]
        if not nodes:
            return self._failed("the name has no address")
        addresses = tuple(dict.fromkeys(node.addr[0].decode() for node in nodes))
        ttl_s = min(max(float(min(node.ttl for node in nodes)), MIN_TTL_S), MAX_TTL_S)
        return Resolution(addresses, None, self._clock.monotonic() + ttl_s)

    def _failed(self, error: str) -> Resolution:
        lack = lacking()  # c-ares says of a socket it couldn't open what it says of a silent or absent name server
        return Resolution((), error, self._clock.monotonic() + FAILURE_TTL_S, lack)
