"""Clients: each asks one thing at a time, of any member, and writes down what it was told and when.

What a client does not hear of, because its member died or took too long, is of unknown outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.errors import EtcdError, RequestTooLarge, TooManyRequests
from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.linear_kv import Compare, Delete, Get, Item, Put, Range, Request, Txn
from tests.support.linearizability import Call

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from etcdpy.apply.proposal import Outcome
    from tests.simulation.clock import Handle, Time
    from tests.simulation.member import Process

KEYS = [b"a", b"b", b"c", b"d"]
FIRST, END = b"a", b"e"
NOT_TAKEN = (RequestTooLarge, TooManyRequests)
"""Refusals that say for certain that the request was never in the log."""


@dataclass
class Asked:
    """One call, and what the outside knows of where it took effect."""

    call: Call
    payload: bytes | None
    """The entry's, of a request that goes through the log."""
    revision: int = 0
    applied: int = 0
    """Of a read: up to where the member had applied the log."""
    serializable: bool = False


class Client:
    """`choose` gives a live process, or None."""

    def __init__(
        self,
        name: str,
        time: Time,
        draw: Random,
        choose: Callable[[], Process | None],
        patience: float,
        pause: float,
        trace: Callable[[str], None],
        *,
        joins_keys: bool,
    ) -> None:
        self.name = name
        self._time = time
        self._draw = draw
        self._choose = choose
        self._patience = patience
        self._pause = pause
        self._trace = trace
        self._joins_keys = joins_keys
        self.asked: list[Asked] = []
        """All calls that ended, answered or not."""
        self.answers = 0
        self.stopped = False
        self.process: Process | None = None
        self._number = 0
        self._token: Any = None
        """What is under way: a token that late answers do not carry any more."""
        self._timer: Handle | None = None
        self._request: Request = Get(b"a")
        self._called = 0.0
        self._serializable = False
        self._payload: bytes | None = None

    def begin(self) -> None:
        self._time.after(self._draw.random() * self._pause, self._next)

    @property
    def busy(self) -> bool:
        return self._token is not None

    def _next(self) -> None:
        if self.stopped:
            return
        process = self._choose()
        if process is None:
            self._time.after(self._pause, self._next)
            return
        self._number += 1
        self._token = token = object()
        self.process = process
        self._called = self._time.now
        self._serializable, self._payload = False, None
        self._request = request = self._pick()
        self._timer = self._time.after(self._patience, self._give_up, token)
        self._trace(f"{self.name} asks {process.id} for {request}")
        if isinstance(request, Get | Range):
            if self._draw.random() < 0.15:
                self._serializable = True
                self._read(process, token, None)
            else:
                process.when_linearizable(lambda error: self._read(process, token, error))
        else:
            self._payload = process.propose(*wire_form(request), lambda outcome: self._written(token, outcome))

    def _pick(self) -> Request:
        draw = self._draw
        key = draw.choice(KEYS[:3])
        value = f"{self.name}.{self._number}".encode()
        kind = draw.random()
        if kind < 0.35:
            return Put(key, value, previous=draw.random() < 0.3)
        if kind < 0.65:
            return Get(key)
        if kind < 0.73:
            return Delete(key)
        if kind < 0.90 or not self._joins_keys:
            return Txn((Compare(key, draw.randrange(3)),), (Put(key, value), Get(key)), (Get(key),))
        if kind < 0.94:
            return Range(FIRST, END)
        if kind < 0.97:
            other = draw.choice(KEYS[:3])
            return Txn((Compare(key, 0),), (Put(key, value),), (Delete(key), Get(other)))
        return Txn((), (Put(b"c", value), Put(b"d", value)))

    # --- what comes back ---

    def _read(self, process: Process, token: object, error: EtcdError | None) -> None:
        if token is not self._token:
            return
        if error is not None:
            self._end()
            return
        store, request = process.store, self._request
        response: Any
        if isinstance(request, Range):
            records = store.range(request.start, request.end).records
            response = tuple((kv.key, Item(kv.value, kv.version)) for kv in map(_parse, records))
        else:
            assert isinstance(request, Get)
            record = store.get(request.key)
            response = None if record is None else _item(_parse(record))
        self._answered(response, store.current_revision, process.applier.applied_index)

    def _written(self, token: object, outcome: Outcome | EtcdError) -> None:
        if token is not self._token:
            return
        if isinstance(outcome, EtcdError):
            self._trace(f"{self.name} is refused: {outcome.message}")
            if isinstance(outcome, NOT_TAKEN):
                self._end()
            else:
                self._unknown()
            return
        revision, body = outcome
        self._answered(response_of(self._request, body), revision)

    def _answered(self, response: Any, revision: int, applied: int = 0) -> None:
        self.answers += 1
        call = Call(self.name, self._request, self._called, self._time.now, response)
        self._trace(f"{self.name} is told {response} r{revision}")
        self.asked.append(Asked(call, self._payload, revision, applied, self._serializable))
        self._end()

    def _give_up(self, token: object) -> None:
        if token is self._token:
            self._unknown()

    def lost(self) -> None:
        """The member that was asked is gone."""
        if self._token is not None:
            self._unknown()

    def _unknown(self) -> None:
        self._trace(f"{self.name} hears nothing")
        if self._payload is not None:
            self.asked.append(Asked(Call(self.name, self._request, self._called), self._payload))
        self._end()

    def _end(self) -> None:
        self._token = self.process = None
        if self._timer is not None:
            self._timer.cancel()
        self._time.after(self._draw.random() * 2 * self._pause, self._next)


