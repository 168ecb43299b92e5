"""The limits that flags set, on both servers: each is held, with the same error at the same place."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

import hpack
import pytest

from etcdpy.proto import rpc_pb2
from etcdpy.transport import frames
from tests.support.client import Client, Refusal, outcome, refusal, wait_until
from tests.support.members import Kind, Member
from tests.support.wire import headers, message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOO_MANY_OPS: Final = Refusal("InvalidArgument", "etcdserver: too many operations in txn request")
TOO_LARGE: Final = Refusal("InvalidArgument", "etcdserver: request is too large")
CORRUPT: Final = Refusal("DataLoss", "etcdserver: corrupt cluster")
REQUEST_BYTES: Final = 10_000
NO_FRAME: Final = 255
"""A kind of frame that does not come."""
GRPC_OVERHEAD_BYTES: Final = 512 * 1024
FLAGS: Final = [
    "--max-txn-ops=3",
    f"--max-request-bytes={REQUEST_BYTES}",
    "--max-concurrent-streams=2",
    "--grpc-keepalive-min-time=20s",
    "--grpc-keepalive-interval=1s",
    "--grpc-keepalive-timeout=1s",
]


@pytest.fixture(scope="module")
def member(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(kind, tmp_path_factory.mktemp(kind), flags=FLAGS) as running:
        yield running


def put_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key))


def nested(*operations: rpc_pb2.RequestOp) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=operations))


def test_operations_of_a_transaction(client: Client) -> None:
    operations = [put_op(b"%d" % number) for number in range(4)]
    client.txn(success=operations[:3], failure=operations[:3])
    assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(success=operations)) == TOO_MANY_OPS
    assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(failure=operations)) == TOO_MANY_OPS
    compares = [rpc_pb2.Compare(key=b"k")] * 4
    assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(compare=compares)) == TOO_MANY_OPS
    # What a nested transaction may have is what its parent leaves.
    client.txn(success=[nested(*operations[:2])])
    assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(success=[nested(*operations[:3])])) == TOO_MANY_OPS


def test_bytes_of_a_request(client: Client) -> None:
    client.put(b"k", bytes(REQUEST_BYTES - 100))
    assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k", value=bytes(REQUEST_BYTES))) == TOO_LARGE
    operation = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=bytes(REQUEST_BYTES)))
    assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(success=[operation])) == TOO_LARGE
    assert refusal(client.kv.DeleteRange, rpc_pb2.DeleteRangeRequest(key=bytes(REQUEST_BYTES))) == TOO_LARGE
    # Reads are no proposals.
    assert client.range(bytes(REQUEST_BYTES)).count == 0
    most = REQUEST_BYTES + GRPC_OVERHEAD_BYTES
    request = rpc_pb2.RangeRequest(key=bytes(most))
    size = request.ByteSize()
    expected = Refusal("ResourceExhausted", f"grpc: received message larger than max ({size} vs. {most})")
    assert refusal(client.kv.Range, request) == expected


def test_streams_of_a_connection(member: Member) -> None:
    """The server says how many streams it takes; a client waits with the next one until another has ended."""
    with Client.of(member) as client, contextlib.ExitStack() as open_streams:
        first, second, third = (open_streams.enter_context(client.watching()) for _ in range(3))
        for number, stream in enumerate((first, second, third)):
            stream.create(b"w%d" % number)
        streams = [first, second, third]
        wait_until(lambda: sum(bool(stream.responses) for stream in streams) == 2)
        (waiting,) = [stream for stream in streams if not stream.responses]
        assert waiting.quiet_for(0.3)
        next(stream for stream in streams if stream.responses).close()
        wait_until(lambda: bool(waiting.responses))


class RawClient:
    """A client that sends what the test wants, frame by frame."""

    def __init__(self, member: Member) -> None:
        self.socket = socket.create_connection(("127.0.0.1", member.client_port), timeout=20)
        self.socket.sendall(frames.PREFACE + frames.settings({}))
        self._data = b""

    def next(self) -> tuple[int, bytes]:
        """Kind and payload of the next frame; raises EOFError at the end."""
        while len(self._data) < 9 or len(self._data) < 9 + int.from_bytes(self._data[:3], "big"):
            chunk = self.socket.recv(65536)
            if not chunk:
                raise EOFError
            self._data += chunk
        size, kind = int.from_bytes(self._data[:3], "big"), self._data[3]
        payload, self._data = self._data[9 : 9 + size], self._data[9 + size :]
        return kind, payload

    def wait_for(self, kind: int) -> bytes:
        while True:
            found, payload = self.next()
            if found == kind:
                return payload

    def open_watch(self) -> None:
        block = hpack.Encoder().encode(headers(path="/etcdserverpb.Watch/Watch"))
        create = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"k")).SerializeToString()
        self.socket.sendall(frames.frame(frames.HEADERS, frames.FLAG_END_HEADERS, 1, block))
        self.socket.sendall(frames.frame(frames.DATA, 0, 1, message(create)))
        self.wait_for(frames.DATA)

    def ping(self, times: int) -> None:
        for _ in range(times):
            self.socket.sendall(frames.ping(b"12345678", ack=False))
            time.sleep(0.02)


@pytest.fixture
def raw(member: Member) -> Iterator[RawClient]:
    client = RawClient(member)
    with client.socket:
        yield client


@pytest.mark.parametrize("watching", [False, True], ids=["idle", "watching"])
def test_a_client_that_pings_too_often_is_sent_away(raw: RawClient, watching: bool) -> None:
    if watching:
        raw.open_watch()
    raw.ping(5)
    payload = raw.wait_for(frames.GOAWAY)
    assert struct.unpack(">I", payload[4:8])[0] == frames.ErrorCode.ENHANCE_YOUR_CALM
    assert payload[8:] == b"too_many_pings"


def test_a_client_that_answers_no_ping_is_dropped(raw: RawClient) -> None:
    raw.open_watch()
    raw.wait_for(frames.PING)
    began = time.monotonic()
    with pytest.raises((EOFError, ConnectionResetError)):
        raw.wait_for(NO_FRAME)
    assert time.monotonic() - began < 4


def test_corrupt_stops_every_write_and_no_read(kind: Kind, tmp_path: Path) -> None:
    with Member(kind, tmp_path) as running, Client.of(running) as client:
        lease = client.grant(600).ID
        client.put(b"k", b"v", lease=lease)
        own = client.maintenance.Status(rpc_pb2.StatusRequest()).header.member_id
        alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=own, alarm=rpc_pb2.CORRUPT)
        client.maintenance.Alarm(alarm)
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k"))
        refused = [
            outcome(client.kv.Put, rpc_pb2.PutRequest(key=b"k")),
            outcome(client.kv.DeleteRange, rpc_pb2.DeleteRangeRequest(key=b"k")),
            outcome(client.kv.Txn, rpc_pb2.TxnRequest(success=[delete])),
            outcome(client.kv.Compact, rpc_pb2.CompactionRequest(revision=2)),
            outcome(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=60)),
            outcome(client.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease)),
        ]
        assert refused == [CORRUPT] * len(refused)
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))
        assert client.range(b"k").kvs[0].value == b"v"
        assert client.range(b"k", serializable=True).count == 1
        assert client.txn(success=[read]).responses[0].response_range.count == 1
        assert client.keep_alive(lease)[0].TTL == 600
        assert running.http("GET", "/health").json()["reason"] == "ALARM CORRUPT"
        ready = running.http("GET", "/readyz")
        assert ready.status == 503
        assert b"[-]data_corruption failed: alarm activated: CORRUPT" in ready.body
        assert running.http("GET", "/readyz?exclude=data_corruption").status == 200
        assert running.http("GET", "/livez").status == 200
        running.stop()
        running.launch()
        wait_until(lambda: not isinstance(outcome(client.maintenance.Status, rpc_pb2.StatusRequest()), Refusal), 20)
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")) == CORRUPT
        alarm.action = rpc_pb2.AlarmRequest.DEACTIVATE
        client.maintenance.Alarm(alarm)
        client.put(b"k")


def test_both_alarms_at_once(kind: Kind, tmp_path: Path) -> None:
    """CORRUPT comes before NOSPACE, and one goes without the other."""
    with Member(kind, tmp_path) as running, Client.of(running) as client:

        def switch(action: rpc_pb2.AlarmRequest.AlarmAction.ValueType, alarm: rpc_pb2.AlarmType.ValueType) -> int:
            request = rpc_pb2.AlarmRequest(action=action, memberID=7, alarm=alarm)
            return len(client.maintenance.Alarm(request).alarms)

        assert switch(rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.NONE) == 0
        assert switch(rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.NOSPACE) == 1
        assert switch(rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.NOSPACE) == 1
        assert switch(rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.CORRUPT) == 1
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")) == CORRUPT
        assert switch(rpc_pb2.AlarmRequest.DEACTIVATE, rpc_pb2.CORRUPT) == 1
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")).code == "ResourceExhausted"
        assert client.delete(b"k").deleted == 0
        assert switch(rpc_pb2.AlarmRequest.DEACTIVATE, rpc_pb2.NOSPACE) == 1
        client.put(b"k")
