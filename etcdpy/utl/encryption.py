"""`encryption`: keys, and the form in which a member's files are. docs/encryption.md."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import Command, Exit, Failure, Group, global_values
from etcdpy.duration import NS_PER_SECOND
from etcdpy.utl.member_files import LOCK_TIMEOUT_NS_DEFAULT, open_engine
from etcdpy.utl.options import global_options, key_file_option, key_file_path, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.storage.data_keys import DataKeys, Standing
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys

_DATA_DIR_HELP: Final = "Required. The data directory of a member."
_WAIT_SECONDS: Final = 0.01
_REPORT_SECONDS: Final = 2.0


@click.group(
    "encryption", cls=Group, globals_=global_options, short_help="Keys and the state of encryption at rest; not in etcd"
)
@click.pass_context
def encryption(ctx: click.Context) -> None:
    """Encryption at rest."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@encryption.command("new-key", cls=Command, globals_=global_options, short_help="Prints a line for a key file")
@click.option("--id", "key_id", default="", help="What the key is called. Default: today's date.")
def new_key(key_id: str) -> None:
    """Print a new key as a line for a key file, which only the member's user may read.

    \b
    Example:
      (umask 077; etcdpyutl encryption new-key --id 2026-11 > /etc/etcdpy/encryption-keys)
    """
    from etcdpy.storage import key_file
    from etcdpy.storage.errors import EncryptionError

    try:
        click.echo(key_file.new_line(key_id or time.strftime("%Y-%m-%d", time.gmtime())), nl=False)
    except EncryptionError as error:
        raise Failure(Exit.BAD_ARGUMENTS, str(error)) from None


# --- status ---


@encryption.command("status", cls=Command, globals_=global_options, short_help="Shows how far a member is encrypted")
@click.option("--data-dir", default="", help=_DATA_DIR_HELP)
@click.pass_context
def status(ctx: click.Context, data_dir: str) -> None:
    """Show which keys a member needs and how much of it has the form that is written now. The member may be running,
    and no key is needed.

    \b
    Example:
      etcdpyutl encryption status --data-dir /var/lib/etcdpy -w json
    """
    from etcdpy.storage import data_keys
    from etcdpy.storage.errors import StorageError

    require(ctx, data_dir=data_dir)
    member = Path(data_dir) / "member"
    as_json = _wants_json(ctx)
    try:
        if not (member / "FORMAT").exists():
            raise FileNotFoundError(f"stat {member / 'FORMAT'}: no such file or directory")
        found = data_keys.read(member / "KEYS")
        names = found is not None and _names_left(member / "state")
    except (OSError, StorageError) as error:
        raise Failure(Exit.ERROR, str(error)) from None
    fields = _status_fields(found[0] if found is not None else None, names_left=names)
    click.echo(json.dumps(fields) if as_json else _status_text(fields))


def _names_left(state: Path) -> bool:
    from etcdpy.storage import leveldb
    from etcdpy.storage.sealed_database import NAMED_KEY

    return leveldb.notes_hold(state, NAMED_KEY)


def _wants_json(ctx: click.Context) -> bool:
    form = global_values(ctx).get("write_out", "simple")
    if form not in ("simple", "json"):
        raise Failure(Exit.BAD_FEATURE, f"unsupported output format {form!r}; use simple or json")
    return bool(form == "json")


def _status_fields(keys: DataKeys | None, *, names_left: bool) -> dict[str, Any]:
    if keys is None:
        return {"encrypted": False, "complete": True, "needed-keys": [], "data-keys": [], "databases": {}}
    current = keys.writing_key()
    return {
        "encrypted": current is not None,
        "complete": keys.complete and not (current and names_left),
        "writing": current.number if current else 0,
        "needed-keys": sorted({each.wrapped_by for each in keys.keys}),
        "data-keys": [{"number": each.number, "made": each.made, "wrapped-by": each.wrapped_by} for each in keys.keys],
        "databases": {name: _standing(each) for name, each in keys.databases.items()},
        "names-left": bool(current) and names_left,
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {"complete": standing.complete, "done": round(standing.done, 3), "plaintext": standing.plaintext}


def _status_text(fields: dict[str, Any]) -> str:
    if not fields["databases"]:
        return "not encrypted"
    wrapped_by = {each["number"]: each["wrapped-by"] for each in fields["data-keys"]}
    needed = ", ".join(f'"{each}"' for each in fields["needed-keys"])
    lines = [f"keys needed: {needed}"]
    if fields["encrypted"]:
        lines.append(f'writing: data key {fields["writing"]}, wrapped by "{wrapped_by[fields["writing"]]}"')
    else:
        lines.append("writing: plaintext")
    for name, each in fields["databases"].items():
        if each["complete"]:
            lines.append(f"{name}: complete")
            continue
        left = "; plaintext is left" if each["plaintext"] and fields["encrypted"] else ""
        lines.append(f"{name}: {each['done']:.1%} rewritten{left}")
    if fields["names-left"]:
        lines.append("names of users or roles are left in LevelDB's manifest: start the member once more")
    return "\n".join(lines)


# --- rewriting ---


def _rewriting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        key_file_option,
        click.option("--wal-dir", default="", help="Where the raft log is, if the member has one."),
        click.option("--data-dir", default="", help=_DATA_DIR_HELP),
    ):
        command = option(command)
    return command


