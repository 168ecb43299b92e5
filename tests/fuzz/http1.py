"""HTTP/1.1 into the client port and the peer port of a whole member: heads, bodies, chunks, pipelines, JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from google.protobuf.json_format import MessageToDict

from etcdpy.gateway.gateway import routes
from etcdpy.peer.handler import SNAPSHOT_PATH
from etcdpy.proto import lease_pb2, rpc_pb2
from etcdpy.raft.message import encode_message
from tests.fuzz.damage import cut, mutate
from tests.fuzz.harness import Watch, Wrong
from tests.fuzz.member import MemberSurface, MemoryTransport
from tests.fuzz.peer import any_raft_message, framed_snapshot
from tests.fuzz.requests import ENDING, any_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from google.protobuf.descriptor import MethodDescriptor

    from tests.fuzz.member import FuzzedMember

_METHODS: Final = ("GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "TRACE", "BREW", "get", "")
_CLIENT_PATHS: Final = (
    "/health", "/health?serializable=true", "/livez", "/readyz?verbose", "/readyz/ping", "/metrics", "/version",
    "/debug/vars", "/v3/kv/range", "/v3/", "/v3beta/x", "//health", "/../etc", "/%2e%2e/%00", "/health?exclude=NOSPACE",
    "*", "http://evil/health", "/" + "a" * 3000, "/%ff%fe", "/?" + "&" * 500, "",
)  # fmt: skip
_PEER_PATHS: Final = (
    "/raft", "/raft", "/raft", "/raft/snapshot", "/raft/snapshot", "/raft/probing", "/raft/stream/message/2",
    "/raft/stream/msgapp/2", "/raft/stream/msgapp/zz", "/raft/stream/x/1", "/members", "/members/hashkv",
    "/members/hashkv", "/members/promote/1", "/members/promote/" + "9" * 30, "/members/promote/" + "7" * 6000,
    "/members/promote/\u00b2", "/leases", "/leases/internal", "/version", "/downgrade/enabled", "/", "/nothing",
)  # fmt: skip
_HEADERS: Final = (
    "Accept-Encoding: gzip", "Origin: http://x", "Host: b", "Content-Length: 5", "Content-Length: -1",
    "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
    "Expect: 100-continue", "Connection: close", "Connection: upgrade", "Upgrade: h2c", "X: " + "y" * 5000, "a b: c",
    ": empty", "X-Server-From: 2", "X-Server-From: zz", "X-Server-Version: 9.9", "X-Min-Cluster-Version: 1.x",
    "X-PeerURLs: http://h:1,https://", "X-PeerURLs: http://[::1", "X-Etcd-Cluster-ID: 0", "Authorization: " + "t" * 900,
)  # fmt: skip
_KNOWN_STATUSES: Final = frozenset(
    (100, 200, 204, 307, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 421, 429, 431, 501, 503, 504)
)
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_REFUSALS_OF_500: Final = (
    b"failed to save KV snapshot",
    b"\r\n\r\netcdserver: ",
    b"failed linearized read",
    b"not leader",
    b'{"message": "Internal Server Error"}',
)


class ClientHttp(MemberSurface):
    """What a browser, a scraper or an attacker may say to the client port."""

    name = "http1-client"
    requests = 150

    def talk(self, draw: Random, watch: Watch, member: FuzzedMember) -> None:
        handler = member.client_http()
        for _ in range(self.requests):
            data = _request(draw, draw.choice(_CLIENT_PATHS), _json_body(draw), [])
            _converse(draw, watch, member, member.http_connection(handler), data)


class GatewayHttp(MemberSurface):
    """JSON for every call that the gateway serves: any values, in any spelling, then damaged."""

    name = "http1-gateway"
    requests = 120

    def talk(self, draw: Random, watch: Watch, member: FuzzedMember) -> None:
        handler = member.client_http()
        table = [(path, routes()[path]) for path in sorted(routes()) if routes()[path].name not in ENDING]
        for _ in range(self.requests):
            path, method = draw.choice(table)
            transport = member.http_connection(handler)
            _converse(draw, watch, member, transport, _request(draw, path, self._body(draw, method), []))

    def _body(self, draw: Random, method: MethodDescriptor) -> bytes:
        request = any_message(draw, method.input_type)
        kept = draw.random() < 0.5
        told = MessageToDict(request, preserving_proto_field_name=kept, use_integers_for_enums=draw.random() < 0.5)
        return any_json(draw, told)


class PeerHttp(MemberSurface):
    """What a host with a member's certificate may say to the peer port."""

    name = "http1-peer"
    requests = 100

    def talk(self, draw: Random, watch: Watch, member: FuzzedMember) -> None:
        member.loop.call_soon(member.network.add_peer, 2, ["http://127.0.0.1:1"])
        honest = [
            "X-Server-From: 2",
            "X-Server-Version: 3.7.0",
            "X-Min-Cluster-Version: 3.0.0",
            f"X-Etcd-Cluster-ID: {member.replica.membership.cluster_id:x}",
            f"X-Raft-To: {member.replica.own_id:x}",
            "X-PeerURLs: http://127.0.0.1:1",
        ]
        for _ in range(self.requests):
            if member.is_over:
                return
            path = draw.choice(_PEER_PATHS)
            body = _peer_body(draw, path, member.replica.own_id)
            data = _request(draw, path, body, honest if draw.random() < 0.9 else honest[:3])
            _converse(draw, watch, member, member.peer_connection(), data)


