"""A disk of its own for a member, small enough to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SmallDisk:
    """A tmpfs, whose size and writability change while a member runs on it."""

    def __init__(self, directory: Path, megabytes: int) -> None:
        self.directory = directory
        directory.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs")

    @classmethod
    def mounted(cls, directory: Path, megabytes: int) -> Iterator[SmallDisk]:
        """The life of a fixture; skips the test where mounting is not allowed."""
        if os.geteuid() != 0:
            pytest.skip("only root may mount")
        try:
            disk = cls(directory, megabytes)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"mount is not allowed here: {error.stderr.decode().strip()}")
        yield disk
        disk.unmount()

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.directory)], check=True, capture_output=True)

    def remount(self, options: str) -> None:
        """Change the size, or make it read-only."""
        self._mount("-o", f"remount,{options}")

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.directory)], check=False, capture_output=True)

    def take(self, data_dir: Path) -> None:
        """Move a member's data here; a link stays in its place."""
        shutil.move(data_dir, self.directory / data_dir.name)
        data_dir.symlink_to(self.directory / data_dir.name)

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.directory / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass  # full, as it should be

    def empty(self) -> None:
        """Take away what `fill` wrote."""
        (self.directory / "filler").unlink()
