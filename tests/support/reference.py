"""Real etcd's binaries, built from Go modules on first use and kept in the user's cache.

They are the truth that the interop tests, the differential test and the bench hold etcdpy against. The modules and
their versions stand in `tests/reference/`. `python -m tests.support.reference` builds all of them and prints where
they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

MODULES: Final = Path(__file__).resolve().parents[1] / "reference"
BUILD_SECONDS_MAX: Final = 1200
"""A cold build downloads and compiles some 300 packages; on two cores that takes three to five minutes."""

# What the callers ask for -> (the module directory that builds it, the file that `go build` writes)
_BUILT_BY: Final = {
    "etcd": (MODULES, "server"),
    "etcd-3.6": (MODULES / "benchmark", "server"),
    "etcdctl": (MODULES, "etcdctl"),
    "etcdutl": (MODULES, "etcdutl"),
    "h2spec": (MODULES, "h2spec"),
    "benchmark": (MODULES / "benchmark", "benchmark"),
}


class ReferenceMissing(Exception):
    """Real etcd's binaries cannot be built here; the text says why and what mends it."""


def _module_files() -> list[Path]:
    return [directory / name for directory in (MODULES, MODULES / "benchmark") for name in ("go.mod", "go.sum")]


def cache_root() -> Path:
    """Where what takes long to build is kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etcdpy"


def cache_directory() -> Path:
    """Where the binaries of exactly these module versions live."""
    digest = hashlib.sha256()
    for path in _module_files():
        digest.update(path.read_bytes())
    return cache_root() / f"reference-{digest.hexdigest()[:16]}"


def _build(module: Path, target: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ReferenceMissing("Go is not installed, so real etcd cannot be built; install Go 1.26 (see README)")
    command = [go, "build", "-trimpath", "-buildvcs=false", "-o", str(target), "tool"]
    done = subprocess.run(command, cwd=module, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False)
    if done.returncode != 0:
        raise ReferenceMissing(f"`go build tool` in {module} failed:\n{done.stderr.strip()[-2000:]}")


def build_reference(name: str) -> Path:
    """The named binary, built if it is not there yet. Safe against other processes that build at the same time."""
    module, file_name = _BUILT_BY[name]
    directory = cache_directory() / module.name  # both modules build a `server`
    binary = directory / file_name
    if binary.exists():
        return binary
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            # Built aside and moved, so that an interrupted build never leaves half a binary under the final name.
            aside = directory / f".build-{os.getpid()}"
            aside.mkdir(exist_ok=True)
            try:
                _build(module, aside)
                for built in aside.iterdir():
                    built.rename(directory / built.name)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return binary


@cache
def reference_binary(name: str) -> Path:
    """The named binary for a test: where it cannot be had the test is skipped, and in CI it fails."""
    import pytest  # here, so that the bench and the command line need no pytest

    try:
        return build_reference(name)
    except ReferenceMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have real etcd: {missing}")
        pytest.skip(str(missing))


def main() -> int:
    """Build everything and print the directory."""
    try:
        for name in _BUILT_BY:
            build_reference(name)
    except ReferenceMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    print(cache_directory())
    return 0


if __name__ == "__main__":
    sys.exit(main())
