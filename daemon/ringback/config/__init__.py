"""Floor 4, settings: TOML and the environment become one frozen value, or a list of every problem.

Must not know: who uses a setting, or how.
"""

from ringback.config.settings import Settings
from ringback.config.sources import ConfigError, find_file, load

__all__ = ["ConfigError", "Settings", "find_file", "load"]
