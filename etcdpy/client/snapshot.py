"""Saves the whole state of a member in a file, as `etcdctl snapshot save` does."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[int, int], None]

_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size


class SnapshotFailed(Exception):
    """What came is not the state; the text says what is wrong with it."""


@contextmanager
def receiving(path: Path, progress: Progress) -> Iterator[Receiver]:
    """Take in a snapshot, which is at `path` when all of it is there, checked and synced, readable by its owner alone.

    Raises SnapshotFailed, OSError; then nothing is left.
    """
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            receiver = Receiver(file, progress)
            yield receiver
            receiver.check()
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Receiver:
    """Writes down what comes, and checks it at the end."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self._digest = hashlib.sha256()
        self._done = 0
        self._last = rpc_pb2.SnapshotResponse()

    def add(self, answer: rpc_pb2.SnapshotResponse) -> None:
        """The next part; the last one is the digest of all before it. Raises OSError."""
        self._digest.update(self._last.blob)
        self._file.write(answer.blob)
        self._done += len(answer.blob)
        self._progress(self._done, self._done + answer.remaining_bytes)
        self._last = answer

    @property
    def version(self) -> str:
        """The version that could read it, as the last part names it."""
        return self._last.version

    def check(self) -> None:
        """Raises SnapshotFailed where something is missing or wrong."""
        if len(self._last.blob) != _CHECKSUM_BYTES or self._last.blob != self._digest.digest():
            raise SnapshotFailed("the checksum at the end does not match what came before it")
