"""What many commands do: look at their arguments, say what goes wrong with files."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etcdpy.commandline import Exit, Failure, global_values
from etcdpy.duration import NS_PER_SECOND
from etcdpy.utl.member_files import LOCK_TIMEOUT_NS_DEFAULT, open_engine
from etcdpy.utl.options import masters_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from etcdpy.raft.types import HardState
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.new_state import Installation, NewState


def install(engine: Engine, new_state: NewState, hard_state: HardState) -> None:
    """Make a finished state the engine's, and begin its log there. Raises StorageError."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Installation] = loop.create_future()
        engine.install(new_state, hard_state, ended.set_result, loop)
        error = (await ended).error
        if error is not None:
            raise error

    asyncio.run(run())


def timeout_seconds(ctx: click.Context) -> float:
    """--timeout."""
    timeout_ns: int = global_values(ctx).get("timeout", LOCK_TIMEOUT_NS_DEFAULT)
    return timeout_ns / NS_PER_SECOND


def one_argument(arguments: tuple[str, ...], command: str) -> str:
    """The only argument. Raises Failure as etcdutl does."""
    if len(arguments) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, f"{command} requires exactly one argument")
    return arguments[0]


def check_exists(path: Path) -> None:
    """Raise Failure as etcdutl does when there is no such file."""
    try:
        path.stat()
    except OSError as error:
        raise Failure(Exit.ERROR, f"stat {path}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def failures() -> Iterator[None]:
    """What goes wrong with files ends the command with the reason."""
    from etcdpy.interchange.bolt_format import DamagedFileError
    from etcdpy.interchange.wal import WalError
    from etcdpy.storage.errors import StorageError

    try:
        yield
    except OSError as error:
        named = f"open {error.filename}: " if error.filename else ""
        raise Failure(Exit.ERROR, f"{named}{(error.strerror or str(error)).lower()}") from None
    except (DamagedFileError, WalError, StorageError) as error:
        raise Failure(Exit.ERROR, str(error)) from None


@contextmanager
def stopped_member(ctx: click.Context, data_dir: str, wal_dir: str, key_file: str) -> Iterator[Engine]:
    """The engine of a stopped member, by a command's options, while the context lasts. Raises Failure."""
    path = Path(data_dir)
    check_exists(path / "member" / "FORMAT")
    with failures():
        log_dir = Path(wal_dir) if wal_dir else None
        engine = open_engine(path, timeout_seconds(ctx), masters=masters_of(key_file), wal_dir=log_dir)
        try:
            yield engine
        finally:
            engine.close()
