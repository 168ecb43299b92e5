"""A grpcio client for tests: every service's calls, and a watch stream that collects what it is sent."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc

from etcdpy.client.stubs import KV, Auth, Cluster, Election, Lease, Lock, Maintenance, Watch
from etcdpy.errors import Code
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.members import Member, TlsFiles

CALL_SECONDS_MAX: Final = 15.0
"""Longer than a server's own request timeout (7 s), so that its answer comes before ours."""
PATIENCE_SECONDS: Final = 15.0
"""How long to wait for what is to come: three workers share two cores. Who measures time says so."""

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for every channel
]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error that a call ended with: the code's label as Go prints it, and the text."""

    code: str
    text: str


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Code and text of a failed call."""
    assert isinstance(error, grpc.Call)
    return Refusal(Code(error.code().value[0]).label, error.details() or "")


def outcome(call: Callable[..., Answer], request: object, **options: Any) -> Answer | Refusal:
    """The answer of a unary call, or the error it ended with."""
    try:
        return call(request, **{"timeout": CALL_SECONDS_MAX, **options})
    except grpc.RpcError as error:
        return refusal_of(error)


def refusal(call: Callable[..., Any], request: object, **options: Any) -> Refusal:
    """The error of a unary call that must fail."""
    result = outcome(call, request, **options)
    assert isinstance(result, Refusal), f"expected an error, got {result!r}"
    return result


def open_channel(endpoint: str, tls: TlsFiles | None = None, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel with one connection of its own."""
    every_option = [*_OPTIONS, *options]
    if tls is None:
        return grpc.insecure_channel(endpoint, options=every_option)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(), tls.client_key.read_bytes(), tls.client_cert.read_bytes()
    )
    return grpc.secure_channel(endpoint, credentials, options=every_option)


