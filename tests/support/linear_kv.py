"""A key-value store as linearizability.py wants it: values and versions, without revisions, which would tie all keys
together. Requests say what a client asked for; responses are what it was told, in plain tuples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tests.support import linearizability

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from tests.support.linearizability import Call, Violation

State: TypeAlias = tuple[tuple[bytes, "Item"], ...]
Response: TypeAlias = "Hashable"


class Item(NamedTuple):
    """A key's value and its version: how often it was put since it was created."""

    value: bytes
    version: int


class Put(NamedTuple):
    """-> None, or with `previous` the Item before (None when there was none)."""

    key: bytes
    value: bytes
    previous: bool = False


class Get(NamedTuple):
    """-> Item or None."""

    key: bytes


class Delete(NamedTuple):
    """-> how many keys were deleted."""

    key: bytes


class Range(NamedTuple):
    """-> a tuple of (key, Item) with start <= key < end."""

    start: bytes
    end: bytes


class Compare(NamedTuple):
    """Whether a key has that version; 0 is a key that does not exist. With `value` set: whether it has that value."""

    key: bytes
    version: int = 0
    value: bytes | None = None


class Txn(NamedTuple):
    """-> (whether all compares hold, the responses of that branch)."""

    compares: tuple[Compare, ...]
    success: tuple[Put | Get | Delete | Range, ...]
    failure: tuple[Put | Get | Delete | Range, ...] = ()


Request: TypeAlias = Put | Get | Delete | Range | Txn


class KvModel:
    """See linearizability.Model. `universe` are all keys there are, which says what a range touches; keys in `kept`
    are never deleted, so that their versions only rise."""

    def __init__(self, universe: Iterable[bytes] = (), kept: frozenset[bytes] = frozenset()) -> None:
        self._universe = sorted(universe)
        self._kept = kept

    def initial(self) -> State:
        return ()

    def keys(self, request: Request) -> list[bytes]:
        if isinstance(request, Txn):
            parts = (*request.success, *request.failure)
            return [compare.key for compare in request.compares] + [key for part in parts for key in self.keys(part)]
        if isinstance(request, Range):
            return [key for key in self._universe if request.start <= key < request.end]
        return [request.key]

    def is_past(self, state: State, request: Request, response: Response) -> bool:
        if not isinstance(request, Put | Get) or request.key not in self._kept:
            return False
        told = response.version if isinstance(response, Item) else 0
        return any(key == request.key and item.version > told for key, item in state)

    def step(self, state: State, request: Request) -> tuple[State, Response]:
        items = dict(state)
        if isinstance(request, Txn):
            succeeded = all(_holds(items, compare) for compare in request.compares)
            branch = request.success if succeeded else request.failure
            response: Response = (succeeded, tuple([_do(items, each) for each in branch]))
        else:
            response = _do(items, request)
        return tuple(sorted(items.items())), response


def _holds(items: dict[bytes, Item], compare: Compare) -> bool:
    item = items.get(compare.key)
    if compare.value is not None:
        return item is not None and item.value == compare.value
    return (item.version if item else 0) == compare.version


def _do(items: dict[bytes, Item], request: Put | Get | Delete | Range) -> Response:
    if isinstance(request, Range):
        return tuple(sorted((key, item) for key, item in items.items() if request.start <= key < request.end))
    before = items.get(request.key)
    if isinstance(request, Put):
        items[request.key] = Item(request.value, before.version + 1 if before else 1)
        return before if request.previous else None
    if isinstance(request, Delete):
        return 0 if items.pop(request.key, None) is None else 1
    return before


def check(
    history: Sequence[Call], universe: Iterable[bytes] = (), *, steps_max: int = linearizability.STEPS_MAX
) -> Violation | None:
    """See linearizability.check. The more unique the values, the faster."""
    deleted = {key for call in history for key in _deleted(call.request)}
    keys = {key for call in history for key in KvModel().keys(call.request)}
    model = KvModel(universe, frozenset(keys - deleted))
    return linearizability.check(without_unseen_values(history), model, steps_max=steps_max)


def _deleted(request: Request) -> Iterator[bytes]:
    if isinstance(request, Delete):
        yield request.key
    elif isinstance(request, Txn):
        yield from (part.key for part in (*request.success, *request.failure) if isinstance(part, Delete))


UNSEEN = b"(never seen)"


def without_unseen_values(history: Sequence[Call]) -> list[Call]:
    """The same history, with one value for all that calls of unknown outcome wrote and nobody ever asked for or saw.

    So they are alike, and the search need not tell them apart.
    """
    seen = {value for call in history for value in _values_seen(call.request, call.response)}
    return [replace(call, request=_blurred(call.request, seen)) if call.returned is None else call for call in history]


def _values_seen(request: Request, response: Response) -> Iterator[bytes]:
    if isinstance(request, Txn):
        yield from (compare.value for compare in request.compares if compare.value is not None)
    pending = [response]
    while pending:
        part = pending.pop()
        if isinstance(part, Item):
            yield part.value
        elif isinstance(part, tuple):
            pending.extend(part)


def _blurred(request: Request, seen: set[bytes]) -> Request:
    def blur(part: Put | Get | Delete | Range) -> Put | Get | Delete | Range:
        return part._replace(value=UNSEEN) if isinstance(part, Put) and part.value not in seen else part

    if isinstance(request, Txn):
        success, failure = (tuple(map(blur, branch)) for branch in (request.success, request.failure))
        return request._replace(success=success, failure=failure)
    return blur(request)
