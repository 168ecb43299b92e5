"""`etcdpyutl check` walks a data directory, `etcdpyutl backup verify` a saved file: is it all there, and sound?"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.progress import Progress
from etcdpy.utl.member_files import open_engine
from etcdpy.utl.options import global_options, key_file_option, masters_of, member_options, require
from etcdpy.utl.printers import check_format, show_facts
from etcdpy.utl.work import check_exists, failures, one_argument, stopped_member

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys


@click.command(
    "check", cls=Command, globals_=global_options, short_help="Walks a data directory and says what is sound"
)
@member_options
@click.pass_context
def check(ctx: click.Context, data_dir: str, wal_dir: str, key_file: str) -> None:
    """Read every entry of the raft log and every record of the state, and compare them with each other.

    Does to the directory what a start does before it serves, and no more. Where something is damaged the exit code is
    1, and the message names file, record and mend.

    \b
    Example:
      etcdpyutl check --data-dir /var/lib/etcdpy -w json
    """
    require(ctx, data_dir=data_dir)
    form = check_format(ctx)
    with stopped_member(ctx, data_dir, wal_dir, key_file) as engine:
        facts = inspect_member(engine, Path(data_dir) / "member")
    show_facts(form, facts)


def inspect_member(engine: Engine, path: Path) -> dict[str, Any]:
    """All that is stored, read. Raises DamagedFileError, StorageError, Failure."""
    from etcdpy.interchange.soundness import check_steps
    from etcdpy.membership.members import Membership
    from etcdpy.membership.versions import LowerThanCluster
    from etcdpy.mvcc.fetch import finish
    from etcdpy.mvcc.store import Store

    total = engine.state_bytes
    log = engine.log
    Progress("log", engine.log_bytes()).run(_log_steps(engine))
    view = engine.frozen_view()
    try:
        counts = Progress("state", total).run(check_steps(view, path))
    finally:
        view.close()
    membership = Membership(engine.state)
    try:
        membership.restore()
    except LowerThanCluster as error:
        raise Failure(Exit.ERROR, str(error)) from None
    store = Store.open(engine.state)
    hashed = finish(store.hash_kv_steps())
    hard_state, group = log.initial_state()
    return {
        "member": f"{membership.own_id:x}",
        "cluster": f"{membership.cluster_id:x}",
        "members": len(membership.members),
        "voters": len(group.voters),
        "version": membership.version,
        "log": f"{log.first_index()}-{log.last_index()}",
        # Raft's measure of who knows more: the term of the last entry, then its index (paper 5.4.1).
        "last": [log.term(log.last_index()), log.last_index()],
        "term": hard_state.term,
        "commit": hard_state.commit,
        "applied": engine.applied_index,
        "revision": store.current_revision,
        "compacted": store.compact_revision,
        "keys": len(store.index.live),
        "records": counts["key"],
        "leases": counts["lease"],
        "alarms": counts["alarm"],
        "users": counts["authUsers"],
        "hash": hashed.hash,
        "sound": True,
    }


def _log_steps(engine: Engine) -> Generator[int, None, None]:
    """Every entry, as raft would read it."""
    from etcdpy import limits

    index, last, done = engine.log.start_index, engine.log.last_index(), 0
    while index < last:
        entries = engine.log.entries(index + 1, last + 1, limits.FORCE_NEW_READ_BYTES)
        index = entries[-1].index
        done += sum(len(entry.data) for entry in entries)
        yield done


# --- backups ---


@click.group("backup", cls=Group, globals_=global_options, short_help="Verifies saved files")
@click.pass_context
def backup(ctx: click.Context) -> None:
    """Find out whether a saved file could be restored."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@backup.command("verify", cls=Command, globals_=global_options, short_help="Restores a file to a scratch place")
@click.argument("filename", nargs=-1)
@click.option("--scratch-dir", default="", help="Where there is room for it (default: beside the file)")
@click.option("--skip-hash-check", is_flag=True, help="Do not compare the checksum (for a copy of a data directory)")
@key_file_option
@click.pass_context
def verify(
    ctx: click.Context, filename: tuple[str, ...], scratch_dir: str, key_file: str, *, skip_hash_check: bool
) -> None:
    """Restore a saved file to a scratch place, read all of that, compare hashes, and remove it again.

    A file that is encrypted needs --encryption-key-file; what it holds lies in the scratch place meanwhile.

    \b
    Example:
      etcdpyutl backup verify backup.db --scratch-dir /var/tmp
    """
    path = Path(one_argument(filename, "backup verify"))
    form = check_format(ctx)
    check_exists(path)
    scratch = Path(scratch_dir) if scratch_dir else path.parent
    with failures(), decrypted(path, scratch, masters_of(key_file)) as plain:
        facts = verify_file(plain, scratch, skip_hash_check=skip_hash_check)
    show_facts(form, {**facts, "file": str(path)})


@contextmanager
def decrypted(path: Path, scratch: Path, masters: MasterKeys | None) -> Iterator[Path]:
    """The file, or where it is encrypted what it holds, for the context. Raises Failure, OSError, StorageError."""
    from etcdpy.storage import sealed_file

    with path.open("rb") as file:
        if not sealed_file.is_sealed_backup(file.read(len(sealed_file.MAGIC))):
            yield path
            return
        if masters is None:
            raise Failure(Exit.BAD_ARGUMENTS, f"{path} is encrypted; name the key file by --encryption-key-file")
        file.seek(0)
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=scratch) as directory:
            plain = Path(directory) / path.with_suffix(".db").name
            with plain.open("xb") as writer:
                sealed_file.open_backup(str(path), file, writer, masters)
            yield plain


def verify_file(path: Path, scratch: Path, *, skip_hash_check: bool = False) -> dict[str, Any]:
    """What `check` finds in the restored file. Raises Failure, DamagedFileError, StorageError, OSError."""
    from etcdpy.utl.snapshot import founding_of, hash_of, restore_file

    expected = hash_of(path)
    founding = founding_of("verify", "verify=http://localhost:2380", "verify", "http://localhost:2380")
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=scratch) as directory:
        data_dir = Path(directory) / "data"
        restore_file(path, data_dir, None, founding, skip_hash_check=skip_hash_check)
        engine = open_engine(data_dir, 0)
        try:
            facts = inspect_member(engine, data_dir / "member")
        finally:
            engine.close()
    if facts["hash"] != expected.hash:
        raise Failure(Exit.ERROR, f"{path}: restored it has hash {facts['hash']}, the file has {expected.hash}")
    kept = ("version", "revision", "compacted", "keys", "records", "leases", "alarms", "users", "hash", "sound")
    return {"file": str(path), **{name: facts[name] for name in kept}}
