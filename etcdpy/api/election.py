"""v3electionpb.Election: one leader at a time among those who campaign under a name, and its proclamations."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from etcdpy.api.checks import parse
from etcdpy.api.recipes import Inside, delete_own, oldest_under, own_key, prefix_end, when_created_at
from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.limits import OBSERVE_BACKLOG_BYTES
from etcdpy.proto import election_pb2, kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from etcdpy.transport.calls import Call, StreamCall

_NO_SESSION = -1


class NotElected(StatusError):
    """`election: not leader`: the key of the leadership is gone, or another's."""

    def __init__(self) -> None:
        super().__init__(Code.UNKNOWN, "election: not leader")


class ElectionService:
    """Thin over the keys: who leads, and who waits to, is what is stored."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    async def campaign(self, call: Call, body: bytes) -> None:
        """Election.Campaign: answers once the caller's session leads. A caller who goes before gives its place up."""
        request = parse(election_pb2.CampaignRequest, body)
        inside, prefix = self._inside, request.name + b"/"
        lease = await inside.session(call, request.lease)
        key = own_key(prefix, lease)
        entered = await inside.enter(call, _enter(key, request.value, lease), key)
        header, created = entered.header, entered.header.revision
        if not entered.succeeded:
            kv = entered.responses[0].response_range.kvs[0]
            created = kv.create_revision
        try:
            if not entered.succeeded and kv.value != request.value:
                await self._proclaim_or_give_up(call, key, created, lease, request.value)
            await inside.wait_until_oldest(call, prefix, created - 1)
        except asyncio.CancelledError:
            inside.spawn(self._give_up(call, key, created))
            raise
        leader = election_pb2.LeaderKey(name=request.name, key=key, rev=created, lease=lease)
        _finish(call, election_pb2.CampaignResponse(header=header, leader=leader))

    async def _give_up(self, call: Call, key: bytes, created: int) -> None:
        try:
            await self._inside.txn(call, delete_own(key, created))
        except EtcdError:
            pass  # the key goes with its lease

    async def _proclaim(self, call: Call, key: bytes, created: int, lease: int, value: bytes) -> rpc_pb2.ResponseHeader:
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease))
        request = rpc_pb2.TxnRequest(compare=[when_created_at(key, created)], success=[put])
        response = await self._inside.txn(call, request)
        if not response.succeeded:
            raise NotElected
        return response.header

    async def _proclaim_or_give_up(self, call: Call, key: bytes, created: int, lease: int, value: bytes) -> None:
        try:
            await self._proclaim(call, key, created, lease, value)
        except EtcdError:
            await self._give_up(call, key, created)
            raise

    async def proclaim(self, call: Call, body: bytes) -> None:
        """Election.Proclaim: the leader's new value."""
        request = parse(election_pb2.ProclaimRequest, body)
        leader, lease = await self._leadership(call, request)
        header = await self._proclaim(call, leader.key, leader.rev, lease, request.value)
        _finish(call, election_pb2.ProclaimResponse(header=header))

    async def resign(self, call: Call, body: bytes) -> None:
        """Election.Resign: the next one leads. No error if the caller does not lead any more."""
        request = parse(election_pb2.ResignRequest, body)
        leader, _ = await self._leadership(call, request)
        response = await self._inside.txn(call, delete_own(leader.key, leader.rev))
        _finish(call, election_pb2.ResignResponse(header=response.header))

    async def _leadership(
        self, call: Call, request: election_pb2.ProclaimRequest | election_pb2.ResignRequest
    ) -> tuple[election_pb2.LeaderKey, int]:
        if not request.HasField("leader"):
            raise StatusError(Code.UNKNOWN, '"leader" field must be provided')
        # As on etcd a leadership without a lease gets one of its own.
        return request.leader, await self._inside.session(call, request.leader.lease)

    async def leader(self, call: Call, body: bytes) -> None:
        """Election.Leader."""
        request = parse(election_pb2.LeaderRequest, body)
        found = await self._inside.range(call, oldest_under(request.name + b"/"))
        if not found.kvs:
            raise StatusError(Code.UNKNOWN, "election: no leader")
        _finish(call, election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0]))

    async def observe(self, call: StreamCall) -> None:
        """Election.Observe: the leader, every value that it proclaims, and those who come after it.

        As on etcd the stream just ends when something goes wrong.
        """
        request = parse(election_pb2.LeaderRequest, await call.receive() or b"")
        prefix = request.name + b"/"
        try:
            while True:
                header, kv = await self._current(call, prefix)
                await _tell(call, header, kv)
                await self._follow(call, kv.key, header.revision + 1)
        except EtcdError:
            return

    async def _current(self, call: StreamCall, prefix: bytes) -> tuple[rpc_pb2.ResponseHeader, kv_pb2.KeyValue]:
        """The leader, as soon as there is one."""
        found = await self._inside.range(call, oldest_under(prefix))
        if found.kvs:
            return found.header, found.kvs[0]
        create = rpc_pb2.WatchCreateRequest(
            key=prefix, range_end=prefix_end(prefix), start_revision=found.header.revision
        )
        async with aclosing(self._inside.watch(call, create)) as watch:
            async for response in watch:
                for event in response.events:
                    if event.type == kv_pb2.Event.PUT:
                        response.header.revision = event.kv.mod_revision
                        return response.header, event.kv
        raise AssertionError("a watch ends with an error")

    async def _follow(self, call: StreamCall, key: bytes, revision: int) -> None:
        """Tell what a leader proclaims, until its key is gone."""
        create = rpc_pb2.WatchCreateRequest(key=key, start_revision=revision)
        async with aclosing(self._inside.watch(call, create)) as watch:
            async for response in watch:
                for event in response.events:
                    if event.type == kv_pb2.Event.DELETE:
                        return
                    await _tell(call, response.header, event.kv)


async def _tell(call: StreamCall, header: rpc_pb2.ResponseHeader, kv: kv_pb2.KeyValue) -> None:
    call.send(election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString())
    await call.wait_writable(OBSERVE_BACKLOG_BYTES)


def _enter(key: bytes, value: bytes, lease: int) -> rpc_pb2.TxnRequest:
    """Take a place in the queue, or find the one that the session has."""
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease))
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))
    return rpc_pb2.TxnRequest(compare=[when_created_at(key, 0)], success=[put], failure=[get])


def _finish(call: Call, response: Message) -> None:
    call.finish(response.SerializeToString())
