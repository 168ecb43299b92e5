"""Who serves, as clients of the proxy see it: the proxies that share a --resolver-prefix, or this one alone, so that
those who go by the member list stay with proxies.

The addresses lie in the cluster under that prefix, as etcd's client library for endpoints writes them, each with a
lease: that of a proxy which is gone goes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.client import call as calls
from etcdpy.client.keys import prefix_end
from etcdpy.client.watch_state import WatchState
from etcdpy.errors import EtcdError
from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.proxy.session import Session, watch_once
from etcdpy.proxy.upstream import NOBODY, StreamBroken
from etcdpy.server import logs

if TYPE_CHECKING:
    from etcdpy.client.namespace import Namespace
    from etcdpy.proxy.asking import Asker
    from etcdpy.proxy.upstream import Upstream
    from etcdpy.transport.calls import Call

log = logs.get("grpcproxy")


class ListedMembers:
    """Cluster.MemberList of the proxy."""

    def __init__(self, address: str) -> None:
        """`address` is --advertise-client-url, and not empty."""
        self._address = address
        self._host_name = socket.gethostname()
        self.registered: dict[bytes, rpc_pb2.Member] = {}
        """What stands under the prefix, by key."""

    async def list(self, call: Call, _body: bytes) -> None:
        """Answer; nobody is asked."""
        alone = rpc_pb2.Member(name=self._host_name, clientURLs=[self._address])
        members = list(self.registered.values()) or [alone]
        call.finish(rpc_pb2.MemberListResponse(members=members).SerializeToString())


class Registration:
    """Keeps this proxy's address under the prefix, and `members` in step with what stands there. Two tasks."""

    def __init__(
        self,
        upstream: Upstream,
        asker: Asker,
        namespace: Namespace | None,
        members: ListedMembers,
        *,
        prefix: str,
        address: str,
        ttl_seconds: int,
    ) -> None:
        self._upstream = upstream
        self._asker = asker
        self._namespace = namespace
        self._members = members
        self._key = f"{prefix}/{address}".encode()
        self._prefix = f"{prefix}/".encode()
        self._address = address
        self._ttl_seconds = ttl_seconds

    async def keep(self) -> None:
        """Write the address, and keep its lease alive; when that is lost, begin again."""
        while True:
            try:
                session = await self._write()
                log.info("registered session with lease", addr=self._address, lease_ttl=self._ttl_seconds)
                await session.keep()
                log.warn("session expired; possible network partition or server restart")
                log.warn("creating a new session to rejoin")
            except EtcdError as error:
                log.warn("failed to create a session", error=error.message)
            await asyncio.sleep(limits.PROXY_REGISTER_RETRY_SECONDS)

    async def _write(self) -> Session:
        session = await Session.begin(self._upstream, self._ttl_seconds)
        name = json.dumps({"name": socket.gethostname()}, separators=(",", ":"))
        update = {"Op": 0, "Addr": self._address, "Metadata": name}
        value = json.dumps(update, separators=(",", ":")).encode()
        await self._asker.call(calls.PUT, rpc_pb2.PutRequest(key=self._key, value=value, lease=session.id), NOBODY)
        return session

    async def follow(self) -> None:
        """Read what stands under the prefix, and watch it."""
        while True:
            try:
                with contextlib.suppress(StreamBroken):
                    await self._watch(await self._read())
            except EtcdError as error:
                log.warn("failed to establish endpoint watch", prefix=self._prefix, error=error.message)
            await asyncio.sleep(limits.PROXY_REGISTER_RETRY_SECONDS)

    async def _read(self) -> int:
        request = rpc_pb2.RangeRequest(key=self._prefix, range_end=prefix_end(self._prefix), serializable=True)
        answer = await self._asker.call(calls.RANGE, request, NOBODY)
        self._members.registered.clear()
        for record in answer.kvs:
            self._take(record)
        return answer.header.revision

    async def _watch(self, revision: int) -> None:
        request = rpc_pb2.WatchCreateRequest(key=self._prefix, range_end=prefix_end(self._prefix))
        request.start_revision = revision + 1
        state = WatchState(request if self._namespace is None else self._namespace.into(request))
        await watch_once(self._upstream, self._namespace, state, self._changed)

    def _changed(self, answer: rpc_pb2.WatchResponse) -> None:
        for event in answer.events:
            if event.type == kv_pb2.Event.DELETE:
                self._members.registered.pop(event.kv.key, None)
            else:
                self._take(event.kv)

    def _take(self, record: kv_pb2.KeyValue) -> None:
        try:
            update = json.loads(record.value)
            name = json.loads(update["Metadata"])["name"]
            member = rpc_pb2.Member(name=name, clientURLs=[update["Addr"]])
        except (ValueError, KeyError, TypeError) as error:
            log.warn("unmarshal endpoint update failed", key=record.key, error=str(error))
            return
        self._members.registered[record.key] = member
