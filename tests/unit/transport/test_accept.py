"""A burst of connections is taken in by a few a turn, so that the loop is not held: the rest waits in the kernel."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.transport.listener import Listener, Serves
from etcdpy.transport.offenders import Offenders

if TYPE_CHECKING:
    from collections.abc import Coroutine

BURST = 3 * limits.ACCEPTS_PER_TURN


class Server:
    def __init__(self) -> None:
        self.accepted = self.spawned = 0
        self.loop = asyncio.new_event_loop()
        self.offenders = Offenders()

    def spawn(self, serving: Coroutine[Any, Any, None]) -> None:
        self.spawned += 1
        with pytest.raises(StopIteration):
            serving.send(None)


class Closing(Listener):
    async def _serve(self, sock: socket.socket, _address: str) -> None:
        sock.close()


@pytest.mark.parametrize("secure", [False, True])
def test_a_few_a_turn(secure: bool) -> None:
    server, serves = Server(), Serves(None, None)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=BURST))
        listening.setblocking(False)
        plain, tls = (None, serves) if secure else (serves, None)
        source: Any = object() if secure else None
        listener = Closing(cast("Any", server), listening, plain=plain, tls=tls, source=source)
        for _ in range(BURST):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        a_turn = limits.ACCEPTS_PER_TURN // 4 if secure else limits.ACCEPTS_PER_TURN
        for turn in range(1, BURST // a_turn + 1):
            listener._accept()
            assert server.spawned == server.accepted == turn * a_turn
        listener._accept()
        assert server.spawned == BURST
    server.loop.close()
