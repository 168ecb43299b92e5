"""Answers in many parts: ranges too large for one answer, and the file of a snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypedDict

import grpc

from etcdpy.client import call as calls
from etcdpy.client import op
from etcdpy.client.failures import Failure
from etcdpy.client.retrying import Attempts
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Unpack

    from etcdpy.client.call import Answer, Method
    from etcdpy.client.core import View
    from etcdpy.client.keys import Key


class Span(TypedDict, total=False):
    """How far a read goes from its key, and of which revision; see `op.get`."""

    prefix: bool
    from_key: bool
    revision: int
    serializable: bool
    keys_only: bool


async def streamed(
    view: View, method: Method[Any, Answer], request: Any, seconds: float | None
) -> AsyncGenerator[Answer, None]:
    """The answers of a stream, which is opened again, by the rules of `retrying`, as long as nothing has come of it.

    Raises EtcdError, ClientClosed.
    """
    core = view.core
    give_up = None if seconds is None else time.monotonic() + seconds
    attempts = Attempts(repeatable=True, may_log_in=True, endpoints=1 if view.only is not None else core.balancer.count)
    while True:
        begun = False
        left = None if give_up is None else max(0.0, give_up - time.monotonic())
        number, stream = await core.open(
            method, [view.into(request)], left, require_leader=view.require_leader, only=view.only
        )
        try:
            while (answer := await stream.read()) is not None:
                begun = True
                yield view.out_of(answer)
            return
        except grpc.RpcError as error:
            failure = Failure.of(error)
        finally:
            stream.cancel()
        core.note(number, failure)
        if begun:
            raise failure.error
        if not (attempts.needs_login(failure) and await core.renew_token(failure.error)):
            await core.io.sleep(attempts.pause_before_next(failure))


async def range_stream(
    view: View, key: Key, range_end: Key = b"", *, timeout: float | None = None, **span: Unpack[Span]
) -> AsyncGenerator[rpc_pb2.RangeResponse, None]:
    """A range of any size by RangeStream (etcd 3.7): parts of the answer, all at one revision; the last one has header
    and count. Raises EtcdError while it is iterated."""
    request = op.get(key, range_end, **span).request
    async for part in streamed(view, calls.RANGE_STREAM, request, timeout):
        yield part.range_response


async def pages(
    view: View,
    key: Key,
    range_end: Key = b"",
    *,
    size: int = 1000,
    timeout: float | None = None,
    **span: Unpack[Span],
) -> AsyncGenerator[rpc_pb2.RangeResponse, None]:
    """A range by calls for `size` keys each, all at the revision of the first one, on any release of etcd.

    `timeout` counts for each of them. Raises EtcdError while it is iterated.
    """
    call = op.get(key, range_end, limit=size, timeout=timeout, **span)
    request = call.request
    assert isinstance(request, rpc_pb2.RangeRequest)
    while True:
        answer = await view.do(call)
        yield answer
        if not answer.more:
            return
        request.key = answer.kvs[-1].key + b"\0"
        request.revision = request.revision or answer.header.revision
