"""What can go wrong with the state directory or a query, by name.

Role: the exceptions of the store that callers are meant to catch. Everything else that escapes is a bug.
Rule: each message says what was found and what the operator can do.
"""


class StateError(Exception):
    """The state directory can't be used. Subclasses say why."""


class StateLocked(StateError):  # noqa: N818 - a state of affairs, named as such
    """Another daemon owns the directory. ``pid`` is its process id, None if it left none."""

    def __init__(self, directory: str, pid: int | None) -> None:
        super().__init__(f"{directory} is in use by another daemon" + (f" (pid {pid})" if pid else ""))
        self.pid = pid


class StateLost(StateError):  # noqa: N818 - a state of affairs, named as such
    """The marker says there was a database, and there is none (or an empty file)."""


class StateCorrupt(StateError):  # noqa: N818 - a state of affairs, named as such
    """The database is damaged or not ours. It was left untouched."""


class StateNewer(StateError):  # noqa: N818 - a state of affairs, named as such
    """The database was written by a newer release."""


class StateUnusable(StateError):  # noqa: N818 - a state of affairs, named as such
    """The directory or this machine's SQLite doesn't allow what the store needs."""


class StateFull(StateUnusable):
    """The disk is full, and there was no ballast to let go."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} can't be opened because the disk is full: free some space, nothing is lost")


class KeyProblem(StateError):  # noqa: N818 - a state of affairs, named as such
    """The database is encrypted and can't be opened with what is there. Nothing was changed."""


class MasterKeyMissing(KeyProblem):
    """There is a sealed keyring and no master key."""

    def __init__(self, keyring: object) -> None:
        super().__init__(
            f"{keyring} is sealed and there is no master key: give the credential `master-key` to the unit, or name its"
            " file in [encryption] key_file"
        )


class MasterKeyWrong(KeyProblem):
    """The master key doesn't open the keyring."""

    def __init__(self, keyring: object, *, tried_old: bool) -> None:
        also = (
            ". Nor does the old one open it"
            if tried_old
            else ": give that one, or, to change it, name it beside the new one (encryption.old_key_file)"
        )
        super().__init__(f"{keyring} was sealed by another master key than the one that is given{also}")


class KeyringLost(KeyProblem):
    """The keyring is not there, or lacks keys that rows are sealed with."""


class StoreError(Exception):
    """An operation failed. ``code`` is that of ``ops.Failed``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class QueryTimeout(Exception):  # noqa: N818 - named after what happened, as TimeoutError's kin
    """A read took longer than its limit and was interrupted; ask for less."""


class InvariantError(Exception):
    """A statement changed another number of rows than the plan says: a bug, never an input error."""
