"""Runs of keys in a sorted list: against the list's own checks and a plain sort."""

from __future__ import annotations

import random
from typing import Any

from sortedcontainers import SortedList

from etcdpy.mvcc.sorted_keys import add_all


def check(keys: SortedList[bytes], expected: list[bytes]) -> None:
    whole: Any = keys
    whole._check()
    assert list(keys) == sorted(expected)
    # By position: through the list's index, which was made before some of the runs came.
    assert [keys[place] for place in range(0, len(keys), 7)] == sorted(expected)[::7]
    assert keys.bisect_left(b"m") == sum(key < b"m" for key in expected)


def test_runs_of_any_size_anywhere() -> None:
    draw = random.Random(1)
    for load in (4, 16):
        keys: SortedList[bytes] = SortedList()
        whole: Any = keys
        whole._reset(load)
        expected: list[bytes] = []
        for _ in range(150):
            prefix = draw.choice((b"", b"a", b"m", b"\xff\xff"))
            size = draw.choice((0, 1, 2, 5, 40))
            run = [prefix + b"%06d" % number for number in draw.sample(range(1_000_000), size)]
            run = [key for key in run if key not in keys]
            expected += run
            add_all(keys, run)
            if draw.random() < 0.5:
                check(keys, expected)
            if expected and draw.random() < 0.3:
                gone = draw.choice(expected)
                expected.remove(gone)
                keys.remove(gone)
        check(keys, expected)


def test_a_run_behind_all_others_is_divided() -> None:
    keys: SortedList[bytes] = SortedList([b"a"])
    run = [b"b%05d" % number for number in range(5_000)]
    add_all(keys, run[::-1])
    check(keys, [b"a", *run])
