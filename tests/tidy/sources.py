"""The files that the tidy tests read."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PRODUCT: Final = ("etcdpy", "pki")
OURS: Final = (*PRODUCT, "tests", "bench")


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the repository root, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """`raft` for etcdpy/raft/*, `errors` for etcdpy/errors.py, `pki` for pki/*, empty for etcdpy/__init__.py."""
        parts = self.path.removesuffix(".py").split("/")
        room = parts[0] if parts[0] != "etcdpy" else parts[1]
        return "" if room == "__init__" else room


def source(path: str, text: str) -> Source:
    """A source from text: what the planted violations are made with."""
    return Source(path, text, ast.parse(text, path))


@cache
def repository_files() -> tuple[str, ...]:
    """Every file that is tracked or would be, from the repository root."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


@cache
def sources(*tops: str) -> tuple[Source, ...]:
    """The hand-written Python files under these top-level directories."""
    return tuple(
        source(name, (ROOT / name).read_text())
        for name in repository_files()
        if name.endswith(".py") and not name.endswith("_pb2.py") and name.split("/")[0] in tops
    )


def report(findings: list[str]) -> str:
    """The findings, one a line, for an assertion's text."""
    return "\n" + "\n".join(findings)
