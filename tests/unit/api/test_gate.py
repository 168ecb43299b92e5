"""What a member refuses that has no leader, or no vote."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdpy.api.callers import TokenWaits
from etcdpy.api.gate import NO_LEADER_LOOKS_MAX, Gate
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import SimpleTokens
from etcdpy.errors import EtcdError, NoLeader, NotSupportedForLearner
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind, Method
from etcdpy.transport.heads import Memo
from tests.support.memory_backend import MemoryBackend

SERIALIZABLE = rpc_pb2.RangeRequest(key=b"k", serializable=True).SerializeToString()
LINEARIZABLE = rpc_pb2.RangeRequest(key=b"k").SerializeToString()


class Call:
    """A call as far as the gate looks at it."""

    def __init__(self, *, demands_leader: bool = False) -> None:
        self.head = SimpleNamespace(
            first=lambda name: b"true" if demands_leader and name == b"hasleader" else None, memo=Memo(), metadata={}
        )
        self.ended: EtcdError | None = None
        self.task: asyncio.Task[None] | None = None

    def end_by_server(self, error: EtcdError | None = None) -> None:
        self.ended = error
        if self.task is not None:
            self.task.cancel()


def table() -> tuple[Gate, dict[str, Method], list[str]]:
    reached: list[str] = []

    def answer(name: str) -> Any:
        return lambda _call, _body: reached.append(name)

    async def stream(_call: Any) -> None:
        reached.append("stream")
        await asyncio.Event().wait()

    methods = {name: Method("s", name, Kind.UNARY, answer(name)) for name in ("Put", "Range", "Status")}
    methods |= {name: Method("s", name, Kind.BIDI, stream) for name in ("Watch", "Snapshot")}
    tokens = TokenWaits(AuthStore(MemoryBackend(), SimpleTokens(300)), lambda: 0, lambda: 0.0, seconds=7)
    return Gate({method.path: method for method in methods.values()}, tokens), methods, reached


def test_the_normal_state_keeps_plain_handlers() -> None:
    gate, methods, _ = table()
    plain = methods["Put"].handler
    gate.set(has_leader=False, is_learner=False, has_users=False)
    assert methods["Put"].handler is not plain
    gate.set(has_leader=True, is_learner=False, has_users=False)
    assert methods["Put"].handler is plain


def test_without_a_leader_only_calls_that_demand_one_are_refused() -> None:
    gate, methods, reached = table()
    gate.set(has_leader=False, is_learner=False, has_users=False)
    methods["Put"].handler(Call(), b"")
    assert reached == ["Put"]
    with pytest.raises(NoLeader):
        methods["Put"].handler(Call(demands_leader=True), b"")


@pytest.mark.parametrize(
    ("name", "body", "refused"),
    [
        ("Put", b"", True),
        ("Range", LINEARIZABLE, True),
        ("Range", SERIALIZABLE, False),
        ("Status", b"", False),
    ],
)
def test_a_learner_answers_what_asks_nobody_else(name: str, body: bytes, refused: bool) -> None:
    gate, methods, reached = table()
    gate.set(has_leader=True, is_learner=True, has_users=False)
    if refused:
        with pytest.raises(NotSupportedForLearner):
            methods[name].handler(Call(), body)
    else:
        methods[name].handler(Call(), body)
        assert reached == [name]


def test_streams_on_a_learner() -> None:
    gate, methods, reached = table()
    gate.set(has_leader=True, is_learner=True, has_users=False)
    with pytest.raises(NotSupportedForLearner):
        asyncio.run(methods["Watch"].handler(Call()))

    async def snapshot() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await methods["Snapshot"].handler(Call())

    asyncio.run(snapshot())
    assert reached == ["stream"]


def test_streams_that_demand_a_leader_end_after_some_time_without() -> None:
    gate, methods, _ = table()

    async def scenario() -> tuple[Call, Call]:
        demanding, patient = Call(demands_leader=True), Call()
        for call in (demanding, patient):
            call.task = asyncio.create_task(methods["Watch"].handler(cast("Any", call)))
        await asyncio.sleep(0)
        gate.set(has_leader=False, is_learner=False, has_users=False)
        for _ in range(NO_LEADER_LOOKS_MAX - 1):
            gate.look()
        gate.set(has_leader=True, is_learner=False, has_users=False)
        gate.look()
        gate.set(has_leader=False, is_learner=False, has_users=False)
        for _ in range(NO_LEADER_LOOKS_MAX - 1):
            gate.look()
        assert demanding.ended is None
        gate.look()
        with pytest.raises(NoLeader):
            await methods["Watch"].handler(Call(demands_leader=True))
        assert patient.task is not None
        patient.task.cancel()
        await asyncio.wait([call.task for call in (demanding, patient) if call.task])
        return demanding, patient

    demanding, patient = asyncio.run(scenario())
    assert isinstance(demanding.ended, NoLeader)
    assert patient.ended is None
