"""`etcdpyutl`: etcdutl's commands, as far as they are built. It works on files, while no member runs on them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from etcdpy import API_VERSION, VERSION
from etcdpy.commandline import (
    DURATION,
    Command,
    Exit,
    Failure,
    FlagError,
    Group,
    end_as_small_tools_do,
    global_option,
    global_values,
    run_tool,
)
from etcdpy.duration import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.storage.engine import Engine

LOCK_TIMEOUT_NS_DEFAULT: Final = 10 * NS_PER_SECOND
LOCK_RETRY_SECONDS: Final = 0.05


def global_options() -> list[click.Option]:
    """A fresh list of the flags that every command takes."""
    return [
        global_option("--timeout", type=DURATION, help="time to wait for the lock of the data directory, 0 for ever"),
        global_option("--write-out", "-w", help="the output format; the commands here print for people only"),
    ]


@click.group(cls=Group, globals_=global_options, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def etcdutl(ctx: click.Context) -> None:
    """Administer the files of a member that is stopped."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@etcdutl.command("version", cls=Command, globals_=global_options, short_help="Prints the version of etcdutl")
def version() -> None:
    """Print the etcd release whose protocols are spoken, and the API version."""
    click.echo(f"etcdutl version: {VERSION}\nAPI version: {API_VERSION}")


@etcdutl.command("defrag", cls=Command, globals_=global_options, short_help="Defragments the storage of the etcd")
@click.option("--data-dir", default="", help="Required. Defragments a data directory not in use by etcd.")
@click.pass_context
def defrag(ctx: click.Context, data_dir: str) -> None:
    """Rewrite the files of a stopped member without what was deleted.

    \b
    Example:
      etcdpyutl defrag --data-dir /var/lib/etcdpy
    """
    if not data_dir:
        raise FlagError('required flag(s) "data-dir" not set', ctx)
    from etcdpy.storage.errors import StorageError  # brings in LevelDB, which `version` need not pay for

    path = Path(data_dir)
    timeout_ns = global_values(ctx).get("timeout", LOCK_TIMEOUT_NS_DEFAULT)
    try:
        if not (path / "member" / "FORMAT").exists():
            raise FileNotFoundError(f"stat {path / 'member' / 'FORMAT'}: no such file or directory")
        before, after = _defragment(path, timeout_ns / NS_PER_SECOND)
    except (OSError, StorageError) as error:
        raise Failure(Exit.ERROR, f"Failed to defragment etcd data[{path}] ({error})") from None
    click.echo(f"Finished defragmenting directory {path}: {before} bytes before, {after} after", err=True)


def _defragment(path: Path, timeout_seconds: float) -> tuple[int, int]:
    import asyncio

    engine = _open(path, timeout_seconds)
    before = engine.refresh_sizes()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        engine.defragment(loop, lambda error: ended.set_exception(error) if error else ended.set_result(None))
        await ended

    try:
        asyncio.run(run())
        return before, engine.refresh_sizes()
    finally:
        engine.close()


def _open(path: Path, timeout_seconds: float) -> Engine:
    """The engine, as soon as nobody else holds the directory. Raises StorageError."""
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.errors import LockedError

    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return Engine.open(path)
        except LockedError:
            if timeout_seconds and time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_RETRY_SECONDS)


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code. Messages bear etcdutl's name."""
    return run_tool(etcdutl, "etcdutl", words)


def main() -> int:
    """The console script."""
    end_as_small_tools_do()
    return run()


if __name__ == "__main__":
    sys.exit(main())
