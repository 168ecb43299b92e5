"""A thousand connections that ask at once do not hold the loop until all are served."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from etcdpy import limits, work_limits
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.frames import PREFACE, ping, settings
from etcdpy.transport.server import Server
from etcdpy.transport.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = work_limits.TURN_READ_SECONDS / 4


class Loop:
    """Counts turns by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, work: Callable[[], None]) -> None:
        self.soon.append(work)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for work in soon:
            work()


class Work:
    """Takes a quarter of a turn's share each time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.done: list[int] = []

    def __call__(self, number: int) -> None:
        self.seconds += STEP * 1.01
        self.done.append(number)

    def clock(self) -> float:
        return self.seconds


def test_what_a_turn_has_no_time_for_waits_in_order() -> None:
    loop, work = Loop(), Work()
    turns = Turns(cast("Any", loop), work.clock)
    for number in range(10):
        if turns.is_over():
            turns.later(lambda number=number: work(number))  # type: ignore[misc]
        else:
            work(number)
    assert work.done == [0, 1, 2, 3]
    loop.turn()
    assert work.done == [*range(8)]
    assert not turns.is_over(), "what comes new in a turn has a share of its own"
    loop.turn()
    assert work.done == [*range(10)]
    loop.turn()
    assert work.done == [*range(10)]
    assert not loop.soon


def test_connections_that_are_late_are_served_all_the_same() -> None:
    """Each look at the clock is the end of a turn here, so that all but the first of a turn come later."""

    async def ask(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE + settings({}))
        await reader.readexactly(9)
        data = b"%08d" % number
        for half in (ping(data, ack=False)[:10], ping(data, ack=False)[10:]):
            writer.write(half)
            await asyncio.sleep(0)
        received = b""
        while ping(data, ack=True) not in received:
            piece = await reader.read(1000)
            assert piece, "closed"
            received += piece
        writer.close()
        return data

    async def ask_http1(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        told = b""
        for _ in range(3):  # from the second one on the head is known
            for piece in (
                b"POST /x HTTP/1.1\r\nhost: a\r\nconte",
                b"nt-length: 8\r\n\r\n%04d" % number,
                b"%04d" % number,
            ):
                writer.write(piece)
                await asyncio.sleep(0)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            told = await reader.readexactly(8)
        writer.close()
        return told

    async def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=request.body)

    async def main() -> None:
        server = Server({})
        ticks = count()
        server.turns = Turns(server.loop, lambda: float(next(ticks)))
        (listener,) = await server.listen(["http://127.0.0.1:0"], http=echo)
        port = int(listener.address[1])
        async with asyncio.timeout(10), asyncio.TaskGroup() as clients:
            asked = [clients.create_task(ask(port, number)) for number in range(60)]
            asked_http1 = [clients.create_task(ask_http1(port, number)) for number in range(60)]
        assert [each.result() for each in asked] == [b"%08d" % number for number in range(60)]
        assert [each.result() for each in asked_http1] == [b"%04d" % number * 2 for number in range(60)]
        for _ in range(5000):  # who sends no more is closed, a share a turn as well
            if not server.connections:
                break
            await asyncio.sleep(0.001)
        assert not server.connections
        await server.close()

    asyncio.run(main())


class Dirty:
    def __init__(self, written: list[int], number: int) -> None:
        self._written = written
        self._number = number

    def flush(self) -> None:
        self._written.append(self._number)


def test_very_many_answers_are_written_in_shares_and_in_order() -> None:
    share = work_limits.FLUSHES_PER_TURN

    async def main() -> None:
        server = Server({})
        written: list[int] = []
        for number in range(2 * share + 10):
            server.add_dirty(Dirty(written, number))
        server.flush_dirty()
        assert written == [*range(share)]
        server.flush_dirty()
        assert written == [*range(share)], "the others wait for their turn, whoever asks"
        server.add_dirty(Dirty(written, 2 * share + 10))
        for done in (2 * share, 2 * share + 11):
            await asyncio.sleep(0)
            assert written == [*range(done)]
        server.add_dirty(Dirty(written, 2 * share + 11))
        server.add_unhurried(Dirty(written, 2 * share + 12))
        await asyncio.sleep(2 * limits.PING_ANSWER_SECONDS_MAX)
        assert written == [*range(2 * share + 13)]
        await server.close()

    asyncio.run(main())