@encryption.command(
    "rotate", cls=Command, globals_=global_options, short_help="Encrypts a stopped member under the first key"
)
@_rewriting_options
@click.pass_context
def rotate(ctx: click.Context, data_dir: str, wal_dir: str, key_file: str) -> None:
    """Encrypt everything a stopped member stores under the key that stands first in the key file, whatever form it has
    now. A running member does the same by itself when its key file is changed.

    \b
    Example:
      etcdpyutl encryption rotate --data-dir /var/lib/etcdpy --encryption-key-file /etc/etcdpy/encryption-keys
    """

    def checked(masters: MasterKeys) -> MasterKeys:
        if masters.writing is None:
            raise Failure(Exit.BAD_ARGUMENTS, f"the key file {masters.path} says `plaintext`; put a key first")
        return masters

    _rewrite(ctx, data_dir, wal_dir, key_file, checked)


@encryption.command("decrypt", cls=Command, globals_=global_options, short_help="Decrypts a stopped member")
@_rewriting_options
@click.pass_context
def decrypt(ctx: click.Context, data_dir: str, wal_dir: str, key_file: str) -> None:
    """Make everything a stopped member stores plaintext, so that it starts without keys.

    \b
    Example:
      etcdpyutl encryption decrypt --data-dir /var/lib/etcdpy --encryption-key-file /etc/etcdpy/encryption-keys
    """
    _rewrite(ctx, data_dir, wal_dir, key_file, lambda masters: replace(masters, writing=None))


def _rewrite(
    ctx: click.Context, data_dir: str, wal_dir: str, named: str, change: Callable[[MasterKeys], MasterKeys]
) -> None:
    from etcdpy.storage import key_file
    from etcdpy.storage.errors import StorageError

    require(ctx, data_dir=data_dir)
    path = Path(data_dir)
    as_json = _wants_json(ctx)
    timeout_ns = global_values(ctx).get("timeout", LOCK_TIMEOUT_NS_DEFAULT)
    try:
        masters = change(key_file.load(key_file_path(named)))
        log_dir = Path(wal_dir) if wal_dir else None
        engine = open_engine(path, timeout_ns / NS_PER_SECOND, masters=masters, wal_dir=log_dir)
        try:
            records = _run(engine)
        finally:
            engine.close()
        if masters.writing is not None:
            open_engine(path, 0, masters=masters, wal_dir=log_dir).close()  # LevelDB forgets the names in its manifest
    except (OSError, StorageError) as error:
        raise Failure(Exit.ERROR, f"Failed to rewrite etcd data[{path}] ({error})") from None
    form = "plaintext" if masters.writing is None else f'encrypted under the key "{masters.writing}"'
    if as_json:
        click.echo(json.dumps({"rewritten-records": records, "key": masters.writing or ""}))
    else:
        click.echo(f"{path} is {form}: {records} records rewritten")


def _run(engine: Engine) -> int:
    """Bring everything into the form that is written now; returns how many records that were."""
    import asyncio

    from etcdpy.storage.reencryption import Turn

    if engine.encryption is None or engine.encryption.keys.complete:
        return 0

    async def run() -> int:
        loop = asyncio.get_running_loop()
        reencryption = engine.reencryption(loop, alone=True)
        reported = time.monotonic()
        for turn in reencryption.steps():
            if engine.has_open_writes:
                engine.submit(engine.take_job(None, ()), lambda _job: None, loop)
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                done = ", ".join(f"{name} {part:.0%}" for name, part in reencryption.done.items())
                click.echo(f"rewritten: {done}", err=True)
            await asyncio.sleep(_WAIT_SECONDS if turn is Turn.WAITS else 0)
        return reencryption.rewritten

    return asyncio.run(run())


# --- backups ---


@encryption.command("encrypt-backup", cls=Command, globals_=global_options, short_help="Encrypts a backup file")
@click.argument("source")
@click.argument("target")
@key_file_option
def encrypt_backup(source: str, target: str, key_file: str) -> None:
    """Write SOURCE, say a saved snapshot, to TARGET, encrypted under the key that stands first in the key file.

    \b
    Example:
      etcdpyutl encryption encrypt-backup snapshot.db snapshot.sealed --encryption-key-file /etc/etcdpy/backup-keys
    """
    from etcdpy.storage import sealed_file

    _convert(source, target, key_file, sealed_file.seal_backup)


@encryption.command("decrypt-backup", cls=Command, globals_=global_options, short_help="Decrypts a backup file")
@click.argument("source")
@click.argument("target")
@key_file_option
def decrypt_backup(source: str, target: str, key_file: str) -> None:
    """Write what SOURCE holds to TARGET, which appears only once all of it was found whole.

    \b
    Example:
      etcdpyutl encryption decrypt-backup snapshot.sealed snapshot.db --encryption-key-file /etc/etcdpy/backup-keys
    """
    from etcdpy.storage import sealed_file

    _convert(source, target, key_file, lambda *arguments: sealed_file.open_backup(source, *arguments))


def _convert(source: str, target: str, named: str, convert: Callable[[Any, Any, MasterKeys], None]) -> None:
    """`target` appears whole or not at all, for its owner alone."""
    import os

    from etcdpy.storage import key_file
    from etcdpy.storage.errors import StorageError

    part = Path(f"{target}.part")
    try:
        if Path(target).exists():
            raise FileExistsError(f"{target} exists; name another file")
        masters = key_file.load(key_file_path(named))
        with Path(source).open("rb") as reader:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as writer:
                    convert(reader, writer, masters)
                    writer.flush()
                    os.fsync(writer.fileno())
                part.rename(target)
            finally:
                part.unlink(missing_ok=True)
    except (OSError, StorageError) as error:
        raise Failure(Exit.ERROR, str(error)) from None
