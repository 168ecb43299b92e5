"""What is judged when a run is over: what clients and watchers saw, and whether all members hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.proto import kv_pb2
from tests.simulation.client import END, FIRST, KEYS
from tests.simulation.violation import Violation
from tests.support import linear_kv
from tests.support.linear_kv import Get, Item, KvModel, Put, Range
from tests.support.linearizability import UndecidedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.checks import Change
    from tests.simulation.client import Asked
    from tests.simulation.cluster import Cluster
    from tests.support.linearizability import Call


SEARCH_STEPS_MAX = 20_000
"""Of the search for an order in seeds whose keys stand alone; a tenth of a second."""


def judge(cluster: Cluster) -> None:
    hashes = cluster.hashes()
    if len(set(hashes.values())) > 1:
        raise Violation(f"members hash differently: {hashes}")
    if cluster.rights is not None:
        cluster.rights.judge()
    for watcher in cluster.watchers:
        watcher.check(cluster.checks.history)
    asked = [each for client in cluster.clients for each in client.asked]
    check_order(asked, cluster.checks.requests)
    check_contents([each for each in asked if each.call.returned is not None], cluster.checks.history)
    if not cluster.joins_keys:
        search_order([each.call for each in asked if not each.serializable])


def search_order(history: list[Call]) -> None:
    """Whether clients alone, without knowing the log, could tell that something is wrong."""
    try:
        found = linear_kv.check(history, KEYS, steps_max=SEARCH_STEPS_MAX)
    except UndecidedError:
        return  # the log tells more than the search
    if found is not None:
        raise Violation(str(found))


def check_order(asked: list[Asked], requests: Mapping[bytes, int]) -> None:
    """The log is a valid order of all calls: it gives every answer, and nobody who asked after another was answered
    comes before it."""
    placed = []
    for each in asked:
        if each.serializable:
            continue
        index = each.applied if each.payload is None else requests.get(each.payload, 0)
        if index:
            placed.append((index, each.payload is None, each))
        elif each.call.returned is not None:
            raise Violation(f"{each.call} was answered, but is in no log")
    # Reads at one place in the log may come in any order.
    placed.sort(key=lambda place: (place[0], place[1], place[2].call.called))
    model, state, latest = KvModel(KEYS), KvModel(KEYS).initial(), 0.0
    for index, _, each in placed:
        call = each.call
        if call.returned is not None and call.returned < latest:
            raise Violation(f"{call} is at {index} in the log, behind what was asked for after it was answered")
        latest = max(latest, call.called)
        state, response = model.step(state, call.request)
        if call.returned is not None and response != call.response:
            raise Violation(f"{call} is at {index} in the log, where the answer is {response}; state {state}")


def check_contents(told: list[Asked], history: Mapping[int, Change]) -> None:
    """What an answer shows is what the store's history holds at the answer's revision."""
    writes = sorted(history.items())
    state: dict[bytes, Item] = {}
    written: dict[int, list[Change]] = {}
    position = 0
    for packed, change in writes:
        written.setdefault(packed >> 32, []).append(change)
    for each in sorted(told, key=lambda each: each.revision):
        while position < len(writes) and writes[position][0] >> 32 <= each.revision:
            _apply(state, writes[position][1])
            position += 1
        _check_content(each, state, written.get(each.revision, []))


def _apply(state: dict[bytes, Item], change: Change) -> None:
    if change.deleted:
        state.pop(change.key, None)
    else:
        record = kv_pb2.KeyValue.FromString(change.record)
        state[change.key] = Item(record.value, record.version)


def _check_content(told: Asked, state: dict[bytes, Item], written: list[Change]) -> None:
    request = told.call.request
    expected: Any = told.call.response
    if isinstance(request, Get):
        expected = state.get(request.key)
    elif isinstance(request, Range):
        expected = tuple((key, state[key]) for key in sorted(state) if FIRST <= key < END)
    elif isinstance(request, Put):
        values = [kv_pb2.KeyValue.FromString(change.record).value for change in written if change.key == request.key]
        if values != [request.value]:
            raise Violation(f"{told} was answered, but its revision holds {written}")
    if told.call.response != expected:
        raise Violation(f"{told} shows {told.call.response}, history has {expected}")
