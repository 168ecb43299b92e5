"""The JSON API over WebSocket, as etcd's gateway offers it: each message is a request in JSON, and each line of the
answer is a message.

A browser's script can set no headers there, so who asks may be told by the subprotocols `Bearer, <token>` or by a
cookie named token. Of the other headers Origin and Referer alone are looked at.
"""

from __future__ import annotations

from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.websocket import Upgrade, upgrade_headers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from etcdpy.transport.exchange import HttpHandler
    from etcdpy.transport.websocket import WebSocket

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

_FORWARDED: Final = ("origin", "referer")
_BAD: Final = HttpResponse(
    400,
    [
        ("content-type", "text/plain; charset=utf-8"),
        ("sec-websocket-version", "13"),
        ("x-content-type-options", "nosniff"),
    ],
    b"Bad Request\n",
)


def upgraded(
    request: HttpRequest, handle: HttpHandler, spawn: Spawn, *, streamed: bool, message_bytes_max: int
) -> HttpResponse:
    """The answer that upgrades; `handle` is then asked as if each message had come in the body of a POST.

    `streamed`: the call takes requests for as long as they come; any other takes the first message.
    """
    headers = upgrade_headers(request)
    if headers is None:
        return _BAD
    if request.headers.get("sec-websocket-protocol", "").startswith("Bearer"):
        headers.append(("sec-websocket-protocol", "Bearer"))

    async def serve(websocket: WebSocket) -> None:
        try:
            first = b"" if streamed else await websocket.receive()
            if first is not None:
                inner = _inner(request, first, _lines(websocket) if streamed else None)
                await _answer(websocket, await handle(inner))
        finally:
            websocket.close()

    def begin(websocket: WebSocket) -> None:
        task = spawn(serve(websocket))
        websocket.on_closed = partial(_cancel, task)

    return HttpResponse(101, headers, Upgrade(begin, message_bytes_max))


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _lines(websocket: WebSocket) -> AsyncIterator[bytes]:
    while (message := await websocket.receive()) is not None:
        yield message + b"\n"


def _inner(request: HttpRequest, body: bytes, stream: AsyncIterator[bytes] | None) -> HttpRequest:
    headers: dict[str, str] = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
    if authorization := _authorization(request):
        headers["authorization"] = authorization
    return HttpRequest(
        method="POST",
        path=request.path,
        query=request.query,
        headers=headers,
        body=body,
        peer=request.peer,
        secure=request.secure,
        host=request.host,
        version=request.version,
        stream=stream,
    )


def _authorization(request: HttpRequest) -> str:
    """By the cookie, or else by the subprotocols."""
    try:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("token")
    except CookieError:
        cookie = None
    if cookie is not None:
        return f"Bearer {cookie.value}"
    _, bearer, token = request.headers.get("sec-websocket-protocol", "").partition("Bearer,")
    return f"Bearer {token.strip(' ')}" if bearer else ""


async def _answer(websocket: WebSocket, response: HttpResponse) -> None:
    """Every line of the answer as a message; the status is not told, as on etcd."""
    body = response.body
    if isinstance(body, bytes):
        if body:
            await websocket.send(body.removesuffix(b"\n"))
        return
    assert hasattr(body, "__aiter__")
    rest: list[bytes] = []
    async for piece in body:
        head, newline, tail = piece.rpartition(b"\n")
        if newline:
            for line in b"".join([*rest, head]).split(b"\n"):
                await websocket.send(line)
            rest.clear()
        if tail:
            rest.append(tail)
    if rest:
        await websocket.send(b"".join(rest))
