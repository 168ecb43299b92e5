"""Saves the whole state of a member in a file, as `etcdctl snapshot save` does."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

import grpc

from etcdpy.client.stubs import Maintenance
from etcdpy.errors import Code
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Progress = Callable[[int, int], None]
    Metadata = tuple[tuple[str, str], ...]

_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size


class SnapshotFailed(Exception):
    """The state could not be saved; the text is the server's, or says what is wrong with what came.

    With the server's goes its `code`.
    """

    def __init__(self, text: str, code: Code | None = None) -> None:
        super().__init__(text)
        self.code = code


def save_snapshot(
    channel: grpc.Channel,
    path: Path,
    progress: Progress = lambda _done, _total: None,
    *,
    timeout_seconds: float | None = None,
    metadata: Metadata = (),
) -> str:
    """Save the state to `path`, which appears when all of it is there, checked and synced, readable by its owner alone.

    `progress(done, total)` is told of bytes now and then. With a timeout an endpoint that does not answer is waited
    for. `metadata` carries the token where users are on. Returns the version that could read it. Raises
    SnapshotFailed, OSError; then nothing is left.
    """
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            answers = Maintenance(channel).Snapshot(
                rpc_pb2.SnapshotRequest(),
                timeout=timeout_seconds,
                metadata=metadata,
                wait_for_ready=timeout_seconds is not None,
            )
            version = _receive(answers, file, progress)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return version


def _receive(answers: Iterable[rpc_pb2.SnapshotResponse], file: BinaryIO, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    last = rpc_pb2.SnapshotResponse()
    try:
        for answer in answers:
            digest.update(last.blob)
            file.write(answer.blob)
            done += len(answer.blob)
            progress(done, done + answer.remaining_bytes)
            last = answer
    except grpc.RpcError as error:
        raise SnapshotFailed(error.details() or str(error.code()), Code(error.code().value[0])) from None
    if len(last.blob) != _CHECKSUM_BYTES or last.blob != digest.digest():
        raise SnapshotFailed("the checksum at the end does not match what came before it")
    return last.version