# --- requests and responses in etcd's form ---


def wire_form(request: Put | Delete | Txn) -> tuple[str, Any]:
    """Kind and message of a request that goes through the log."""
    if isinstance(request, Txn):
        return "txn", _txn(request)
    return ("put", _put(request)) if isinstance(request, Put) else ("delete_range", _delete(request))


def _put(request: Put) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=request.key, value=request.value, prev_kv=request.previous)


def _delete(request: Delete) -> rpc_pb2.DeleteRangeRequest:
    return rpc_pb2.DeleteRangeRequest(key=request.key)


def _txn(request: Txn) -> rpc_pb2.TxnRequest:
    made = rpc_pb2.TxnRequest()
    for compare in request.compares:
        made.compare.add(
            key=compare.key, target=rpc_pb2.Compare.VERSION, result=rpc_pb2.Compare.EQUAL, version=compare.version
        )
    for branch, target in ((request.success, made.success), (request.failure, made.failure)):
        for each in branch:
            if isinstance(each, Put):
                target.add(request_put=_put(each))
            elif isinstance(each, Delete):
                target.add(request_delete_range=_delete(each))
            elif isinstance(each, Get):
                target.add(request_range=rpc_pb2.RangeRequest(key=each.key))
    return made


def response_of(request: Request, body: bytes) -> Any:
    """What linear_kv says of the same answer."""
    if isinstance(request, Txn):
        answer = rpc_pb2.TxnResponse.FromString(body)
        branch = request.success if answer.succeeded else request.failure
        parts = zip(branch, answer.responses, strict=True)
        return answer.succeeded, tuple(_part(each, response) for each, response in parts)
    if isinstance(request, Delete):
        return rpc_pb2.DeleteRangeResponse.FromString(body).deleted
    assert isinstance(request, Put)
    return _previous(request, rpc_pb2.PutResponse.FromString(body))


def _part(request: Request, response: rpc_pb2.ResponseOp) -> Any:
    if isinstance(request, Get):
        found = response.response_range.kvs
        return _item(found[0]) if found else None
    if isinstance(request, Delete):
        return response.response_delete_range.deleted
    assert isinstance(request, Put)
    return _previous(request, response.response_put)


def _previous(request: Put, response: rpc_pb2.PutResponse) -> Item | None:
    return _item(response.prev_kv) if request.previous and response.HasField("prev_kv") else None


def _parse(record: bytes) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue.FromString(record)


def _item(record: kv_pb2.KeyValue) -> Item:
    return Item(record.value, record.version)
