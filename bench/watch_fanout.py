"""What handing out watch events costs on the server's side, without the socket: `python -m bench.watch_fanout`.

One line a case: how many watchers, how they are spread, microseconds an event delivered (or a watcher created).
"""

from __future__ import annotations

import gc
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING

from etcdpy.mvcc.watch import WatchHub, WatchStream
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.mvcc.watch import Change


class Sink:
    """An outbox whose client reads at once."""

    __slots__ = ("buffered_bytes", "count")

    def __init__(self) -> None:
        self.buffered_bytes = 0
        self.count = 0

    def send(self, message: bytes) -> None:
        self.count += 1

    def send_parts(self, parts: list[bytes]) -> None:
        self.count += 1


class Past:
    """History in a list, one put a revision."""

    compact_revision = -1

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.latest: dict[bytes, bytes] = {}

    @property
    def current_revision(self) -> int:
        return len(self.changes) + 1

    def put(self, key: bytes, value: bytes) -> Change:
        main = self.current_revision + 1
        record = kv_pb2.KeyValue(
            key=key, create_revision=1, mod_revision=main, version=2, value=value
        ).SerializeToString()
        self.latest[key] = record
        self.changes.append((main << 32, key, False, record))
        return self.changes[-1]

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        return self.latest.get(key)

    def changes_between(self, first_main: int, last_main: int) -> Iterator[Change]:
        return iter(self.changes[first_main - 2 : last_main - 1] if first_main > 1 else self.changes[: last_main - 1])


def make(streams: int, per_stream: int, **fields: object) -> tuple[Past, WatchHub, list[WatchStream]]:
    past = Past()
    hub = WatchHub(past, cluster_id=1 << 60, member_id=1 << 61, random=Random(1))
    hub.raft_term = 2
    opened = []
    for _ in range(streams):
        stream = hub.open_stream(Sink(), 0.0)
        for _ in range(per_stream):
            stream.create(rpc_pb2.WatchCreateRequest(**fields))  # type: ignore[arg-type]
        opened.append(stream)
    return past, hub, opened


def report(name: str, seconds: float, count: int) -> None:
    print(f"{name:<78} {seconds / count * 1e6:8.2f} us  ({count:,} in {seconds:.2f} s)")


def fan_out(name: str, streams: int, per_stream: int, events: int, batch: int = 1, **fields: object) -> None:
    past, hub, _ = make(streams, per_stream, **fields)
    value = b"x" * 256
    batches = [[past.put(b"/registry/pods/a", value) for _ in range(batch)] for _ in range(events // batch)]
    before = hub.events_total
    begun = perf_counter()
    for changes in batches:
        hub.notify(changes)
    report(name, perf_counter() - begun, hub.events_total - before)


def unwatched(name: str, watchers: int) -> None:
    past, hub, _ = make(1, 0)
    stream = hub.open_stream(Sink(), 0.0)
    for number in range(watchers):
        key = b"/p%04d/" % number
        stream.create(rpc_pb2.WatchCreateRequest(key=key, range_end=key[:-1] + b"0"))
    changes = [past.put(b"/other/%d" % number, b"x" * 256) for number in range(100_000)]
    begun = perf_counter()
    for change in changes:
        hub.notify([change])
    report(name, perf_counter() - begun, len(changes))


def creation(name: str, distinct: bool, prefixes: bool) -> None:
    past, hub, _ = make(0, 0)
    stream = hub.open_stream(Sink(), 0.0)
    requests = []
    for number in range(10_000):
        key = b"/range/%06d/" % (number if distinct else 0)
        end = key[:-1] + b"0" if prefixes else key + b"zz"
        requests.append(rpc_pb2.WatchCreateRequest(key=key, range_end=end))
    begun = perf_counter()
    for request in requests:
        stream.create(request)
    report(f"create, {name}", perf_counter() - begun, len(requests))
    begun = perf_counter()
    hub.notify([past.put(b"/range/000000/x", b"v")])
    report(f"  first event, {name}", perf_counter() - begun, 1)
    begun = perf_counter()
    stream.close()
    report(f"  close, {name}", perf_counter() - begun, len(requests))


def catch_up(name: str, streams: int, revisions: int, **fields: object) -> None:
    past, hub, _ = make(0, 0)
    for _ in range(revisions):
        past.put(b"/registry/pods/a", b"x" * 256)
    for _ in range(streams):
        stream = hub.open_stream(Sink(), 0.0)
        stream.create(rpc_pb2.WatchCreateRequest(start_revision=2, **fields))  # type: ignore[arg-type]
    longest = 0.0
    begun = perf_counter()
    more = True
    while more:
        slice_begun = perf_counter()
        more = hub.sync_slice()
        longest = max(longest, perf_counter() - slice_begun)
    report(f"{name}, longest slice {longest * 1e3:.1f} ms", perf_counter() - begun, hub.events_total)


def main() -> None:
    gc.freeze()
    key = b"/registry/pods/a"
    unwatched("put that nobody watches, 1 stream with 1 prefix watcher", 1)
    unwatched("put that nobody watches, 1,000 prefix watchers", 1000)
    fan_out("1 watcher, 1 event a batch", 1, 1, 50_000, key=key)
    fan_out("1 prefix watcher with prev_kv, 1 event a batch", 1, 1, 50_000, key=b"/r", range_end=b"/s", prev_kv=True)
    fan_out("1 watcher, 100 events a batch", 1, 1, 100_000, 100, key=key)
    fan_out("1,000 streams x 1 watcher", 1000, 1, 1000, key=key)
    fan_out("10 streams x 1,000 watchers", 10, 1000, 100, key=key)
    fan_out("1,000 streams x 10 watchers, prefix, prev_kv", 1000, 10, 100, key=b"/r", range_end=b"/s", prev_kv=True)
    fan_out("1 stream x 10,000 watchers, fragments", 1, 10_000, 50, key=key, fragment=True)
    creation("10,000 distinct prefixes", distinct=True, prefixes=True)
    creation("10,000 distinct other ranges", distinct=True, prefixes=False)
    creation("10,000 times one range", distinct=False, prefixes=True)
    catch_up("catch-up, 100 streams, 10,000 revisions", 100, 10_000, key=key)
    catch_up("catch-up, 10,000 streams, 8 revisions", 10_000, 8, key=b"/r", range_end=b"/s")


if __name__ == "__main__":
    main()
