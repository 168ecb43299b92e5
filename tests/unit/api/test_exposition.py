"""The text of a scrape."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from etcdpy.api.exposition import BucketCounts, bucket_rows, labels_text, number, scrape

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "-0"),
        (1, "1"),
        (-3.5, "-3.5"),
        (0.001, "0.001"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (819200, "819200"),
        (999999.5, "999999.5"),
        (1048576, "1.048576e+06"),
        (1795231450.25, "1.79523145025e+09"),
        (-2e7, "-2e+07"),
        (2.1039999999999997e-06, "2.1039999999999997e-06"),
        (2**63, "9.223372036854776e+18"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert number(value) == text


def test_labels_are_ordered_and_escaped() -> None:
    assert labels_text({}) == ""
    assert labels_text({"b": "1", "a": 'x"\\\n'}) == '{a="x\\"\\\\\\n",b="1"}'


def test_histograms() -> None:
    rows = bucket_rows("h", {"op": "Put"}, BucketCounts((0.5, 1), (1, 0, 2), 7.25))
    assert rows == [
        ("h_bucket", {"op": "Put", "le": "0.5"}, 1),
        ("h_bucket", {"op": "Put", "le": "1"}, 1),
        ("h_bucket", {"op": "Put", "le": "+Inf"}, 3),
        ("h_sum", {"op": "Put"}, 7.25),
        ("h_count", {"op": "Put"}, 3),
    ]


class Families(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def family(name: str, kind: str, value: float = 1) -> Metric:
    made = Metric(name, "Help\nof it.", kind)
    made.add_sample(name, {}, value)
    return made


def test_names_come_out_as_they_are() -> None:
    registry = CollectorRegistry()
    registry.register(
        Families(
            family("z_success", "counter"),
            family("a_total", "gauge"),
            CounterMetricFamily("lib", "The library's own.", value=2),
            Metric("empty", "", "gauge"),
        )
    )
    assert asyncio.run(scrape(registry)).decode() == (
        "# HELP a_total Help\\nof it.\n# TYPE a_total gauge\na_total 1\n"
        "# HELP lib_total The library's own.\n# TYPE lib_total counter\nlib_total 2\n"
        "# HELP z_success Help\\nof it.\n# TYPE z_success counter\nz_success 1\n"
    )


def test_a_large_scrape_lets_others_run() -> None:
    registry = CollectorRegistry()
    large = Metric("large", "", "gauge")
    for each in range(5000):
        large.add_sample("large", {"n": str(each)}, each)
    registry.register(Families(large))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            other = group.create_task(count_turns())
            await scrape(registry)
            other.cancel()

    asyncio.run(run())
    assert turns >= 10
