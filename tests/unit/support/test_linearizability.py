from __future__ import annotations

import itertools
import random
import time

import pytest

from tests.support import linear_kv
from tests.support.linear_kv import Compare, Delete, Get, Item, KvModel, Put, Range, Request, Txn
from tests.support.linearizability import Call, UndecidedError, check, partitions

MODEL = KvModel([b"k", b"a", b"b", b"c"])
K = b"k"


def call(called: float, returned: float | None, request: Request, response: object = None) -> Call:
    return Call("c", request, called, returned, response)


def valid(*calls: Call) -> bool:
    return check(calls, MODEL) is None


def one(value: bytes, version: int = 1) -> Item:
    return Item(value, version)


# --- planted violations, each beside a history that differs little and is valid ---


def test_a_stale_read() -> None:
    writes = [call(0, 1, Put(K, b"1")), call(2, 3, Put(K, b"2"))]
    assert valid(*writes, call(4, 5, Get(K), one(b"2", 2)))
    assert valid(*writes, call(2, 5, Get(K), one(b"1")))
    assert not valid(*writes, call(4, 5, Get(K), one(b"1")))


def test_a_lost_write() -> None:
    assert not valid(call(0, 1, Put(K, b"1")), call(2, 3, Get(K), None))
    assert valid(call(0, 1, Put(K, b"1")), call(0.5, 3, Get(K), None))
    assert valid(call(0, None, Put(K, b"1")), call(2, 3, Get(K), None)), "nobody promised that write"


def test_a_write_applied_twice() -> None:
    swap = Txn((Compare(K, 1),), (Put(K, b"2"),))
    assert not valid(call(0, 1, Put(K, b"1")), call(2, 3, Get(K), one(b"1", 2)))
    assert valid(call(0, 1, Put(K, b"1")), call(2, 3, swap, (True, (None,))), call(4, 5, Get(K), one(b"2", 2)))
    # It was applied once for the client and once more after another write.
    assert not valid(call(0, 1, Put(K, b"1")), call(2, 3, Put(K, b"2")), call(4, 5, Get(K), one(b"1", 3)))
    # A lost answer explains one more write, but not two.
    repeated = [call(0, 1, Put(K, b"1")), call(2, None, Put(K, b"1"))]
    assert valid(*repeated, call(4, 5, Get(K), one(b"1", 2)))
    assert not valid(*repeated, call(4, 5, Get(K), one(b"1", 3)))


def test_a_read_that_goes_back() -> None:
    put = call(0, 9, Put(K, b"1"))
    assert valid(put, call(1, 2, Get(K), None), call(3, 4, Get(K), one(b"1")))
    assert not valid(put, call(1, 2, Get(K), one(b"1")), call(3, 4, Get(K), None))


def test_an_unknown_write_cannot_be_undone() -> None:
    put = call(0, None, Put(K, b"1"))
    assert valid(put, call(1, 2, Get(K), None), call(3, 4, Get(K), one(b"1")))
    assert not valid(put, call(1, 2, Get(K), one(b"1")), call(3, 4, Get(K), None))
    assert not valid(call(2.5, None, Put(K, b"1")), call(1, 2, Get(K), one(b"1"))), "read before it was asked for"


def test_two_swaps_cannot_both_win() -> None:
    swaps = [Txn((Compare(K, 1),), (Put(K, value),), (Get(K),)) for value in (b"x", b"y")]
    put = call(0, 1, Put(K, b"1"))
    assert valid(put, call(2, 5, swaps[0], (True, (None,))), call(2, 5, swaps[1], (False, (one(b"x", 2),))))
    assert not valid(put, call(2, 5, swaps[0], (True, (None,))), call(2, 5, swaps[1], (True, (None,))))


def test_a_transaction_over_two_keys_is_seen_whole() -> None:
    both = Txn((), (Put(b"a", b"1"), Put(b"b", b"1")))
    look = Txn((), (Get(b"a"), Get(b"b")))
    assert valid(call(0, 5, both, (True, (None, None))), call(1, 6, look, (True, (one(b"1"), one(b"1")))))
    assert not valid(call(0, 5, both, (True, (None, None))), call(1, 6, look, (True, (one(b"1"), None))))
    torn = (call(0, None, both), call(1, 6, Range(b"a", b"c"), ((b"a", one(b"1")),)))
    assert not valid(*torn)


def test_keys_together_break_what_each_alone_allows() -> None:
    """Each key by itself is fine; the order that the two reads of both keys saw is not."""
    writes = [call(0, 9, Put(b"a", b"1")), call(0, 9, Put(b"b", b"1"))]
    look = Txn((), (Get(b"a"), Get(b"b")))
    first = call(1, 8, look, (True, (one(b"1"), None)))
    assert valid(*writes, first)
    assert not valid(*writes, first, call(1, 8, look, (True, (None, one(b"1")))))


def test_deletes_count() -> None:
    put = call(0, 1, Put(K, b"1"))
    assert valid(put, call(2, 5, Delete(K), 1), call(2, 5, Delete(K), 0))
    assert not valid(put, call(2, 5, Delete(K), 1), call(2, 5, Delete(K), 1))


def test_the_finding_names_what_does_not_fit() -> None:
    stale = call(4, 5, Get(K), one(b"1"))
    found = check([call(0, 1, Put(K, b"1")), call(2, 3, Put(K, b"2")), stale, call(6, 7, Get(K), one(b"2", 2))], MODEL)
    assert found is not None
    assert found.stuck == stale
    assert "Get(key=b'k')" in str(found)
    assert [each.request for each in found.prefix] == [Put(K, b"1"), Put(K, b"2")]


