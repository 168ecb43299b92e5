"""Looks at each record of an applied state, in etcd's form, as if it were to be taken in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from etcdpy.interchange.export import buckets_of
from etcdpy.interchange.ingest import check_item
from etcdpy.limits import INTERCHANGE_SLICE_RECORDS

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from etcdpy.interchange.export import View


def check_steps(view: View, path: Path) -> Generator[int, None, Counter[str]]:
    """Every record of the view, which is of `path`. Yields the bytes seen so far; returns how many each bucket has.

    Raises DamagedFileError naming the record.
    """
    counts: Counter[str] = Counter()
    done = 0
    for bucket, items in buckets_of(view):
        for key, value in items:
            check_item(path, bucket, key, value)
            counts[bucket.decode()] += 1
            done += len(key) + len(value)
            if counts[bucket.decode()] % INTERCHANGE_SLICE_RECORDS == 0:
                yield done
    return counts
