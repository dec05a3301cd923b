"""After a change of policy no connection made before it serves another request, and fewer idle ones may be kept."""

import asyncio

from tests.transports.http.helpers import request

PATIENCE_S = 20


class Patient:
    """A receiver that answers each request when it is allowed to, and counts its connections."""

    def __init__(self):
        self.connections = 0
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while await reader.readuntil(b'{"type":"a.b"}'):
                self.asked.set()
                await self.go.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def test_a_busy_connection_is_not_kept_over_a_change_of_policy(sender):
    """A request in flight at the change finishes, and its connection is closed instead of kept."""
    async with Patient() as receiver:
        flying = asyncio.create_task(sender.send(request(receiver.url), PATIENCE_S))
        await receiver.asked.wait()
        sender.close_idle()
        receiver.go.set()
        assert (await flying).status == 200
        assert sender.idle_connections == 0
        assert (await sender.send(request(receiver.url), PATIENCE_S)).status == 200
        assert (receiver.connections, sender.idle_connections) == (2, 1)
        sender.close_idle()


async def test_fewer_idle_connections_from_here_on(sender):
    """Lowering the limit closes the surplus, oldest first; none at all closes each at once."""
    async with Patient() as a, Patient() as b:
        a.go.set()
        b.go.set()
        for receiver in (a, b):
            await sender.send(request(receiver.url), PATIENCE_S)
        sender.limit_idle(1)
        assert sender.idle_connections == 1
        await sender.send(request(b.url), PATIENCE_S)
        assert b.connections == 1
        sender.limit_idle(0)
        await sender.send(request(b.url), PATIENCE_S)
        assert (b.connections, sender.idle_connections) == (2, 0)