def _peer_body(draw: Random, path: str, own_id: int) -> bytes:
    if path == SNAPSHOT_PATH:
        body = framed_snapshot(draw, own_id)
    elif path.startswith("/raft"):
        body = b"".join(encode_message(any_raft_message(draw, own_id)))
    elif path == "/leases":
        body = rpc_pb2.LeaseKeepAliveRequest(ID=draw.choice((0, 1, 2**63 - 1))).SerializeToString()
    elif path == "/leases/internal":
        asked = rpc_pb2.LeaseTimeToLiveRequest(ID=draw.choice((0, 5)), keys=True)
        body = lease_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=asked).SerializeToString()
    else:
        return _json_body(draw)
    return mutate(draw, body) if draw.random() < 0.5 else body


def _json_body(draw: Random) -> bytes:
    """JSON that is right, that is odd, and that is none."""
    return any_json(draw, {"revision": draw.choice((0, 1, 5, -1, 2**63, 2**70, 1.5, "1", None, True, [], {}))})


def any_json(draw: Random, honest: object) -> bytes:
    """The value as JSON, or something that a parser may trip over."""
    kind = draw.randrange(12)
    if kind == 0:
        return b"[" * draw.choice((10, 500, 900, 20_000))
    if kind == 1:
        return b'{"a":' * draw.choice((10, 900, 5000)) + b"1"
    if kind == 2:
        return b'{"revision":' + b"9" * draw.choice((19, 30, 4300, 5000, 40_000)) + b"}"
    if kind == 3:
        return b'{"revision":' + draw.choice((b"1e400", b"NaN", b"-Infinity", b"0x1", b"1e9", b"-0")) + b"}"
    if kind == 4:
        return json.dumps(honest).encode() + b'"\\ud800\\udfff"'
    data = json.dumps(honest).encode()
    return mutate(draw, data) if kind < 9 else data


def _request(draw: Random, path: str, body: bytes, extra: list[str]) -> bytes:
    made = bytearray()
    for _ in range(draw.choice((1, 1, 1, 1, 2, 30))):
        made += _one(draw, path, body, extra)
        if len(made) > 60_000:
            break
    data = bytes(made)
    return mutate(draw, data, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) if draw.random() < 0.3 else data


def _one(draw: Random, path: str, body: bytes, extra: list[str]) -> bytes:
    posts = path.startswith(("/v3", "/raft", "/leases", "/members/promote")) and "stream" not in path
    method = ("POST" if posts else "GET") if draw.random() < 0.7 else draw.choice(_METHODS)
    version = (
        "HTTP/1.1" if draw.random() < 0.9 else draw.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.11", "ICY"))
    )
    lines = [f"{method} {path} {version}", "Host: a", *extra]
    for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
        lines.insert(draw.randint(1, len(lines)), draw.choice(_HEADERS))
    if draw.random() < 0.01:
        lines += [f"h{number}: x" for number in range(draw.choice((100, 6000)))]
    chunked = draw.random() < 0.2
    if chunked:
        size = draw.choice((1, 1, 5, 1000))
        body = b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)
        )
        body += b"0\r\n\r\n"
    elif draw.random() < 0.95:
        lines.append(f"Content-Length: {len(body)}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _converse(draw: Random, watch: Watch, member: FuzzedMember, transport: MemoryTransport, data: bytes) -> None:
    watch.inputs += 1
    for piece in cut(draw, data):
        _feed(watch, member, transport, piece)
    _judge(bytes(transport.written))
    _feed(watch, member, transport, b"")
    member.work(Watch(), transport.close, lambda: True)


def _feed(watch: Watch, member: FuzzedMember, transport: MemoryTransport, piece: bytes) -> None:
    first: Callable[[], None] = (lambda: transport.feed(piece)) if piece else (lambda: None)
    member.work(watch, first, lambda: True)


def _judge(written: bytes) -> None:
    if not written:
        return
    first = _STATUS.match(written)
    if first is None:
        raise Wrong(f"the answer begins with {written[:40]!r}")
    status = int(first[1])
    if status == 500 and b'"code":' in written and b"internal error" not in written:
        return  # the gateway's word for gRPC's Unknown and Internal
    if status == 500 and any(words in written for words in _REFUSALS_OF_500):
        return
    if status not in _KNOWN_STATUSES:
        raise Wrong(f"the answer is {written[:200]!r}")
