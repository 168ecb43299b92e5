"""/metrics beside real etcd's: no name etcd has not, the same types and labels, and a reason for each one missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.client import Client
from tests.support.members import Member

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference

_BBOLT = "a step of a commit to bbolt; there is none here"
_SNAPSHOT_FILES = "etcd writes snapshot files; the applied state here is one database"
_WATCH_TIMES = "times of a loop a stream that this server does not have"
_V2 = "left over from the v2 store"
_PROXY = "belongs to the gRPC proxy"
_GO = "Go's own; python_* and process_* stand in"

LACKING: Final = {
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": _BBOLT,
    "etcd_debugging_disk_backend_commit_spill_duration_seconds": _BBOLT,
    "etcd_debugging_disk_backend_commit_write_duration_seconds": _BBOLT,
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": "the index is compacted along with the records",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds": _WATCH_TIMES,
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds": _WATCH_TIMES,
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds": _WATCH_TIMES,
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds": _WATCH_TIMES,
    "etcd_debugging_snap_save_marshalling_duration_seconds": _SNAPSHOT_FILES,
    "etcd_debugging_store_expires_total": _V2,
    "etcd_debugging_store_watch_requests_total": _V2,
    "etcd_debugging_store_watchers": _V2,
    "etcd_disk_wal_write_duration_seconds": "a write and its sync are one call to LevelDB, counted as fsync",
    "etcd_grpc_proxy_cache_hits_total": _PROXY,
    "etcd_grpc_proxy_cache_keys_total": _PROXY,
    "etcd_grpc_proxy_cache_misses_total": _PROXY,
    "etcd_grpc_proxy_events_coalescing_total": _PROXY,
    "etcd_grpc_proxy_watchers_coalescing_total": _PROXY,
    "process_network_receive_bytes_total": _GO,
    "process_network_transmit_bytes_total": _GO,
}
OURS: Final = re.compile(r"etcdpy_.*|python_.*")
THEIRS: Final = re.compile(r"go_.*")


class Page:
    """The names of one scrape: type, labels, and the bucket bounds of histograms."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.labels: dict[str, set[tuple[str, ...]]] = {}
        self.bounds: dict[str, set[str]] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.types[name] = kind
            elif not line.startswith("#"):
                self._sample(line)

    def _sample(self, line: str) -> None:
        match = re.match(r"([a-zA-Z0-9_:]+)(?:\{(.*)\})? ", line)
        assert match, line
        name = match[1]
        for suffix in ("_bucket", "_sum", "_count"):
            base = name.removesuffix(suffix)
            if self.types.get(base) == "histogram":
                name = base
        pairs = dict(re.findall(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        bound = pairs.pop("le", None)
        if bound is not None:
            self.bounds.setdefault(name, set()).add(bound)
        self.labels.setdefault(name, set()).add(tuple(sorted(pairs)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Page]:
    """Real etcd's page and ours, after the same few requests."""
    directory = tmp_path_factory.mktemp("pages")
    return scrape("etcd", directory), scrape("etcdpy", directory)


def scrape(kind: str, directory: Path) -> Page:
    place = directory / kind
    place.mkdir()
    with Member("etcd" if kind == "etcd" else "etcdpy", place, flags=["--metrics=extensive"]) as member:
        with Client.of(member) as client:
            client.put(b"a", b"1")
            client.range(b"a")
            client.delete(b"a")
            client.grant(60)
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            assert member.http("GET", path).status == 200
        return Page(member.http("GET", "/metrics").body.decode())


def test_every_name_is_etcds(pages: tuple[Page, Page]) -> None:
    theirs, ours = pages
    assert [name for name in ours.types if name not in theirs.types and not OURS.fullmatch(name)] == []


def test_what_is_missing_is_missing_for_a_reason(pages: tuple[Page, Page]) -> None:
    theirs, ours = pages
    missing = {name for name in theirs.types if name not in ours.types and not THEIRS.fullmatch(name)}
    assert sorted(missing - set(LACKING)) == []
    assert sorted(set(LACKING) - missing) == [], "these are there now: take them off the list"


def test_types_labels_and_buckets_are_etcds(pages: tuple[Page, Page]) -> None:
    theirs, ours = pages
    shared = [name for name in ours.types if name in theirs.types]
    assert {name: ours.types[name] for name in shared} == {name: theirs.types[name] for name in shared}
    assert {name: ours.labels[name] for name in shared} == {name: theirs.labels[name] for name in shared}
    histograms = [name for name in shared if ours.types[name] == "histogram"]
    assert len(histograms) >= 10
    assert {name: ours.bounds[name] for name in histograms} == {name: theirs.bounds[name] for name in histograms}
