"""Files and functions stay small enough to read in one go."""

from __future__ import annotations

import ast
import statistics
from typing import TYPE_CHECKING, Final

from tests.tidy.sources import OURS, PRODUCT, Source, report, source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_LINES_MAX: Final = 650
TABLES: Final = ("etcdpy/limits.py", "etcdpy/errors.py")
"""Lists in which one looks something up: nobody reads them through, and each is whole in one place on purpose."""
FUNCTION_LINES_MAX: Final = 70
FUNCTION_LINES_MEDIAN_MAX: Final = 7
"""A ratchet: lower it when the product's median has gone down, never raise it."""


def function_lengths(item: Source) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function, signature and docstring included."""
    for node in ast.walk(item.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield f"{item.path}:{node.lineno}: {node.name}", node.end_lineno - node.lineno + 1


def check_sizes(item: Source) -> list[str]:
    """The file and the functions of it that are too long."""
    lines = item.text.count("\n")
    too_long = lines > FILE_LINES_MAX and item.path not in TABLES
    findings = [f"{item.path}: {lines} lines, {FILE_LINES_MAX} are allowed"] if too_long else []
    return findings + [
        f"{name} has {length} lines, {FUNCTION_LINES_MAX} are allowed"
        for name, length in function_lengths(item)
        if length > FUNCTION_LINES_MAX
    ]


def test_files_and_functions_are_small() -> None:
    findings = [finding for item in sources(*OURS) for finding in check_sizes(item)]
    assert not findings, report(findings)


def test_the_median_function_stays_short() -> None:
    lengths = [length for item in sources(*PRODUCT) for _, length in function_lengths(item)]
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX


def test_planted_lengths_are_found() -> None:
    body = "    pass\n"
    assert check_sizes(source("a.py", "def f():\n" + body * (FUNCTION_LINES_MAX - 1))) == []
    assert len(check_sizes(source("a.py", "async def f():\n" + body * FUNCTION_LINES_MAX))) == 1
    assert check_sizes(source("a.py", "x = 1\n" * FILE_LINES_MAX)) == []
    assert len(check_sizes(source("a.py", "x = 1\n" * (FILE_LINES_MAX + 1)))) == 1
