"""How values lie in the columns: the rare options of an event, an endpoint's spec, the checksum of data.

Role: the only place that knows these encodings. Append to the structs only: rows of every release must stay readable.
"""

import zlib

import msgspec

from ringback.core.model import Callback, Endpoint, Event, Peer


class EventOpts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What only some events have: who handed it in, its wishes about time, and when it was erased."""

    via: str | None = None
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    deliver_after_ms: int | None = None
    expires_at_ms: int | None = None
    erased_at_ms: int | None = None

    @property
    def peer(self) -> Peer | None:
        """Who handed the event in, None if unknown."""
        return None if self.via is None else Peer(self.via, self.uid, self.gid, self.pid)


NO_OPTS = EventOpts()

_encoder = msgspec.msgpack.Encoder()
_opts_decoder = msgspec.msgpack.Decoder(EventOpts)
_callback_decoder = msgspec.msgpack.Decoder(Callback)
_spec_encoder = msgspec.json.Encoder()
_spec_decoder = msgspec.json.Decoder(Endpoint)


def encode_opts(event: Event, peer: Peer | None) -> bytes | None:
    """The opts column of an event: None when there is nothing to say."""
    if peer is not None:
        opts = EventOpts(peer.via, peer.uid, peer.gid, peer.pid, event.deliver_after_ms, event.expires_at_ms)
    elif event.deliver_after_ms is not None or event.expires_at_ms is not None:
        opts = EventOpts(deliver_after_ms=event.deliver_after_ms, expires_at_ms=event.expires_at_ms)
    else:
        return None
    return _encoder.encode(opts)


def decode_opts(column: bytes | None) -> EventOpts:
    """The reverse of ``encode_opts``."""
    return NO_OPTS if column is None else _opts_decoder.decode(column)


def erased_opts(column: bytes | None, now_ms: int) -> bytes:
    """The same of an event that is erased now: its times stay, who handed it in goes."""
    old = decode_opts(column)
    return _encoder.encode(
        EventOpts(deliver_after_ms=old.deliver_after_ms, expires_at_ms=old.expires_at_ms, erased_at_ms=now_ms)
    )


def encode_callback(callback: Callback) -> bytes:
    """A callback as its column."""
    return _encoder.encode(callback)


def decode_callback(column: bytes) -> Callback:
    """The reverse of ``encode_callback``."""
    return _callback_decoder.decode(column)


def encode_spec(endpoint: Endpoint) -> bytes:
    """An endpoint as its column."""
    return _spec_encoder.encode(endpoint)


def decode_spec(column: bytes) -> Endpoint:
    """The reverse of ``encode_spec``."""
    return _spec_decoder.decode(column)


def checksum(data: bytes) -> int:
    """CRC-32 of an event's data: neither SQLite nor the disk notices a flipped bit inside a payload."""
    return zlib.crc32(data)
