"""What can go wrong on disk. Each message is one line that names the place and what to do.

None of these is an answer to a client: after any of them the member does not serve.
"""

from __future__ import annotations


class StorageError(Exception):
    """A read or write failed while running: disk full, I/O error, file system read-only, block damaged.

    What was not acknowledged by then must never be. The engine refuses all further writes: after a failed sync the
    kernel may have dropped the very pages that failed, so trying again proves nothing ("fsyncgate"). Restart instead.
    """


class DamagedError(StorageError):
    """The data directory contradicts itself. Names the file or record and the mend; nothing was changed."""


class DataDirError(StorageError):
    """The data directory cannot be used as it is: locked, foreign, of another version, not writable."""


class LockedError(DataDirError):
    """Another process holds the data directory."""


class EncryptionError(DataDirError):
    """Keys are missing, wrong or unusable. Names the key's id and the file or flag to mend, and never shows a key."""
