"""Plays tests/scenarios/mvcc: what a sequence of requests answers, and what it leaves in the index and on disk.

put key= value= lease=             delete key= end=           range key= end= limit= revision= ...
txn  (body: `if version a = 0`, `then put a 1`, `then delete a c`, `else get a`)
compact revision=  step            pin revision=  unpin revision=
index  disk  sizes                 hash revision=             restart
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.backend import REVISION_BUCKET
from etcdpy.mvcc.compaction import WAITS
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import range_part_steps
from etcdpy.mvcc.record import key_of
from etcdpy.mvcc.revision import BUCKET_END, from_disk_key, is_tombstone_key
from etcdpy.mvcc.store import NoLeases, Pin, Store
from etcdpy.mvcc.txn import apply_delete_range, apply_put, apply_txn, range_options
from etcdpy.proto import rpc_pb2
from tests.support.memory_backend import MemoryBackend
from tests.support.scenario import run_scenario, scenario_files

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.mvcc.index import KeyHistory

FILES = scenario_files(Path(__file__).parents[2] / "scenarios" / "mvcc")
SYMBOLS = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}
OPERANDS = {"create": "create_revision", "mod": "mod_revision"}


class AnyLease(NoLeases):
    def exists(self, lease: int) -> bool:
        return lease < 100


def show(packed: int) -> str:
    return f"{packed >> 32}.{packed & 0xFFFFFFFF}"


def show_kv(kv: Any) -> str:
    lease = f" lease={kv.lease}" if kv.lease else ""
    numbers = f"create={kv.create_revision} mod={kv.mod_revision} version={kv.version}{lease}"
    return f"{kv.key.decode()}={kv.value.decode()!r} {numbers}"


class Player:
    """One store, and what happens to it between commands."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.store = Store.open(self.backend, AnyLease())
        self.steps: Generator[int, None, None] | None = None
        self.pins: dict[str, Pin] = {}

    def put(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        request = rpc_pb2.PutRequest(
            key=arguments["key"].encode(),
            value=arguments.get("value", "").encode(),
            lease=int(arguments.get("lease", 0)),
            prev_kv="prev" in arguments,
            ignore_value="ignore_value" in arguments,
            ignore_lease="ignore_lease" in arguments,
        )
        answer = rpc_pb2.PutResponse.FromString(apply_put(self.store, request))
        return "\n".join([self.revision(), *(["was " + show_kv(answer.prev_kv)] if answer.HasField("prev_kv") else [])])

    def revision(self) -> str:
        return f"revision {self.store.current_revision}"

    def delete(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        request = rpc_pb2.DeleteRangeRequest(
            key=arguments["key"].encode(), range_end=arguments.get("end", "").encode(), prev_kv="prev" in arguments
        )
        answer = rpc_pb2.DeleteRangeResponse.FromString(apply_delete_range(self.store, request))
        if "quiet" in arguments:
            return self.revision()
        return "\n".join(
            [f"{self.revision()} deleted {answer.deleted}", *("was " + show_kv(kv) for kv in answer.prev_kvs)]
        )

    def range(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        fields: dict[str, Any] = {"key": arguments.pop("key").encode(), "range_end": arguments.pop("end", "").encode()}
        fields["range_end"] = fields["range_end"].replace(b"zero", b"\0")
        for name, value in arguments.items():
            kind = {"sort_order": rpc_pb2.RangeRequest.SortOrder, "sort_target": rpc_pb2.RangeRequest.SortTarget}
            fields[name] = kind[name].Value(value) if name in kind else int(value) if value else True
        request = rpc_pb2.RangeRequest(**fields)
        result = self.store.range(request.key, request.range_end, range_options(request))
        return self.show_range(rpc_pb2.RangeResponse.FromString(b"".join(finish(range_part_steps(result)))))

    def show_range(self, answer: Any) -> str:
        return "\n".join([*map(show_kv, answer.kvs), f"count {answer.count}" + (" more" if answer.more else "")])

    def txn(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        request = rpc_pb2.TxnRequest()
        for line in body:
            word, *rest = line.split()
            if word == "if":
                request.compare.append(self.compare(*rest))
            else:
                (request.success if word == "then" else request.failure).append(self.operation(*rest))
        answer = rpc_pb2.TxnResponse.FromString(apply_txn(self.store, request))
        lines = [f"{self.revision()} {'succeeded' if answer.succeeded else 'failed'}"]
        for response in answer.responses:
            kind = response.WhichOneof("response") or "nothing"
            inner = getattr(response, kind)
            lines.append(f"{kind.removeprefix('response_')} at {inner.header.revision}")
            lines += ["  " + line for line in self.show_range(inner).splitlines()] if kind == "response_range" else []
            lines += [f"  deleted {inner.deleted}"] if kind == "response_delete_range" else []
        return "\n".join(lines)

    def compare(self, target: str, key: str, symbol: str, operand: str) -> rpc_pb2.Compare:
        value: Any = operand.encode() if target == "value" else int(operand)
        return rpc_pb2.Compare(
            key=key.encode(),
            target=rpc_pb2.Compare.CompareTarget.Value(target.upper()),
            result=rpc_pb2.Compare.CompareResult.Value(SYMBOLS[symbol]),
            **{OPERANDS.get(target, target): value},
        )

    def operation(self, kind: str, key: str, other: str = "") -> rpc_pb2.RequestOp:
        if kind == "put":
            return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key.encode(), value=other.encode()))
        if kind == "delete":
            request = rpc_pb2.DeleteRangeRequest(key=key.encode(), range_end=other.encode())
            return rpc_pb2.RequestOp(request_delete_range=request)
        return rpc_pb2.RequestOp(
            request_range=rpc_pb2.RangeRequest(key=key.encode(), range_end=b"", revision=int(other or 0))
        )

    def compact(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        self.store.compact(int(arguments["revision"]))
        if "finish" in arguments:
            removed = sum(self.store.compaction_steps())
            return "" if "quiet" in arguments else f"removed {removed}"
        return f"compact revision {self.store.compact_revision}"

    def step(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        if self.steps is None:
            self.steps = self.store.compaction_steps(int(arguments.get("batch", 1000)))
        try:
            removed = next(self.steps)
        except StopIteration:
            self.steps = None
            return "finished"
        return "waits" if removed == WAITS else f"removed {removed}"

    def pin(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        revision = arguments["revision"]
        if command == "pin":
            self.pins[revision] = self.store.pin(int(revision))
            self.pins[revision].__enter__()
        else:
            self.pins.pop(revision).__exit__(None, None, None)
        return ""

    def index(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        """Generations oldest first; `x` ends one. A key whose history is one put shows without brackets."""
        lines = []
        for key in sorted(self.store.index.entries):
            entry = self.store.index.entries[key]
            if isinstance(entry, int):
                state = self.store.index.current(key)
                assert state is not None
                lines.append(f"{key.decode()}: {show(state.mod)} create={state.create} version={state.version}")
                continue
            generations: list[str] = []
            history: KeyHistory | None = entry
            while history is not None:
                end = " x" if history.ended else f" version={history.version}"
                generations.insert(0, f"[{' '.join(map(show, history.revisions))}{end}]")
                history = history.older
            lines.append(f"{key.decode()}: {' '.join(generations)}")
        return "\n".join(lines)

    def disk(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        lines = []
        for key, record in self.backend.scan(REVISION_BUCKET, BUCKET_END):
            mark = " deleted" if is_tombstone_key(key) else ""
            lines.append(f"{show(from_disk_key(key))} {key_of(record).decode()}{mark}")
        return "\n".join(lines)

    def sizes(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        if "defragment" in arguments:
            self.store.defragment()
        return f"records {self.store.record_count} in use {self.store.bytes_in_use} total {self.store.size_total}"

    def hash(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        digest = finish(self.store.hash_kv_steps(int(arguments.get("revision", 0))))
        return f"{digest.hash:08x} revision {digest.revision} compacted {digest.compact_revision}"

    def restart(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        self.backend, self.steps = self.backend.copy(), None
        self.store = Store.open(self.backend, AnyLease())
        pending = " compaction pending" if self.store.compactions.pending else ""
        leases = " ".join(f"{key.decode()}@{lease}" for key, lease in self.store.leased_keys())
        return f"{self.revision()} compacted {self.store.compact_revision}{pending}" + (f"\n{leases}" if leases else "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path, rewrite: bool) -> None:
    player = Player()
    names = ("put", "delete", "range", "txn", "compact", "step", "index", "disk", "sizes", "hash", "restart")
    handlers = {name: getattr(player, name) for name in names} | {"pin": player.pin, "unpin": player.pin}
    run_scenario(path, handlers, rewrite=rewrite)
