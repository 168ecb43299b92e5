from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from etcdpy.ctl.check import Tally, judge, paced


@pytest.mark.parametrize(
    ("tally", "lines", "good"),
    [
        (
            Tally([0.01] * 140, seconds=1.0),
            ["PASS: Throughput is 141 writes/s", "PASS: Slowest request took 0.010000s", "PASS: Stddev is 0.000000s"],
            True,
        ),
        (
            Tally([0.01] * 130 + [0.7], seconds=1.0),
            [
                "FAIL: Throughput too low: 132 writes/s",
                "Slowest request took too long: 0.700000s",
                "PASS: Stddev is 0.060055s",
            ],
            False,
        ),
        (
            Tally([0.1, 0.4] * 100, Counter({"etcdserver: too many requests": 3}), seconds=1.0),
            [
                "FAIL: too many errors",
                "FAIL: ERROR(etcdserver: too many requests) -> 3",
                "PASS: Throughput is 201 writes/s",
                "PASS: Slowest request took 0.400000s",
                "Stddev too high: 0.150000s",
            ],
            False,
        ),
    ],
)
def test_the_verdict(tally: Tally, lines: list[str], good: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(tally, 150) is good
    assert capsys.readouterr().out.splitlines() == lines


def test_who_could_send_no_more_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not judge(Tally([0.01], seconds=1.0, client_was_busy=True), 150)
    assert "This client could send no more" in capsys.readouterr().err


def test_the_pace_is_not_caught_up_with() -> None:
    async def count() -> int:
        done = 0
        async for _ in paced(1000, 0.1):
            if done == 10:
                time.sleep(0.05)  # noqa: ASYNC251  # the loop is held, as by a slow cluster
            done += 1
        return done

    assert asyncio.run(count()) < 80
