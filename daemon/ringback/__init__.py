"""ringback: a self-hosted webhook delivery daemon."""

from importlib.metadata import version

__version__ = version("ringback")
