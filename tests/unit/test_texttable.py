from __future__ import annotations

import pytest

from etcdpy.texttable import boxed, human_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1449, "1.4 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (20_480, "20 kB"),
        (999_400, "999 kB"),
        (1_000_000, "1.0 MB"),
        (2_147_483_648, "2.1 GB"),
        (5 * 10**12, "5.0 TB"),
    ],
)
def test_sizes_as_humanize_prints_them(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_a_table() -> None:
    assert boxed(["id", "a longer one"], [["1", "2"], ["1234567", ""]]).splitlines() == [
        "┌─────────┬──────────────┐",
        "│   ID    │ A LONGER ONE │",
        "├─────────┼──────────────┤",
        "│       1 │            2 │",
        "│ 1234567 │              │",
        "└─────────┴──────────────┘",
    ]


def test_a_table_without_rows_has_no_line_below_its_titles() -> None:
    assert boxed(["id", "name"], []).splitlines() == ["┌────┬──────┐", "│ ID │ NAME │", "└────┴──────┘"]
