"""`etcdpyutl`: etcdutl's commands, and what else is done to files while no member runs on them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etcdpy.commandline import (
    Command,
    Exit,
    Failure,
    Group,
    end_as_small_tools_do,
    run_tool,
)
from etcdpy.completion import completion_command, help_command, version_command
from etcdpy.utl.backups import backup
from etcdpy.utl.check import check
from etcdpy.utl.commit_log import commit_log
from etcdpy.utl.encryption import encryption
from etcdpy.utl.member_files import open_engine
from etcdpy.utl.migrate import migrate
from etcdpy.utl.options import global_options, key_file_option, masters_of, require
from etcdpy.utl.snapshot import hashkv, snapshot
from etcdpy.utl.work import timeout_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.storage.key_file import MasterKeys


@click.group(cls=Group, globals_=global_options, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def etcdutl(ctx: click.Context) -> None:
    """Administer the files of a member that is stopped."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@etcdutl.command("defrag", cls=Command, globals_=global_options, short_help="Defragments the storage of the etcd")
@click.option("--data-dir", default="", help="Required. Defragments a data directory not in use by etcd.")
@key_file_option
@click.pass_context
def defrag(ctx: click.Context, data_dir: str, key_file: str) -> None:
    """Rewrite the files of a stopped member without what was deleted.

    \b
    Example:
      etcdpyutl defrag --data-dir /var/lib/etcdpy
    """
    require(ctx, data_dir=data_dir)
    from etcdpy.storage.errors import StorageError  # brings in LevelDB, which `version` need not pay for

    path = Path(data_dir)
    try:
        before, after = _defragment(path, timeout_seconds(ctx), masters_of(key_file))
    except (OSError, StorageError) as error:
        raise Failure(Exit.ERROR, f"Failed to defragment etcd data[{path}] ({error})") from None
    click.echo(f"Finished defragmenting directory {path}: {before} bytes before, {after} after", err=True)


def _defragment(path: Path, timeout_seconds: float, masters: MasterKeys | None) -> tuple[int, int]:
    import asyncio

    engine = open_engine(path, timeout_seconds, masters=masters)
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


_version = version_command("etcdpyutl", "etcdutl", global_options)
_completion = completion_command("etcdpyutl", "etcdutl", global_options)
_help = help_command("etcdpyutl help snapshot restore", global_options)
for _command in (snapshot, hashkv, migrate, check, commit_log, backup, _version, _completion, encryption, _help):
    etcdutl.add_command(_command)


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code. Messages bear etcdutl's name."""
    return run_tool(etcdutl, "etcdutl", words)


def main() -> int:
    """The console script."""
    end_as_small_tools_do()
    return run()


if __name__ == "__main__":
    sys.exit(main())
