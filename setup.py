"""Compiles the hot road with mypyc where a wheel is built, and takes the unit templates along; everything else about
the package stands in pyproject.toml.

What is compiled is the same Python, by the list `[tool.etcdpy] compiled`. An editable installation stays as it is
written, so that no extension module can hide a source that has been edited since. Where mypy, a C compiler or Python's
headers are missing, or ETCDPY_COMPILE=0 says so, the wheel holds the Python sources alone: as good, but slower.
ETCDPY_OPTIMIZE is the compiler's level; 1 is as fast as 3 at a put and builds in two thirds of the time.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any, Final

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT: Final = Path(__file__).resolve().parent
OPTIMIZE: Final = os.environ.get("ETCDPY_OPTIMIZE", "1")
# Types of other packages are left out, and the rules of `make lint` too: so it is the same code wherever it is built,
# whichever of them are installed there.
MYPY: Final = ("--config-file=", "--no-site-packages", "--ignore-missing-imports")


def missing() -> str:
    """What keeps this build from compiling; empty where nothing does."""
    if importlib.util.find_spec("mypyc") is None:
        return "mypy is not installed where this is built"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no {compiler}"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's headers are not installed"
    return ""


def extensions() -> list[Any]:
    """The extension modules of this build."""
    if os.environ.get("ETCDPY_COMPILE") == "0" or not {"bdist_wheel", "build", "build_ext"} & set(sys.argv):
        return []
    reason = missing()
    if reason:
        sys.stderr.write(f"etcdpy: not compiled, since {reason}; it runs as well, but slower\n")
        return []
    from mypyc.build import mypycify

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules: list[str] = settings["tool"]["etcdpy"]["compiled"]
    return list(mypycify([*MYPY, *modules], opt_level=OPTIMIZE, debug_level="0", group_name="etcdpy"))


class BuildWithTemplates(build_py):  # type: ignore[misc]  # setuptools has no types
    """Also takes along the unit templates, whose only copy is not in a package: `systemd/` is Ansible's as well."""

    def run(self) -> None:
        """As setuptools', and the templates."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / "systemd", Path(self.build_lib) / "etcdpy/units/templates", dirs_exist_ok=True)


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_py": BuildWithTemplates})
