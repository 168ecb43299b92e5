"""Commands that etcdctl had once and that are etcdutl's now: still found in their old place, and passed on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from etcdpy.commandline import global_values

if TYPE_CHECKING:
    import click


def run_offline(ctx: click.Context, *words: str) -> NoReturn:
    """Become `etcdpyutl` with these words, behind the --write-out that stood before them."""
    form = global_values(ctx).get("write_out")
    named = " ".join(word for word in words[:2] if not word.startswith("-"))
    sys.stderr.write(f"Deprecated: Use `etcdpyutl {named}` instead.\n\n")
    sys.stderr.flush()
    command = [sys.executable, "-m", "etcdpy.utl", *([f"--write-out={form}"] if form else []), *words]
    os.execv(sys.executable, command)  # noqa: S606  # no shell is wanted
