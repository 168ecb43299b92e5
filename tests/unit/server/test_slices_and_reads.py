"""Work in slices, and reads that share a confirmation."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy.errors import Compacted, EtcdError, Stopped, Timeout
from etcdpy.raft.types import ReadState
from etcdpy.server.reads import ReadQueue
from etcdpy.server.slices import SliceRunner

if TYPE_CHECKING:
    from collections.abc import Generator


class Call:
    def __init__(self) -> None:
        self.parts: list[bytes] | None = None
        self.error: EtcdError | None = None
        self.on_cancel: Any = None

    def finish_parts(self, parts: list[bytes]) -> None:
        self.parts = parts

    def fail(self, error: EtcdError) -> None:
        self.error = error


def steps(count: int, log: list[str], fail: bool = False) -> Generator[None, None, list[bytes]]:
    try:
        for _ in range(count):
            yield
        if fail:
            raise Compacted
        return [b"done"]
    finally:
        log.append("closed")


async def _run(work: Generator[None, None, list[bytes]], *, cancel: bool = False) -> Call:
    call = Call()
    tasks: list[asyncio.Task[None]] = []

    def spawn(coroutine: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return tasks[-1]

    SliceRunner(spawn).run(cast("Any", call), work)
    if cancel:
        await asyncio.sleep(0)
        call.on_cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return call


def test_what_ends_in_its_first_slice_needs_no_task() -> None:
    log: list[str] = []
    call = asyncio.run(_run(steps(0, log)))
    assert call.parts == [b"done"]
    assert call.on_cancel is None


def test_longer_work_goes_on_in_turns() -> None:
    log: list[str] = []
    call = asyncio.run(_run(steps(10_000, log)))
    assert call.parts == [b"done"]
    assert log == ["closed"]


def test_an_error_in_a_later_slice_fails_the_call() -> None:
    call = asyncio.run(_run(steps(3, [], fail=True)))
    assert isinstance(call.error, Compacted)


def test_an_error_in_the_first_slice_is_the_caller_s() -> None:
    with pytest.raises(Compacted):
        asyncio.run(_run(steps(0, [], fail=True)))


def test_a_cancelled_call_lets_go_of_its_work() -> None:
    log: list[str] = []

    def endless() -> Generator[None, None, list[bytes]]:
        try:
            while True:
                yield
        finally:
            log.append("closed")

    call = asyncio.run(_run(endless(), cancel=True))
    assert call.parts is None
    assert log == ["closed"]


def test_an_interruption_ends_what_is_under_way_and_nothing_later() -> None:
    async def play() -> None:
        log: list[str] = []
        call = Call()
        runner: SliceRunner
        tasks: list[asyncio.Task[None]] = []

        def spawn(coroutine: Any) -> asyncio.Task[None]:
            tasks.append(asyncio.get_running_loop().create_task(coroutine))
            return tasks[-1]

        runner = SliceRunner(spawn)
        runner.run(cast("Any", call), steps(1 << 60, log))
        waiting = asyncio.get_running_loop().create_task(runner.wait(steps(1 << 60, log)))
        await asyncio.sleep(0)
        runner.interrupt()
        with pytest.raises(Timeout):
            await waiting
        await tasks[0]
        assert isinstance(call.error, Timeout)
        assert log == ["closed", "closed"]
        assert await runner.wait(steps(3, log)) == [b"done"]

    asyncio.run(play())


class Quorum:
    """A raft that is asked for read indexes and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.leader = True

    def read_index(self, context: bytes) -> bool:
        if self.leader:
            self.asked.append(context)
        return self.leader


def queue(quorum: Quorum) -> ReadQueue:
    return ReadQueue(cast("Any", quorum), next_id=count(1).__next__, retry_seconds=0.5)


def timeout(_deadline: float) -> EtcdError:
    return Timeout()


def test_reads_share_a_confirmation_and_wait_until_it_is_applied() -> None:
    quorum, answers = Quorum(), list[Any]()
    reads = queue(quorum)
    reads.add(10.0, answers.append)
    reads.add(10.0, answers.append)
    reads.ask(1.0)
    assert len(quorum.asked) == 1
    reads.note([ReadState(7, quorum.asked[0])], applied=6)
    assert answers == []
    reads.serve(7)
    assert answers == [None, None]


def test_a_read_that_comes_during_a_confirmation_needs_the_next() -> None:
    quorum, early, late = Quorum(), list[Any](), list[Any]()
    reads = queue(quorum)
    reads.add(10.0, early.append)
    reads.ask(1.0)
    reads.add(10.0, late.append)
    assert not reads.wants_confirmation
    reads.note([ReadState(7, quorum.asked[0])], applied=9)
    assert (early, late) == ([None], [])
    assert reads.wants_confirmation


def test_a_lost_confirmation_is_asked_for_again_and_either_answer_will_do() -> None:
    for which in (0, 1):
        quorum, answers = Quorum(), list[Any]()
        reads = queue(quorum)
        reads.add(10.0, answers.append)
        reads.ask(1.0)
        reads.expire(1.6, timeout)
        assert len(quorum.asked) == 2
        reads.note([ReadState(3, quorum.asked[which])], applied=9)
        assert answers == [None]
        reads.note([ReadState(5, quorum.asked[1 - which])], applied=9)
        assert (answers, reads.slow) == ([None], 1)


def test_the_ghost_of_a_confirmation_does_not_answer_for_later_reads() -> None:
    quorum, early, late = Quorum(), list[Any](), list[Any]()
    reads = queue(quorum)
    reads.add(2.0, early.append)
    reads.ask(1.0)
    reads.expire(2.1, timeout)
    assert len(early) == 1
    reads.add(10.0, late.append)
    reads.ask(2.2)
    reads.note([ReadState(3, quorum.asked[0])], applied=9)
    assert (late, reads.slow) == ([], 1)
    reads.note([ReadState(5, quorum.asked[1])], applied=9)
    assert late == [None]


def test_nobody_leads() -> None:
    quorum, answers = Quorum(), list[Any]()
    quorum.leader = False
    reads = queue(quorum)
    reads.add(2.0, answers.append)
    reads.ask(1.0)
    assert reads.wants_confirmation
    reads.expire(2.1, timeout)
    assert [type(error) for error in answers] == [Timeout]
    assert reads.failed == 1


def test_the_end_fails_all() -> None:
    quorum, answers = Quorum(), list[Any]()
    reads = queue(quorum)
    reads.add(10.0, answers.append)
    reads.ask(1.0)
    reads.note([ReadState(7, quorum.asked[-1])], applied=1)
    reads.add(10.0, answers.append)
    reads.ask(1.0)
    reads.add(10.0, answers.append)
    reads.fail(Stopped)
    assert [type(error) for error in answers] == [Stopped] * 3
