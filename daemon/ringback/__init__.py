"""ringback: a self-hosted webhook delivery daemon, and the library its producers use.

``from ringback import Producer, AsyncProducer``: see ``ringback.client``. Importing this package imports nothing of the
daemon, and none of what the daemon needs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback.client import Ack, AsyncProducer, Producer, ProducerError, Rejected, Unavailable

    __version__: str

__all__ = ["Ack", "AsyncProducer", "Producer", "ProducerError", "Rejected", "Unavailable", "__version__"]


def __getattr__(name: str) -> Any:
    """Load what is asked for, and only that."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - a producer needn't wait for it

        return version("ringback")
    if name in __all__:
        from ringback import client  # noqa: PLC0415 - the daemon doesn't need it

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
