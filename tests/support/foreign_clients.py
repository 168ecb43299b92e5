"""Client libraries of others, as programs: fetched and built on first use, and kept as real etcd's binaries are.

Each program makes its library's main calls, says "ready", waits for a line, makes them again, and says "done". What it
is told stands in one argument, as JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.reference import MODULES, cache_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIENTS: Final = MODULES / "clients"
BUILD_SECONDS_MAX: Final = 600


def etcd3() -> list[str]:
    """The PyPI package etcd3, which is among the development dependencies."""
    return [sys.executable, str(CLIENTS / "etcd3_calls.py")]


def etcd3gw() -> list[str]:
    """The PyPI package etcd3gw, in an environment of its own."""

    def build(place: Path) -> None:
        _run([sys.executable, "-m", "venv", str(place)], CLIENTS)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-r", "etcd3gw.txt"], CLIENTS)

    place = _built("etcd3gw", [CLIENTS / "etcd3gw.txt"], build)
    return [str(place / "bin" / "python"), str(CLIENTS / "etcd3gw_calls.py")]


def node() -> list[str]:
    """The npm package etcd3."""

    def build(place: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / "node" / name, place)
        _run([_tool("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], place)

    place = _built("node-etcd3", sorted((CLIENTS / "node").glob("package*.json")), build)
    # Modules are looked for beside the script.
    script = shutil.copy(CLIENTS / "node" / "calls.js", place)
    return [_tool("node"), str(script)]


def go() -> list[str]:
    """etcd's own client for Go."""
    return [str(_go_programs() / "go")]


def go_traffic() -> list[str]:
    """A writer, a reader and a watcher by etcd's own client; tests.hosts.traffic runs it."""
    return [str(_go_programs() / "traffic")]


def _go_programs() -> Path:
    def build(place: Path) -> None:
        _run([_tool("go"), "build", "-trimpath", "-buildvcs=false", "-o", f"{place}/", "./..."], CLIENTS / "go")

    return _built("go-client", sorted(path for path in (CLIENTS / "go").rglob("*") if path.is_file()), build)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        _missing(f"{name} is not installed")
    return str(found)


def _built(name: str, inputs: list[Path], build: Callable[[Path], None]) -> Path:
    """The directory that `build` filled for exactly these inputs; where it cannot: a skip, in CI a failure."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    place = cache_root() / f"{name}-{digest[:16]}"
    whole = place / ".whole"
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            # At its place from the beginning: an environment of Python's cannot be moved.
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            try:
                build(place)
            except (OSError, subprocess.SubprocessError) as error:
                _missing(f"{name} cannot be built: {error} {getattr(error, 'stderr', '')}")
            whole.touch()
    return place


def _run(command: list[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=True)


def _missing(text: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have the clients of others: {text}")
    pytest.skip(text)
