"""Saves and restores the whole state by the tools that operators use: etcd's own, and `etcdpyutl` for etcdpy."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.load import Load, LoadError
from bench.sides import SERVER_FLAGS
from etcdpy.proto import rpc_pb2
from tests.support.members import Kind, Member
from tests.support.reference import build_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.client import Client

VALUE_BYTES: Final = 1024
BATCH: Final = 100
ROW_MEGABYTES: Final = 100
"""What the rows of the bench save and restore."""


def store(client: Client, megabytes: int, starts: Iterable[int] | None = None) -> None:
    """Keys with values of 1 KB, by transactions of 100; only those batches that begin at `starts`, if given."""
    keys = megabytes * 1_000_000 // VALUE_BYTES
    for start in range(0, keys, BATCH) if starts is None else starts:
        puts = [
            rpc_pb2.PutRequest(key=b"key/%09d" % each, value=b"%08d" % each * (VALUE_BYTES // 8))
            for each in range(start, start + BATCH)
        ]
        client.txn(success=[rpc_pb2.RequestOp(request_put=put) for put in puts])


def store_row(client: Client) -> None:
    """What the bench's rows need."""
    store(client, ROW_MEGABYTES)


def save_row(member: Member, total: int) -> Load:
    """Save that many times."""
    with tempfile.TemporaryDirectory(dir=member.directory) as name:
        took = sorted(save(member, Path(name) / "saved.db") for _ in range(total))
    return Load(total, sum(took), took[len(took) // 2] * 1000, took[-1] * 1000)


def restore_row(member: Member, total: int) -> Load:
    """Restore what the member has, and start a new one on it, that many times."""
    took = []
    with tempfile.TemporaryDirectory(dir=member.directory) as name:
        path = Path(name) / "saved.db"
        save(member, path)
        took = sorted(sum(restore(member.kind, path, Path(name) / f"{number}")) for number in range(total))
    return Load(total, sum(took), took[len(took) // 2] * 1000, took[-1] * 1000)


def save(member: Member, path: Path) -> float:
    """Seconds that etcdctl takes."""
    path.unlink(missing_ok=True)
    command = [str(build_reference("etcdctl")), f"--endpoints={member.endpoint}", "snapshot", "save", str(path)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(f"snapshot save failed: {done.stderr[-500:]}")
    return time.monotonic() - began


def restore(kind: Kind, path: Path, directory: Path) -> tuple[float, float]:
    """Seconds of the restore, and from the member's start until it is healthy."""
    directory.mkdir()
    member = Member(kind, directory, name="restored", flags=SERVER_FLAGS)
    own = [flag for flag in member.peer_flags() if not flag.startswith("--listen")]
    tool = [str(build_reference("etcdutl"))] if kind == "etcd" else [sys.executable, "-m", "etcdpy.utl"]
    command = [*tool, "snapshot", "restore", str(path), f"--data-dir={member.data_dir}", "--name=restored", *own]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(f"snapshot restore failed: {done.stderr[-500:]}")
    restored = time.monotonic() - began
    began = time.monotonic()
    member.launch()
    try:
        member.wait_ready(120)
    finally:
        member.kill()
    return restored, time.monotonic() - began