def test_keys_that_no_call_joins_are_apart() -> None:
    apart = [call(0, 1, Put(b"a", b"")), call(0, 1, Put(b"b", b"")), call(0, 1, Put(b"c", b""))]
    assert [len(group) for group in partitions(apart, MODEL)] == [1, 1, 1]
    joined = [*apart, call(2, 3, Txn((Compare(b"a"),), (Put(b"c", b""),)), (False, ()))]
    assert sorted(len(group) for group in partitions(joined, MODEL)) == [1, 3]


# --- against a dumb second version ---


def brute_force(calls: list[Call]) -> bool:
    """Every order of every choice of unknown calls."""
    known = [each for each in calls if each.returned is not None]
    unknown = [each for each in calls if each.returned is None]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if explains(order):
                    return True
    return False


def explains(order: tuple[Call, ...]) -> bool:
    state = MODEL.initial()
    latest = float("-inf")
    for each in order:
        latest = max(latest, each.called)
        if each.returned is not None and each.returned < latest:
            return False
        state, response = MODEL.step(state, each.request)
        if each.returned is not None and response != each.response:
            return False
    return True


def random_request(draw: random.Random) -> Request:
    key = draw.choice([b"a", b"b"])
    value = draw.choice([b"1", b"2"])
    kind = draw.randrange(7)
    if kind < 2:
        return Put(key, value, previous=draw.random() < 0.3)
    if kind < 4:
        return Get(key)
    if kind == 4:
        return Delete(key)
    if kind == 5:
        return Txn((Compare(key, draw.randrange(3)),), (Put(key, value),), (Get(b"b"),))
    return Range(b"a", b"c")


def random_history(draw: random.Random, size: int, clients: int = 3) -> list[Call]:
    """Calls as a correct server would answer them, some answers lost; then perhaps one answer is made wrong."""
    state, free = MODEL.initial(), [0.0] * clients
    calls: list[Call] = []
    moment = 0.0
    for _ in range(size):
        client = draw.randrange(clients)
        moment = max(moment, free[client]) + draw.random()
        request = random_request(draw)
        called = draw.uniform(free[client], moment)
        free[client] = returned = moment + draw.random() * 3
        lost = draw.random() < 0.25
        if not lost or draw.random() < 0.5:
            state, response = MODEL.step(state, request)
        calls.append(
            Call(client, request, called, None, None) if lost else Call(client, request, called, returned, response)
        )
    if draw.random() < 0.6:
        wrong = draw.randrange(size)
        if calls[wrong].returned is not None:
            _, response = MODEL.step(
                draw.choice([(), ((b"a", one(b"1")),), ((b"b", one(b"2", 2)),)]), calls[wrong].request
            )
            calls[wrong] = Call(
                calls[wrong].client, calls[wrong].request, calls[wrong].called, calls[wrong].returned, response
            )
    return calls


def test_agrees_with_trying_every_order() -> None:
    draw = random.Random(4)
    seen = {True: 0, False: 0}
    for _ in range(1500):
        history = random_history(draw, draw.randrange(2, 7))
        expected = brute_force(history)
        assert (check(history, MODEL) is None) == expected, history
        assert (linear_kv.check(history, [b"a", b"b"]) is None) == expected, history
        seen[expected] += 1
    assert min(seen.values()) > 200, seen


# --- speed ---


def seconds_for(history: list[Call]) -> float:
    began = time.perf_counter()
    assert linear_kv.check(history) is None
    return time.perf_counter() - began


def correct_history(draw: random.Random, size: int, clients: int, lost: float) -> list[Call]:
    """One busy key, unique values; every client has a call under way nearly all the time."""
    calls: list[Call] = []
    points = []
    for client in range(clients):
        moment = 0.0
        for number in range(size // clients):
            called = moment + draw.random() * 0.1
            moment = called + 0.5 + draw.random()
            value = b"%d/%d" % (client, number)
            kinds: list[Request] = [Put(K, value), Get(K), Put(K, value, previous=True)]
            request = draw.choice(kinds)
            points.append((draw.uniform(called, moment), called, moment, client, request))
    state = MODEL.initial()
    for _, called, returned, client, request in sorted(points, key=lambda point: point[0]):
        if draw.random() >= lost:
            state, response = MODEL.step(state, request)
            calls.append(Call(client, request, called, returned, response))
            continue
        if draw.random() < 0.5:
            state, _ = MODEL.step(state, request)
        calls.append(Call(client, request, called))
    return calls


@pytest.mark.parametrize("lost", [0.0, 0.1])
def test_a_busy_key_is_fast(lost: float) -> None:
    for seed in range(5):
        assert seconds_for(correct_history(random.Random(seed), 1500, 8, lost)) < 5


def test_many_lost_writes_on_one_key_are_fast() -> None:
    """Sixty writes without an answer, of which some are seen: 2 to the 60 choices for who tries them all."""
    calls = [call(number / 100, None, Put(K, b"%d" % number)) for number in range(60)]
    calls += [call(10 + number, 10.5 + number, Get(K), one(b"%d" % (number * 7), number + 1)) for number in range(8)]
    assert seconds_for(calls) < 5


def test_all_at_once_is_fast() -> None:
    """Twelve puts at the same time, whose order only the reads after them tell."""
    order = list(range(12))
    random.Random(1).shuffle(order)
    calls = [call(0, 100, Put(K, b"%d" % number)) for number in range(12)]
    calls += [call(1 + at, 1.5 + at, Get(K), one(b"%d" % number, at + 1)) for at, number in enumerate(order)]
    assert seconds_for(calls) < 5


def test_gives_up_instead_of_running_for_ever() -> None:
    calls = [call(0, 100, Put(K, b"%d" % number)) for number in range(12)]
    calls.append(call(101, 102, Get(K), one(b"x", 12)))
    with pytest.raises(UndecidedError):
        check(calls, MODEL, steps_max=1000)
