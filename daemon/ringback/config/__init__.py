"""Floor 4, settings: TOML and the environment become one frozen value, or a list of every problem.

Must not know: who uses a setting, or how.
"""

from ringback.config.declarations import Declaration
from ringback.config.master_key import MasterKeys
from ringback.config.settings import Settings
from ringback.config.sources import ConfigError, Loaded, find_file, load, load_all, origins

__all__ = ["ConfigError", "Declaration", "Loaded", "MasterKeys", "Settings", "find_file", "load", "load_all", "origins"]
