"""Answers in many parts: ranges too large for one answer, and the file of a snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc

from etcdpy.client import call as calls
from etcdpy.client.call import Answer, Call, Method
from etcdpy.client.failures import Failure
from etcdpy.client.retrying import Attempts
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from etcdpy.client.core import View


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


async def range_parts(view: View, call: Call[rpc_pb2.RangeResponse]) -> AsyncGenerator[rpc_pb2.RangeResponse, None]:
    """A range by RangeStream: parts of it, all at one revision; header, count and `more` come with the last one."""
    async for part in streamed(view, calls.RANGE_STREAM, call.request, call.timeout):
        yield part.range_response


async def pages(
    view: View, call: Call[rpc_pb2.RangeResponse], size: int
) -> AsyncGenerator[rpc_pb2.RangeResponse, None]:
    """A range in the order of keys by calls for `size` keys each, all at the revision of the first one."""
    request = rpc_pb2.RangeRequest.FromString(call.request.SerializeToString())
    request.limit = size
    while True:
        answer = await view.do(Call(calls.RANGE, request, call.timeout))
        yield answer
        if not answer.more:
            return
        request.key = answer.kvs[-1].key + b"\0"
        request.revision = request.revision or answer.header.revision
