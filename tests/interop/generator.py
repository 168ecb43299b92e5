"""Requests drawn from a seed: valid ones, edge cases and invalid ones, over few keys so that they meet each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from etcdpy.proto import rpc_pb2
from tests.interop.auth_generator import AuthGenerator

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN_KEYS: Final = [b"a", b"b", b"c", b"d", b"k/1", b"k/2", b"k/2/x", b"k/3", b"k0", b"z"]
_ODD_KEYS: Final = [b"\0", b"\0\0", b"a\0", b"\xff", b"\xff\xff", b"k/\xff", b"k" * 300, "ключ".encode()]
_EVERY_KEY: Final = _PLAIN_KEYS + _ODD_KEYS
_RANGE_ENDS: Final = [b"\0", b"a", b"c", b"k/", b"k0", b"k/3", b"z", b"\xff", b"\xff\xff\xff", b"\0\0", b"a\0\0"]
_LEASES: Final = [101, 102, 103, 104, 105, 106, 107, 108]
_LONG_TTLS: Final = [1000, 2000, 5000, 100_000, 9_000_000_000]

Range = rpc_pb2.RangeRequest
Op = rpc_pb2.RequestOp


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do on both servers: a call by name with its request, or a watch action."""

    call: str
    request: Any
    stream: int = 0
    """Of a watch action: which of the open streams."""
    who: str = "root"
    """Which user sends it, where users are switched on; empty for nobody."""


@dataclass(slots=True)
class Known:
    """What the drawing may lean on; the runner keeps it up to date from the answers of the first server."""

    revision: int = 1
    compacted: int = 0
    streams: int = 1
    watchers: dict[int, int] = field(default_factory=dict)
    """Per stream: how many watchers were asked for."""