class WatchStream:
    """One Watch stream. Requests are sent by methods; a thread collects the responses in order."""

    def __init__(self, stub: Watch, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        self._arrived = threading.Condition()
        self.responses: list[rpc_pb2.WatchResponse] = []
        self.ended: Refusal | None = None
        """Set when the stream is over; Code OK where the server ended it without an error."""
        self._read_upto = 0
        self._call = stub.Watch(iter(self._requests.get, None), metadata=metadata)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        ended = Refusal("OK", "")
        try:
            for response in self._call:
                with self._arrived:
                    self.responses.append(response)
                    self._arrived.notify_all()
        except grpc.RpcError as error:
            ended = refusal_of(error)
        with self._arrived:
            self.ended = ended
            self._arrived.notify_all()

    def create(self, key: bytes, range_end: bytes = b"", **fields: Any) -> None:
        """Ask for a watcher."""
        create = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, **fields)
        self._requests.put(rpc_pb2.WatchRequest(create_request=create))

    def cancel(self, watch_id: int) -> None:
        """Cancel a watcher."""
        self._requests.put(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    def request_progress(self) -> None:
        """Ask for one progress notification."""
        self._requests.put(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    def send(self, request: rpc_pb2.WatchRequest) -> None:
        """Send any request, also a malformed one."""
        self._requests.put(request)

    def half_close(self) -> None:
        """Send nothing more."""
        self._requests.put(None)

    def next(self, seconds_max: float = PATIENCE_SECONDS) -> rpc_pb2.WatchResponse:
        """The next response not read yet; an assertion fails when none comes in time."""
        with self._arrived:
            got = self._arrived.wait_for(
                lambda: len(self.responses) > self._read_upto or self.ended is not None, seconds_max
            )
            assert got, "no watch response in time"
            assert len(self.responses) > self._read_upto, f"the stream ended: {self.ended}"
            self._read_upto += 1
            return self.responses[self._read_upto - 1]

    def events(self, count: int, seconds_max: float = PATIENCE_SECONDS) -> list[Any]:
        """The next `count` events, over as many responses as they come in."""
        found: list[Any] = []
        while len(found) < count:
            found.extend(self.next(seconds_max).events)
        assert len(found) == count, found
        return found

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing arrives for that long."""
        with self._arrived:
            return not self._arrived.wait_for(lambda: len(self.responses) > self._read_upto, seconds)

    def wait_ended(self, seconds_max: float = PATIENCE_SECONDS) -> Refusal:
        """Wait until the server ends the stream."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.ended is not None, seconds_max), "the stream is still open"
            assert self.ended is not None
            return self.ended

    def close(self) -> None:
        """Cancel the stream and wait for the reader."""
        self._requests.put(None)
        self._call.cancel()  # type: ignore[no-untyped-call]
        self._reader.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Client:
    """All services of one endpoint on one connection."""

    def __init__(self, endpoint: str, tls: TlsFiles | None = None, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.channel = open_channel(endpoint, tls, options)
        self.kv = KV(self.channel)
        self.watch = Watch(self.channel)
        self.lease = Lease(self.channel)
        self.cluster = Cluster(self.channel)
        self.maintenance = Maintenance(self.channel)
        self.auth = Auth(self.channel)
        self.lock = Lock(self.channel)
        self.election = Election(self.channel)

    @classmethod
    def of(cls, member: Member) -> Self:
        """A client of that member."""
        return cls(member.endpoint, member.tls)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- the calls that most tests begin with ---

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> rpc_pb2.PutResponse:
        """Put; raises grpc.RpcError."""
        return self.kv.Put(rpc_pb2.PutRequest(key=key, value=value, **fields), timeout=CALL_SECONDS_MAX)

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> rpc_pb2.RangeResponse:
        """Range; raises grpc.RpcError."""
        return self.kv.Range(rpc_pb2.RangeRequest(key=key, range_end=range_end, **fields), timeout=CALL_SECONDS_MAX)

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> rpc_pb2.DeleteRangeResponse:
        """DeleteRange; raises grpc.RpcError."""
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, **fields)
        return self.kv.DeleteRange(request, timeout=CALL_SECONDS_MAX)

    def txn(
        self,
        compare: Sequence[rpc_pb2.Compare] = (),
        success: Sequence[rpc_pb2.RequestOp] = (),
        failure: Sequence[rpc_pb2.RequestOp] = (),
    ) -> rpc_pb2.TxnResponse:
        """Txn; raises grpc.RpcError."""
        request = rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure)
        return self.kv.Txn(request, timeout=CALL_SECONDS_MAX)

    def compact(self, revision: int, *, physical: bool = True) -> rpc_pb2.CompactionResponse:
        """Compact; raises grpc.RpcError."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=physical)
        return self.kv.Compact(request, timeout=CALL_SECONDS_MAX)

    def revision(self) -> int:
        """The current revision."""
        return self.range(b"\0").header.revision

    def range_stream(self, request: rpc_pb2.RangeRequest) -> list[rpc_pb2.RangeResponse]:
        """Every chunk of a RangeStream; raises grpc.RpcError."""
        return [chunk.range_response for chunk in self.kv.RangeStream(request, timeout=CALL_SECONDS_MAX)]

    def watching(self, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> WatchStream:
        """A new Watch stream; a context manager."""
        return WatchStream(self.watch, metadata)

    def keep_alive(self, *lease_ids: int) -> list[rpc_pb2.LeaseKeepAliveResponse]:
        """One keepalive for each id, over one stream."""
        requests = (rpc_pb2.LeaseKeepAliveRequest(ID=lease_id) for lease_id in lease_ids)
        return list(self.lease.LeaseKeepAlive(requests, timeout=CALL_SECONDS_MAX))

    def grant(self, ttl: int, lease_id: int = 0) -> rpc_pb2.LeaseGrantResponse:
        """LeaseGrant; raises grpc.RpcError."""
        return self.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=ttl, ID=lease_id), timeout=CALL_SECONDS_MAX)


def prefix_end(prefix: bytes) -> bytes:
    """The range_end that makes a range of all keys with this prefix."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def wait_until(
    condition: Callable[[], bool], seconds_max: float = PATIENCE_SECONDS, pause_seconds: float = 0.02
) -> None:
    """Wait for a condition; an assertion fails when it does not come true in time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(pause_seconds)
