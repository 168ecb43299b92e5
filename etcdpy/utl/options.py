"""Flags that several commands take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from etcdpy.commandline import DURATION, Exit, Failure, FlagError, global_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from etcdpy.storage.key_file import MasterKeys


def global_options() -> list[click.Option]:
    """A fresh list of the flags that every command takes."""
    return [
        global_option("--timeout", type=DURATION, help="time to wait for the lock of the data directory, 0 for ever"),
        global_option("--write-out", "-w", help="the output format (fields, json, protobuf, simple, table)"),
    ]


def key_file_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--encryption-key-file, as the member takes it."""
    text = "The keys of an encrypted member. Empty: systemd's credential etcdpy.encryption-keys, if any."
    return click.option("--encryption-key-file", "key_file", default="", help=text)(command)


def member_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a stopped member's files are, and its keys: work.stopped_member takes them."""
    where = click.option("--data-dir", default="", help="Required. The data directory of a stopped member")
    log = click.option("--wal-dir", default="", help="Where the member has its --wal-dir, if it has one")
    return where(log(key_file_option(command)))


def require(ctx: click.Context, **flags: str) -> None:
    """Raise FlagError in cobra's words when one of these is empty."""
    missing = [f'"{name.replace("_", "-")}"' for name, value in flags.items() if not value]
    if missing:
        raise FlagError(f"required flag(s) {', '.join(missing)} not set", ctx)


def key_file_path(named: str) -> Path:
    """The key file that was named, or the credential. Raises Failure."""
    from etcdpy.storage import key_file

    path = key_file.key_file_path(named, os.environ)
    if path is None:
        raise Failure(Exit.BAD_ARGUMENTS, "name the key file by --encryption-key-file")
    return path


def masters_of(named: str) -> MasterKeys | None:
    """The keys, if a file was named or there is a credential. Raises EncryptionError."""
    from etcdpy.storage import key_file

    path = key_file.key_file_path(named, os.environ)
    return None if path is None else key_file.load(path)
