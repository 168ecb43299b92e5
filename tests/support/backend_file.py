"""Backend files for tests: made from a state in memory, read back, and looked at with real etcd's tools."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.interchange.bolt_writer import layout_steps, write_steps
from etcdpy.interchange.export import export_steps
from etcdpy.interchange.ingest import SnapshotContent, ingest_steps
from etcdpy.mvcc.fetch import finish
from etcdpy.raft.types import ConfState
from tests.support.memory_backend import MemoryBackend
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Buckets = dict[bytes, dict[bytes, bytes]]

GROUP: Final = ConfState((1,))


@dataclass
class MemoryView:
    """What export reads, over a state in memory."""

    backend: MemoryBackend = field(default_factory=MemoryBackend)
    applied_index: int = 7
    applied_term: int = 2
    conf_state: ConfState = GROUP

    def get(self, key: bytes) -> bytes | None:
        return self.backend.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.backend.scan(start, end)


def export_file(view: MemoryView, path: Path) -> Path:
    """The view in a backend file."""
    with path.open("wb") as file:
        assert finish(export_steps(view, file)) == path.stat().st_size
    return path


def ingest_file(path: Path) -> tuple[SnapshotContent, MemoryBackend]:
    """What is in a backend file."""
    backend = MemoryBackend()
    content = finish(ingest_steps(path, backend.put_many))
    return content, backend


def write_file(path: Path, buckets: Mapping[bytes, Mapping[bytes, bytes]]) -> Path:
    """A bbolt file with these buckets."""
    with path.open("wb") as file:
        ordered = [(name, sorted(items.items())) for name, items in sorted(buckets.items())]
        layout = finish(layout_steps(ordered))
        finish(write_steps(file, ordered, layout))
    assert path.stat().st_size == layout.size_bytes
    return path


def read_file(path: Path) -> Buckets:
    """All buckets of a bbolt file."""
    with BoltFile(path) as file:
        return {name: dict(file.scan(name)) for name in file.buckets()}


def etcdutl(*arguments: str | Path) -> Any:
    """What real etcdutl prints, as JSON. Fails with what it said."""
    command = [str(reference_binary("etcdutl")), *map(str, arguments), "--write-out=json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def check_with_bbolt(path: Path) -> Any:
    """Have bbolt check every page of the file, and say what is in it: etcdutl's status does both."""
    return etcdutl("snapshot", "status", path)


def add_checksum(path: Path) -> None:
    """Append what etcd's saved snapshots end with."""
    with path.open("ab") as file:
        file.write(hashlib.sha256(path.read_bytes()).digest())
