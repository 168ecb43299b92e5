"""The package as a wheel has it, its hot road compiled: built on first use and kept in the user's cache.

`python -m tests.support.built` builds it and prints the directory. `make up`, `make test` and `make bench` run members
from there; ETCDPY_BUILT names it to the latter two.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.reference import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "etcdpy", "pki", "systemd")
KEPT: Final = 8
"""So many builds stay in the cache, the ones used last: others may be running them. Some 6 MB each."""
BUILD_SECONDS_MAX: Final = 900


class BuildFailed(Exception):
    """No wheel came out; the text is the end of what the build said."""


def source_files() -> Iterator[Path]:
    """What a wheel is built from, in order."""
    for name in SOURCES:
        path = ROOT / name
        if path.is_file():
            yield path
        else:
            yield from sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def copy_sources(target: Path) -> None:
    """Put what a wheel is built from there."""
    for path in source_files():
        (target / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.relative_to(ROOT))


def directory() -> Path:
    """Where the build of exactly these sources, with this Python and this compiler, is or will be."""
    settings = [os.environ.get(name) for name in ("ETCDPY_COMPILE", "ETCDPY_OPTIMIZE")]
    digest = hashlib.sha256(f"{sys.version} mypy {version('mypy')} {settings} {reason_not_to_compile()}".encode())
    for path in source_files():
        digest.update(b"%s\0%s\0" % (bytes(path.relative_to(ROOT)), hashlib.sha256(path.read_bytes()).digest()))
    return cache_root() / f"built-{digest.hexdigest()[:16]}"


def build(target: Path) -> None:
    """Build a wheel, compiled where that is possible here, and unpack it there. Raises BuildFailed."""
    with tempfile.TemporaryDirectory(prefix="etcdpy-build-") as temporary:
        copy = Path(temporary)  # a build leaves files beside the sources
        copy_sources(copy)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(copy / "wheel"), str(copy)]
        done = subprocess.run(
            command,
            cwd=copy,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise BuildFailed((done.stdout + done.stderr).strip()[-4000:])
        (wheel,) = (copy / "wheel").glob("etcdpy-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def built_package() -> Path:
    """The directory that holds the package. Safe against other processes that build at the same time."""
    target = directory()
    if target.exists():
        target.touch()
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".built-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            aside = target.parent / f".building-{os.getpid()}"
            try:
                build(aside)
                aside.rename(target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        for old in sorted(target.parent.glob("built-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return target


@functools.cache
def reason_not_to_compile() -> str:
    """What setup.py finds missing here; empty where it compiles."""
    command = [sys.executable, "-c", "import setup; print(setup.missing())"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def is_compiled(package: Path) -> bool:
    """Whether the build there has extension modules."""
    return any((package / "etcdpy").rglob("*.so"))


def main() -> int:
    """Build, and print where."""
    if not directory().exists():
        print("building the package for these sources, once: about a minute where it compiles", file=sys.stderr)
    try:
        package = built_package()
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    reason = reason_not_to_compile()
    if reason:
        print(f"members run uncompiled, at half the speed: {reason}", file=sys.stderr)
    print(package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
