"""The JSON gateway: every call that has a path in the descriptors, as a POST of its request in JSON.

    POST body  ->  scanner, from_json  ->  the same handler that gRPC clients reach  ->  to_json  ->  answer
    streams:   several values in the body, one after the other; a line of JSON for each answer, {"result":...}

An error is {"code":..,"message":..} with the HTTP status of its gRPC code; in a stream it is a line {"error":...}.
Calls are made in the process, with the metadata that grpc-gateway would send, and never with the name of a certificate:
who connects to a gateway is not who the gateway connects as (CVE-2018-16886).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from google.protobuf.message_factory import GetMessageClass

from etcdpy import limits
from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.gateway.from_json import from_json_steps
from etcdpy.gateway.metadata import head_of
from etcdpy.gateway.plain_json import read_plain
from etcdpy.gateway.scanner import JsonError, Scanner
from etcdpy.gateway.to_json import in_stream, quote, to_json, to_json_steps
from etcdpy.gateway.websocket import upgraded
from etcdpy.proto import election_pb2, http_pb2, lock_pb2, rpc_pb2
from etcdpy.transport.calls import Kind, Peer
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.framing import too_large
from etcdpy.transport.http1_stream import BodyLost
from etcdpy.transport.local_calls import LocalCall, LocalStreamCall
from etcdpy.transport.websocket import wants_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping

    from google.protobuf.descriptor import Descriptor, MethodDescriptor
    from google.protobuf.message import Message

    from etcdpy.transport.calls import Method
    from etcdpy.transport.heads import RequestHead

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

_JSON: Final = ("content-type", "application/json")
_METADATA: Final = ("grpc-metadata-content-type", "application/grpc")

_STATUS: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
"""The HTTP status of a gRPC code; of any other: 500."""

_NOT_FOUND: Final = StatusError(Code.NOT_FOUND, "Not Found")
_NOT_ALLOWED: Final = StatusError(Code.UNIMPLEMENTED, "Method Not Allowed")


def routes() -> dict[str, MethodDescriptor]:
    """Every path that the descriptors name, and its call."""
    return {
        path: method
        for file in (rpc_pb2, lock_pb2, election_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for path in method.GetOptions().Extensions[http_pb2.http_path]
    }


def streamed_paths() -> frozenset[str]:
    """The paths whose requests come one by one for as long as the client likes."""
    bidi = [path for path, method in routes().items() if method.client_streaming]
    return frozenset([*bidi, *(path.replace("/v3/", "/v3beta/", 1) for path in bidi)])


class _CallOf(NamedTuple):
    """What the head of a request says of its call."""

    descriptor: MethodDescriptor
    method: Method
    head: RequestHead
    peer: Peer


_MEMO: Final = "gateway"


class Gateway:
    """Serves /v3/. `on_head` counts a call as the client port counts those of gRPC clients."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        spawn: Spawn,
        on_bug: Callable[[Exception], None],
        *,
        max_receive_bytes: int,
        on_head: Callable[[RequestHead], None] = lambda _head: None,
    ) -> None:
        self._spawn = spawn
        self._on_bug = on_bug
        self._on_head = on_head
        self._max_receive_bytes = max_receive_bytes
        self._routes = {
            path: (descriptor, methods[f"/{descriptor.containing_service.full_name}/{descriptor.name}".encode()])
            for path, descriptor in routes().items()
        }
        self._streamed = streamed_paths()
        self._streams: set[LocalStreamCall] = set()

    def end_endless(self) -> None:
        """End the streams that go on for as long as their clients like, such as watches."""
        for call in list(self._streams):
            call.end_by_server()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; its path begins with /v3/ or /v3beta/."""
        if wants_websocket(request):
            return self._upgraded(request)
        try:
            descriptor, method, head, peer = self._call_of(request)
            if method.kind is Kind.BIDI:
                return await self._stream(head, peer, descriptor, self._requests(request, descriptor.input_type))
            body = await self._single(request, descriptor.input_type)
            if method.kind is Kind.SERVER_STREAM:
                return await self._stream(head, peer, descriptor, _one(body))
            with _while_there(request):
                return await self._unary(head, peer, descriptor, body)
        except EtcdError as error:
            return _refusal(error)

    def _upgraded(self, request: HttpRequest) -> HttpResponse:
        path = unquote(request.path)
        return upgraded(
            request,
            self.handle,
            self._spawn,
            streamed=path.replace("/v3beta/", "/v3/", 1) in self._streamed,
            message_bytes_max=limits.JSON_STREAM_BACKLOG_BYTES + 2 * self._max_receive_bytes,
        )

    def _call_of(self, request: HttpRequest) -> _CallOf:
        """What a request's head says of the call; found out once for the requests that share it. Raises StatusError."""
        found: _CallOf | None = request.memo.get(_MEMO) if request.memo is not None else None
        if found is not None:
            return found
        descriptor, method = self._route(unquote(request.path), request)
        head = head_of(request, method)
        if head.timeout_seconds is not None and head.timeout_seconds < 0:
            raise StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        self._on_head(head)
        found = _CallOf(descriptor, method, head, Peer(request.peer.address, None, request.peer.secure))
        if request.memo is not None:
            request.memo[_MEMO] = found
        return found

    def _route(self, path: str, request: HttpRequest) -> tuple[MethodDescriptor, Method]:
        route = self._routes.get(path.replace("/v3beta/", "/v3/", 1) if path.startswith("/v3beta/") else path)
        if route is None:
            raise _NOT_FOUND
        if (_override(request) or request.method) != "POST":
            raise _NOT_ALLOWED
        return route

    # --- requests ---

    async def _single(self, request: HttpRequest, descriptor: Descriptor) -> bytes:
        """The request of a call that takes one; an empty body is an empty one. Raises StatusError."""
        text = b"" if _override(request) else request.body
        if len(text) <= limits.JSON_READ_AT_ONCE_BYTES:
            message = GetMessageClass(descriptor)()
            if read_plain(text, message):
                return self._encoded(message)
        scanner = Scanner()
        scanner.feed(text)
        scanner.ended = True
        try:
            found = await _in_slices(scanner.steps())
            return await self._message(scanner.take(), descriptor) if found else b""
        except JsonError as error:
            raise StatusError(Code.INVALID_ARGUMENT, str(error)) from error

    async def _message(self, value: bytes, descriptor: Descriptor) -> bytes:
        message = GetMessageClass(descriptor)()
        await _in_slices(from_json_steps(value, message))
        return self._encoded(message)

    def _encoded(self, message: Message) -> bytes:
        body = message.SerializeToString()
        if len(body) > self._max_receive_bytes:
            raise too_large(len(body), self._max_receive_bytes)
        return body

    async def _requests(self, request: HttpRequest, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """Requests as they come. As on etcd whatever is no JSON, or no such message, just ends them."""
        scanner = Scanner()
        held_max = limits.JSON_STREAM_BACKLOG_BYTES + 2 * self._max_receive_bytes
        async for piece in request.stream if request.stream is not None else _one(request.body):
            scanner.feed(piece)
            try:
                while await _in_slices(scanner.steps()):
                    yield await self._message(scanner.take(), descriptor)
            except JsonError:
                return
            if scanner.held_bytes > held_max:
                raise too_large(scanner.held_bytes, self._max_receive_bytes)

    # --- calls ---

    async def _unary(self, head: RequestHead, peer: Peer, descriptor: MethodDescriptor, body: bytes) -> HttpResponse:
        call = LocalCall(head, peer, self._on_bug, counted=True)
        timer = _deadline(call, head)
        try:
            pieces = await call.ask(head.method.handler, body)  # type: ignore[union-attr]
        finally:
            timer()
        headers = [_JSON, _METADATA]
        if sum(map(len, pieces)) <= limits.JSON_MESSAGE_WHOLE_BYTES:
            answer = GetMessageClass(descriptor.output_type).FromString(b"".join(pieces))
            return HttpResponse(200, headers, to_json(answer).encode())
        text = _Text(to_json_steps(descriptor.output_type, pieces))
        first = await text.piece()
        return HttpResponse(200, headers, first if text.ended else text.from_first(first))

    async def _stream(
        self, head: RequestHead, peer: Peer, descriptor: MethodDescriptor, requests: AsyncIterator[bytes]
    ) -> HttpResponse:
        call: LocalStreamCall

        async def until_lost() -> AsyncIterator[bytes]:
            try:
                async for message in requests:
                    yield message
            except BodyLost:
                call.on_gone()

        call = LocalStreamCall(head, peer, until_lost(), self._on_bug, counted=True)
        self._streams.add(call)
        timer = _deadline(call, head)

        def over(_task: object) -> None:
            timer()
            self._streams.discard(call)
            call.on_gone()

        # The task that asks is the one that sends the answer, to its end.
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(over)
        call.begin(head.method.handler, self._spawn)  # type: ignore[union-attr]
        try:
            first = await call.next()
        except EtcdError as error:
            return HttpResponse(_status(error), [_JSON], _pieces(_error_line(error)))
        if first is None:
            return HttpResponse(200, [], _pieces(b""))
        return HttpResponse(200, [_JSON, _METADATA], _lines(call, descriptor.output_type, first))


def _override(request: HttpRequest) -> str:
    """The method that a form says it means; its body is the form then, and no request."""
    if request.method == "POST" and request.headers.get("content-type") == "application/x-www-form-urlencoded":
        return request.headers.get("x-http-method-override", "").upper()
    return ""


def _deadline(call: LocalCall | LocalStreamCall, head: RequestHead) -> Callable[[], None]:
    """Begin the time that the client gives; the call that is returned ends it."""
    if head.timeout_seconds is None:
        return lambda: None
    return asyncio.get_running_loop().call_later(head.timeout_seconds, call.expire).cancel


@contextmanager
def _while_there(request: HttpRequest) -> Iterator[None]:
    """Whoever closes its side while it waits is not waited for."""
    task, gone = asyncio.current_task(), request.gone
    if gone is None or task is None:
        yield
        return

    def cancel(_gone: object) -> None:
        task.cancel()

    gone.add_done_callback(cancel)
    try:
        yield
    finally:
        gone.remove_done_callback(cancel)


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message


async def _in_slices(steps: Generator[None, None, Any]) -> Any:
    """What `steps` returns, other work between its slices."""
    began = time.monotonic()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
        if time.monotonic() - began > limits.SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()


# --- answers ---


class _Text:
    """JSON in pieces to be sent, made as they are taken."""

    def __init__(self, parts: Generator[str, None, None], *, shown: Callable[[str], str] = lambda text: text) -> None:
        self._parts = parts
        self._shown = shown
        self.ended = False

    async def piece(self) -> bytes:
        """The next piece. `ended` says whether it is the last."""
        gathered: list[str] = []
        size = 0
        began = time.monotonic()
        for part in self._parts:
            gathered.append(part)
            size += len(part)
            if size >= limits.JSON_PIECE_CHARACTERS:
                break
            if time.monotonic() - began > limits.SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
        else:
            self.ended = True
        return self._shown("".join(gathered)).encode()

    async def from_first(self, first: bytes) -> AsyncIterator[bytes]:
        """All pieces, of which the first is made already."""
        yield first
        while not self.ended:
            await asyncio.sleep(0)
            yield await self.piece()


async def _lines(call: LocalStreamCall, descriptor: Descriptor, first: bytes) -> AsyncIterator[bytes]:
    """A stream's answers. What waits for each other goes out together."""
    message: bytes | None = first
    try:
        while message is not None:
            text = _Text(to_json_steps(descriptor, [message]), shown=in_stream)
            start = b'{"result":'
            while not text.ended:
                piece = start + await text.piece()
                start = b""
                yield piece if not text.ended else piece + b"}\n"
            message = await call.next()
    except EtcdError as error:
        yield _error_line(error)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _status(error: EtcdError) -> int:
    return _STATUS.get(error.code, 500)


def _error_body(error: EtcdError) -> str:
    parts = [f'"code":{int(error.code)}']
    if error.message:
        parts.append(f'"message":{quote(error.message)}')
    return f"{{{','.join(parts)}}}"


def _error_line(error: EtcdError) -> bytes:
    return in_stream(f'{{"error":{_error_body(error)}}}\n').encode()


def _refusal(error: EtcdError) -> HttpResponse:
    headers = [_JSON]
    if error.code is Code.UNAUTHENTICATED:
        headers.append(("www-authenticate", error.message))
    return HttpResponse(_status(error), headers, _error_body(error).encode())
