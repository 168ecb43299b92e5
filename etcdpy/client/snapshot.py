"""Saves the whole state of a member in a file, as `etcdctl snapshot save` does."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

import grpc

from etcdpy.client.stubs import Maintenance
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Progress = Callable[[int, int], None]

_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size


class SnapshotFailed(Exception):
    """The state could not be saved; the text is the server's, or says what is wrong with what came."""


def save_snapshot(channel: grpc.Channel, path: Path, progress: Progress = lambda _done, _total: None) -> str:
    """Save the state to `path`, which appears when all of it is there, checked and synced, readable by its owner alone.

    `progress(done, total)` is told of bytes now and then. Returns the version that could read it. Raises
    SnapshotFailed, OSError; then nothing is left.
    """
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            version = _receive(channel, file, progress)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return version


def _receive(channel: grpc.Channel, file: BinaryIO, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    last = rpc_pb2.SnapshotResponse()
    try:
        for answer in Maintenance(channel).Snapshot(rpc_pb2.SnapshotRequest(), wait_for_ready=False):
            digest.update(last.blob)
            file.write(answer.blob)
            done += len(answer.blob)
            progress(done, done + answer.remaining_bytes)
            last = answer
    except grpc.RpcError as error:
        raise SnapshotFailed(error.details() or str(error.code())) from None
    if len(last.blob) != _CHECKSUM_BYTES or last.blob != digest.digest():
        raise SnapshotFailed("the checksum at the end does not match what came before it")
    return last.version
