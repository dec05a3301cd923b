"""A name server on loopback whose answers a test decides: sequences, mixed sets, silence.

``async with DnsServer({"name.test": [["203.0.113.1"], ["127.0.0.1"]]}) as dns``: each query of a name takes the next
answer of its list, the last one stays. An empty answer is NODATA, a name not listed NXDOMAIN, ``SILENT`` no answer.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

SILENT = ["silent"]


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """The server; ``queries`` counts what was asked, by (name, type)."""

    zone: dict[str, list[list[str]]]
    ttl_s: int = 0
    queries: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self._transport.close()

    @property
    def address(self) -> str:
        """``address:port`` for a resolver."""
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query, or not."""
        query = DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        kind = QTYPE[query.q.qtype]
        turn = self.queries[name, kind]
        self.queries[name, kind] += 1
        answers = self.zone.get(name)
        reply = query.reply()
        if answers is None:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            answer = answers[min(turn, len(answers) - 1)]
            if answer is SILENT:
                return
            for address in answer:
                if kind == ("AAAA" if ":" in address else "A"):
                    data_of = AAAA(address) if ":" in address else A(address)
                    reply.add_answer(RR(name, query.q.qtype, rdata=data_of, ttl=self.ttl_s))
        self._transport.sendto(reply.pack(), addr)
