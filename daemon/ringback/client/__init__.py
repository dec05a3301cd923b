"""The producer library: events to the daemon's socket, and their durable acknowledgement. Standard library only.

Role: what an application imports (CONTRACT, From Python). ``Producer`` blocks, ``AsyncProducer`` is for asyncio.
Rules: an event that was sent and not answered is sent again under the same id over the next connection, so that a
restart of the daemon is a pause and neither an error nor a double; every wait has a limit.
Must not know: anything of the daemon but its socket's protocol.
"""

from ringback.client.aio import AsyncProducer
from ringback.client.blocking import Producer
from ringback.client.errors import ProducerError, Rejected, Unavailable
from ringback.client.lines import Ack

__all__ = ["Ack", "AsyncProducer", "Producer", "ProducerError", "Rejected", "Unavailable"]
