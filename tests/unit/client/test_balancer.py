from __future__ import annotations

from etcdpy.client.balancer import SIT_OUT_SECONDS, Balancer


def test_a_single_endpoint_always_gets_the_calls() -> None:
    balancer = Balancer(1)
    balancer.disconnected(0)
    balancer.unwell(0, 5.0)
    assert balancer.pick(5.0) == 0


def test_nobody_is_picked_before_there_is_a_connection() -> None:
    balancer = Balancer(3)
    assert balancer.pick(0.0) is None
    balancer.connected(2)
    assert [balancer.pick(0.0) for _ in range(2)] == [2, 2]


def test_connected_endpoints_take_turns() -> None:
    balancer = Balancer(3)
    for number in range(3):
        balancer.connected(number)
    assert [balancer.pick(0.0) for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    balancer.disconnected(1)
    assert [balancer.pick(0.0) for _ in range(4)] == [0, 2, 0, 2]


def test_one_that_is_unwell_sits_out() -> None:
    balancer = Balancer(2)
    for number in range(2):
        balancer.connected(number)
    balancer.unwell(0, 10.0)
    assert [balancer.pick(10.0) for _ in range(3)] == [1, 1, 1]
    assert {balancer.pick(10.0 + SIT_OUT_SECONDS) for _ in range(2)} == {0, 1}


def test_where_all_are_unwell_the_one_that_is_back_first_is_asked() -> None:
    balancer = Balancer(3)
    for number in range(3):
        balancer.connected(number)
        balancer.unwell(number, 10.0 - number)
    assert balancer.pick(8.0) == 2
    balancer.connected(1)
    assert balancer.pick(8.0) == 1