class Generator:
    """Draws one step after the other. The same seed and the same answers give the same steps."""

    def __init__(self, seed: int, known: Known, *, users: bool = False) -> None:
        """`users`: they are switched on, so that requests come from several and some change what those may do."""
        self._random = Random(f"{seed}/requests")
        self._auth = AuthGenerator(Random(f"{seed}/users")) if users else None
        self._known = known
        self._counter = 0
        self._kinds: list[tuple[int, Callable[[], list[Step]]]] = [
            (260, lambda: [Step("Put", self._put())]),
            (240, lambda: [Step("Range", self._range())]),
            (60, lambda: [Step("RangeStream", self._range_for_stream())]),
            (80, lambda: [Step("DeleteRange", self._delete())]),
            (200, lambda: [Step("Txn", self._txn(depth=0))]),
            (30, self._grant),
            (15, lambda: [Step("LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=self._lease()))]),
            (15, lambda: [Step("LeaseKeepAlive", rpc_pb2.LeaseKeepAliveRequest(ID=self._lease()))]),
            (15, lambda: [Step("LeaseTimeToLive", self._time_to_live())]),
            (8, lambda: [Step("LeaseLeases", rpc_pb2.LeaseLeasesRequest())]),
            (8, lambda: [Step("Compact", self._compact())]),
            (20, lambda: [Step("HashKV", rpc_pb2.HashKVRequest(revision=self._revision()))]),
            (30, self._watch_create),
            (8, self._watch_cancel),
            (1, lambda: [Step("Put", self._oversized())]),
            (1, lambda: [Step("Defragment", rpc_pb2.DefragmentRequest())]),
            (3, lambda: [Step("Alarm", rpc_pb2.AlarmRequest(alarm=self._pick([0, 1, 2])))]),
        ]

    def next(self) -> list[Step]:
        """The next steps; mostly one."""
        if self._auth is not None:
            who = self._auth.sender()
            if self._chance(0.2):
                call, request = self._auth.next()
                return [Step(call, request, who=who if self._chance(0.1) else "root")]
            return [replace(step, who=who) for step in self._draw() if not step.call.startswith("Watch")]
        return self._draw()

    def _draw(self) -> list[Step]:
        draw = self._random.choices([kind for _, kind in self._kinds], [weight for weight, _ in self._kinds])[0]
        return draw()

    # --- drawing helpers ---

    def _pick(self, values: Any) -> Any:
        return self._random.choice(values)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _key(self, *, may_be_empty: bool = True) -> bytes:
        if may_be_empty and self._chance(0.01):
            return b""
        key: bytes = self._pick(_PLAIN_KEYS if self._chance(0.85) else _ODD_KEYS)
        return key

    def _range_end(self, single: float = 0.4) -> bytes:
        if self._chance(single):
            return b""
        end: bytes = self._pick(_RANGE_ENDS if self._chance(0.7) else _EVERY_KEY)
        return end

    def _span(self, single: float) -> tuple[bytes, bytes]:
        """A key and a range end."""
        key, end = self._key(), self._range_end(single)
        if self._auth is not None and end != b"\0" and end <= key:
            # Who may read a range that ends before it begins? Real etcd's answer depends on how its tree of permissions
            # happens to be balanced; such a range holds no key.
            end = b""
        return key, end

    def _value(self) -> bytes:
        self._counter += 1
        shape = self._random.random()
        if shape < 0.1:
            return b""
        if shape < 0.4:
            return self._pick([b"x", b"y", b"\0", b"\xff\xfe"])  # type: ignore[no-any-return]
        if shape < 0.97:
            return b"v%d" % self._counter
        return self._random.randbytes(self._random.randrange(1, 20_000))

    def _lease(self) -> int:
        if self._chance(0.1):
            return self._pick([0, -1, 1, 999_999, 2**63 - 1, -(2**63)])  # type: ignore[no-any-return]
        return self._pick(_LEASES)  # type: ignore[no-any-return]

    def _revision(self) -> int:
        now, compacted = self._known.revision, self._known.compacted
        shape = self._random.random()
        if shape < 0.5:
            return 0
        if shape < 0.75:
            return self._random.randint(max(compacted, 1), now)
        return self._pick(  # type: ignore[no-any-return]
            [now, now - 1, now + 1, now + 1000, compacted, compacted - 1, compacted + 1, 1, 2, -1, -2, -9, 2**62]
        )

    # --- single requests ---

    def _put(self, *, may_ignore: bool = True) -> rpc_pb2.PutRequest:
        request = rpc_pb2.PutRequest(key=self._key(), value=self._value(), prev_kv=self._chance(0.3))
        if self._chance(0.15):
            request.lease = self._lease()
        if may_ignore and self._chance(0.12):
            request.ignore_value = True
            if self._chance(0.8):
                request.value = b""
        if may_ignore and self._chance(0.1):
            request.ignore_lease = True
            if self._chance(0.8):
                request.lease = 0
        return request

    def _oversized(self) -> rpc_pb2.PutRequest:
        size = self._pick([1_572_864 - 200, 1_572_864, 1_572_865, 2_097_152 - 20, 2_097_152, 2_500_000])
        return rpc_pb2.PutRequest(key=b"large", value=bytes(size))

    def _range(self) -> rpc_pb2.RangeRequest:
        key, end = self._span(0.25)
        request = Range(key=key, range_end=end, revision=self._revision())
        if self._chance(0.35):
            request.limit = self._pick([1, 2, 3, 5, 10, -1, 2**63 - 1, -(2**63)])
        if self._chance(0.4):
            request.sort_order = self._pick([0, 1, 2, 2, 1, 3, -1]) if self._chance(0.3) else self._pick([0, 1, 2])
            request.sort_target = self._pick([5, -1]) if self._chance(0.05) else self._pick([0, 1, 2, 3, 4])
        request.serializable = self._chance(0.3)
        request.keys_only = self._chance(0.15)
        request.count_only = self._chance(0.12)
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self._chance(0.06):
                setattr(request, name, self._revision())
        return request

    def _range_for_stream(self) -> rpc_pb2.RangeRequest:
        request = self._range()
        if self._chance(0.85):  # most without what a stream refuses
            for name in ("sort_order", "min_mod_revision", "max_mod_revision"):
                request.ClearField(name)
            request.ClearField("min_create_revision")
            request.ClearField("max_create_revision")
        if not request.sort_order:
            # A target without an order makes etcd sort each chunk and go on after the key that is then the last: the
            # chunks overlap or leave keys out. That is nothing to agree with.
            request.sort_target = rpc_pb2.RangeRequest.KEY
        return request

    def _delete(self) -> rpc_pb2.DeleteRangeRequest:
        key, end = self._span(0.75)
        return rpc_pb2.DeleteRangeRequest(key=key, range_end=end, prev_kv=self._chance(0.4))

    def _compact(self) -> rpc_pb2.CompactionRequest:
        now, compacted = self._known.revision, self._known.compacted
        if self._chance(0.5):
            revision = self._random.randint(max(compacted, 1), now)
        else:
            revision = self._pick([now, now + 1, compacted, compacted - 1, 0, -1, 2**62])
        return rpc_pb2.CompactionRequest(revision=revision, physical=self._chance(0.8))

    def _time_to_live(self) -> rpc_pb2.LeaseTimeToLiveRequest:
        return rpc_pb2.LeaseTimeToLiveRequest(ID=self._lease(), keys=self._chance(0.6))

    def _grant(self) -> list[Step]:
        # Not 0: an id that the server picks differs from server to server.
        lease_id = self._lease() or self._pick(_LEASES)
        if self._chance(0.7):
            return [Step("LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=self._pick(_LONG_TTLS)))]
        # A lease that could expire while the run lasts is revoked at once.
        ttl = self._pick([0, 1, -5, 3, 9_000_000_001, 2**63 - 1, -(2**63)])
        return [
            Step("LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=555, TTL=ttl)),
            Step("LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=555)),
            Step("LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=555)),
        ]

    # --- transactions ---

    def _compare(self) -> rpc_pb2.Compare:
        key, end = self._span(0.7)
        compare = rpc_pb2.Compare(key=key, range_end=end)
        compare.result = self._pick([0, 1, 2, 3]) if self._chance(0.97) else self._pick([4, -1])
        compare.target = self._pick([0, 1, 2, 3, 4]) if self._chance(0.97) else self._pick([5, -1])
        names = ["version", "create_revision", "mod_revision", "value", "lease"]
        name = names[compare.target] if compare.target in range(5) and self._chance(0.9) else self._pick(names)
        if name == "value":
            compare.value = self._pick([b"", b"x", b"y", b"\xff\xfe"])
        elif self._chance(0.95):
            small = self._pick([0, 0, 1, 2, 3])
            operand = {"version": small, "lease": self._pick([0, self._lease()])}.get(name, self._revision())
            setattr(compare, name, operand)
        return compare

    def _operation(self, depth: int, *, may_ignore: bool) -> rpc_pb2.RequestOp:
        shape = self._random.random()
        if shape < 0.4:
            return Op(request_put=self._put(may_ignore=may_ignore))
        if shape < 0.7:
            return Op(request_range=self._range())
        if shape < 0.85:
            request = self._delete()
            if may_ignore and request.range_end == b"\0":
                # Real etcd overlooks that such a delete covers a put of the same transaction, and a put that then
                # finds nothing to keep (ignore_value) ends its process. So a transaction has one or the other.
                request.range_end = b""
            return Op(request_delete_range=request)
        if shape < 0.98 and depth < 3:
            return Op(request_txn=self._txn(depth + 1, may_ignore=may_ignore))
        return Op() if self._chance(0.2) else Op(request_range=self._range())

    def _operations(self, depth: int, *, may_ignore: bool) -> list[rpc_pb2.RequestOp]:
        count = self._pick([0, 1, 1, 2, 2, 3, 5])
        return [self._operation(depth, may_ignore=may_ignore) for _ in range(count)]

    def _txn(self, depth: int, *, may_ignore: bool | None = None) -> rpc_pb2.TxnRequest:
        if depth == 0 and self._chance(0.03):
            return self._txn_about_the_limit()
        if may_ignore is None:
            may_ignore = self._chance(0.5)
        return rpc_pb2.TxnRequest(
            compare=[self._compare() for _ in range(self._pick([0, 0, 1, 1, 2]))],
            success=self._operations(depth, may_ignore=may_ignore),
            failure=self._operations(depth, may_ignore=may_ignore),
        )

    def _txn_about_the_limit(self) -> rpc_pb2.TxnRequest:
        get = Op(request_range=Range(key=b"a"))
        outer = self._pick([1, 63, 64, 127, 128, 129])
        inner = self._pick([0, 1, 63, 64, 65, 127, 128])
        nested = Op(request_txn=rpc_pb2.TxnRequest(success=[get] * inner))
        return rpc_pb2.TxnRequest(success=[nested] + [get] * (outer - 1))

    # --- watches ---

    def _watch_create(self) -> list[Step]:
        stream = self._random.randrange(self._known.streams)
        request = rpc_pb2.WatchCreateRequest(
            key=self._key(),
            range_end=self._range_end(0.3),
            prev_kv=self._chance(0.4),
            fragment=self._chance(0.2),
            filters=self._pick([[], [], [], [0], [1], [0, 1], [7]]),
        )
        if self._chance(0.6):
            request.start_revision = self._revision()
        if self._chance(0.2):
            request.watch_id = self._pick([1, 2, 3, 7, 50, -4, 2**62])
        return [Step("WatchCreate", request, stream)]

    def _watch_cancel(self) -> list[Step]:
        stream = self._random.randrange(self._known.streams)
        asked = self._known.watchers.get(stream, 0)
        watch_id = self._random.randrange(asked + 2)
        return [Step("WatchCancel", rpc_pb2.WatchCancelRequest(watch_id=watch_id), stream)]
