"""Prometheus' text format, version 0.0.4, written in slices so that a scrape never holds the loop.

prometheus-client's own writer appends `_total` to counters and prints `1.0` where Go prints `1`; etcd's names and
bucket labels must come out unchanged, so the families of its registry are written here.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry
    from prometheus_client.samples import Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
_SAMPLES_A_SLICE: Final = 400
"""Samples written between two looks of the loop at its other work: about 1 ms."""


class Buckets(Protocol):
    """A histogram as it is read at scrape time. `etcdpy.histogram.Histogram` is one."""

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds, rising."""
        ...

    @property
    def counts(self) -> Sequence[int]:
        """Values a bucket; one more than bounds, for what lies above them all."""
        ...

    @property
    def total(self) -> float:
        """The sum of the values."""
        ...


class BucketCounts(NamedTuple):
    """Buckets out of counts that are kept elsewhere."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


def number(value: float) -> str:
    """A value as Go prints it: `1`, `0.001`, `1.048576e+06`, `+Inf`."""
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    if value != value:
        return "NaN"
    shortest = repr(float(value))
    power = int(f"{value:.16e}".partition("e")[2])
    if value == 0 or -5 < power < 6:
        return shortest.removesuffix(".0")
    digits = _significant(shortest).rstrip("0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{power:+03d}"


def _significant(shortest: str) -> str:
    """The digits of a float's shortest form, without sign, point, exponent and leading zeros."""
    return shortest.lstrip("-").partition("e")[0].replace(".", "").lstrip("0") or "0"


def labels_text(labels: Mapping[str, str]) -> str:
    """`{a="x",b="y"}` with the names in order, or nothing."""
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in sorted(labels.items()))
    return f"{{{inner}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def bucket_rows(name: str, labels: Mapping[str, str], histogram: Buckets) -> list[tuple[str, dict[str, str], float]]:
    """The samples of one histogram, as `(sample name, labels, value)`."""
    running, rows = 0, []
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        running += count
        rows.append((f"{name}_bucket", {**labels, "le": number(bound)}, float(running)))
    rows.append((f"{name}_sum", dict(labels), float(histogram.total)))
    rows.append((f"{name}_count", dict(labels), float(running)))
    return rows


async def scrape(registry: CollectorRegistry) -> bytes:
    """Everything in the registry as text, families in order of their names. Other work of the loop runs in between."""
    families = sorted((family for family in registry.collect() if family.samples), key=lambda family: family.name)
    parts: list[str] = []
    written = 0
    for family in families:
        for line in _lines(family):
            parts.append(line)
            written += 1
            if written % _SAMPLES_A_SLICE == 0:
                await asyncio.sleep(0)
    return "".join(parts).encode()


def _lines(family: Metric) -> Iterator[str]:
    name = _exposed_name(family)
    kind = "untyped" if family.type == "unknown" else family.type
    documentation = family.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"
    for sample in _exposed(family.samples):
        yield f"{sample.name}{labels_text(sample.labels)} {number(sample.value)}\n"


def _exposed_name(family: Metric) -> str:
    # The library's own counter families leave the `_total` of their samples out of their name.
    if family.type == "counter" and family.samples[0].name == f"{family.name}_total":
        return f"{family.name}_total"
    if family.type == "info":
        return f"{family.name}_info"
    return str(family.name)


def _exposed(samples: Iterable[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if not sample.name.endswith("_created"))
