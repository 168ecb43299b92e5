"""Three bare hosts, and what is installed on them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import Lab, missing
from tests.support.built import ROOT, copy_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTROLLERS = {f"controller-{number}": f"10.240.0.{10 + number}" for number in range(3)}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, not compiled, and of everything that it needs."""
    copy, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    copy_sources(copy)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(wheels)]
    environment = os.environ | {"ETCDPY_COMPILE": "0"}
    constraint = str(ROOT / "constraints.txt")
    subprocess.run([*pip, "--no-build-isolation", "--constraint", constraint, str(copy)], env=environment, check=True)
    return wheels


@pytest.fixture(scope="module")
def lab(wheels: Path) -> Iterator[Lab]:
    """controller-0, controller-1 and controller-2, just booted; the wheels are at /wheels."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must boot hosts: {reason}")
    if reason:
        pytest.skip(reason)
    # A short path: ssh keeps sockets in it.
    with (
        tempfile.TemporaryDirectory(prefix="lab-") as directory,
        Lab(f"{directory}/l", CONTROLLERS, {"/wheels": wheels}) as running,
    ):
        yield running
