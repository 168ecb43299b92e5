"""Saving through the API: what comes is checked, and nothing half is left."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.client.client import Client
from etcdpy.client.snapshot import SnapshotFailed
from etcdpy.errors import EtcdError
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 40


def parts(end: bytes) -> list[rpc_pb2.SnapshotResponse]:
    blobs = [CONTENT[start : start + 4000] for start in range(0, len(CONTENT), 4000)]
    left, answers = len(CONTENT), []
    for blob in [*blobs, end]:
        left -= len(blob) if blob is not end else 0
        answers.append(rpc_pb2.SnapshotResponse(remaining_bytes=left, blob=blob, version="3.7.0"))
    return answers


class Server:
    """Answers Snapshot with what it is given; an error text ends the call."""

    def __init__(self, answers: list[rpc_pb2.SnapshotResponse], error: str = "") -> None:
        def snapshot(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            for answer in answers:
                yield answer.SerializeToString()
            if error:
                context.abort(grpc.StatusCode.UNAVAILABLE, error)

        handler: Any = grpc.unary_stream_rpc_method_handler(snapshot)
        self._server = grpc.server(ThreadPoolExecutor(1))
        service = grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", {"Snapshot": handler})
        self._server.add_generic_rpc_handlers((service,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Client:
        self._server.start()
        self._client = Client(f"127.0.0.1:{self.port}")
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.stop(None).wait()


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "saved.db"
    seen: list[tuple[int, int]] = []
    digest = hashlib.sha256(CONTENT).digest()
    with Server(parts(digest)) as client:
        assert client.snapshot(path, lambda done, total: seen.append((done, total))) == "3.7.0"
    assert path.read_bytes() == CONTENT + digest
    assert path.stat().st_mode & 0o777 == 0o600
    assert seen[-2] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["saved.db"]


@pytest.mark.parametrize(
    ("end", "error", "text"),
    [
        (bytes(32), "", "the checksum at the end does not match"),
        (b"short", "", "the checksum at the end does not match"),
        (hashlib.sha256(CONTENT).digest(), "etcdserver: the disk is full", "etcdserver: the disk is full"),
    ],
)
def test_what_is_not_whole_leaves_nothing(tmp_path: Path, end: bytes, error: str, text: str) -> None:
    with Server(parts(end), error) as client, pytest.raises(EtcdError if error else SnapshotFailed, match=text):
        client.snapshot(tmp_path / "saved.db")
    assert list(tmp_path.iterdir()) == []


def test_no_answer_at_all_is_no_snapshot(tmp_path: Path) -> None:
    with Server([]) as client, pytest.raises(SnapshotFailed):
        client.snapshot(tmp_path / "saved.db")
    assert list(tmp_path.iterdir()) == []
