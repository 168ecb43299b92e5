"""`etcdpyutl migrate`: a stopped member of etcd becomes one of etcdpy with the same id, and back.

    etcd      member/snap/db, the backend as of its consistent index    member/wal, the raft log
    etcdpy    member/state, the state as of its applied index           member/log, the raft log

Nothing is applied here: the state is taken over as it is, and the entries after it go into the other log. The member's
next start applies those that are committed, like after any other stop.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import Command, Exit, Failure, FlagError
from etcdpy.progress import Progress
from etcdpy.utl.member_files import LOCK_RETRY_SECONDS, open_engine
from etcdpy.utl.options import global_options, key_file_option, masters_of
from etcdpy.utl.work import failures, timeout_seconds

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from etcdpy.interchange.ingest import SnapshotContent
    from etcdpy.interchange.wal import Wal
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import HardState
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.utl.making import Filling

_VERSION_MIN: Final = (3, 5)
_RECEIVED = re.compile(r"([0-9a-f]{16})\.snap\.db")


@click.command(
    "migrate",
    cls=Command,
    globals_=global_options,
    short_help="Migrates a data dir between etcd and etcdpy, or to another version's schema",
)
@click.option("--data-dir", default="", help="Required. The data directory of a stopped member, of etcd or of etcdpy")
@click.option("--wal-dir", default="", help="Where that member has its --wal-dir, if it has one")
@click.option("--output-dir", default="", help="The new data directory, for the other kind")
@click.option("--target-version", default="", help='Instead of --output-dir: the etcd version to serve, "X.Y"')
@click.option("--force", is_flag=True, help="Accepted as by etcdutl; there is nothing to force")
@key_file_option
@click.pass_context
def migrate(
    ctx: click.Context, data_dir: str, wal_dir: str, output_dir: str, target_version: str, key_file: str, *, force: bool
) -> None:
    """Make a data directory of etcdpy from that of a stopped etcd member, or the other way round.

    It stays the same member of the same cluster. What is read is not changed. Never start both.

    \b
    Example:
      etcdpyutl migrate --data-dir /var/lib/etcd --output-dir /var/lib/etcdpy
    """
    needed = {"data-dir": data_dir, "output-dir": output_dir or target_version}
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise FlagError("required flag(s) " + ", ".join(f'"{name}"' for name in missing) + " not set", ctx)
    source, wal = Path(data_dir), Path(wal_dir) if wal_dir else None
    if target_version:
        _check_version(target_version)
    is_etcd = (source / "member" / "snap" / "db").exists()
    if not is_etcd and not (source / "member" / "FORMAT").exists():
        wanted = source / "member" / "snap" / "db"
        raise Failure(Exit.ERROR, f"stat {wanted}: no such file or directory")
    with failures():
        if not output_dir:
            _check_schema(source, is_etcd=is_etcd)
            return
        target = Path(output_dir)
        seconds = timeout_seconds(ctx)
        told = (_from_etcd if is_etcd else _to_etcd)(source, wal, target, seconds, masters_of(key_file))
    click.echo(f"migrated {source} to {target}: {told}", err=True)


def _check_version(text: str) -> None:
    numbers = re.fullmatch(r"([0-9]+)\.([0-9]+)", text)
    if numbers is None:
        raise Failure(Exit.BAD_ARGUMENTS, f'wrong target version format, expected "X.Y", got "{text}"')
    if (int(numbers[1]), int(numbers[2])) < _VERSION_MIN:
        raise Failure(Exit.BAD_ARGUMENTS, f'target version "{text}" not supported. Minimal "3.5"')


def _check_schema(source: Path, *, is_etcd: bool) -> None:
    if is_etcd:
        raise Failure(Exit.ERROR, f"{source} is etcd's: change its schema with etcdutl, or name an --output-dir")
    click.echo(f"{source} holds nothing that differs from version to version: nothing to do", err=True)


# --- from etcd ---


def _from_etcd(source: Path, wal_dir: Path | None, target: Path, seconds: float, masters: MasterKeys | None) -> str:
    from etcdpy.interchange import wal
    from etcdpy.membership.members import Membership
    from etcdpy.raft.types import HardState
    from etcdpy.utl.making import Place, make_member

    path = source / "member" / "snap" / "db"
    place = Place(target)
    place.check_free()
    logs: list[Wal] = []

    def fill(filling: Filling) -> tuple[SnapshotContent, HardState]:
        content = filling.take_in(path)
        log = wal.read(wal_dir or source / "member" / "wal", content.index)
        content = replace(content, term=_term(content, log))
        _check_goes_on(source, content, log)
        Membership(filling.backend).found(log.cluster_id, log.member_id)
        logs.append(log)
        # etcd may apply an entry before the log says that it is committed.
        known = log.hard_state
        return content, HardState(known.term, known.vote, max(known.commit, content.index))

    def batches() -> Iterator[list[Entry]]:
        from etcdpy import limits

        entries = logs[0].entries
        for start in range(0, len(entries), limits.INTERCHANGE_SLICE_RECORDS):
            yield entries[start : start + limits.INTERCHANGE_SLICE_RECORDS]

    with _held(path, seconds):
        make_member(place, fill, batches(), masters)
    log = logs[0]
    return f"member {log.member_id:x} of cluster {log.cluster_id:x}, {len(log.entries)} log entries after its state"


@contextmanager
def _held(path: Path, seconds: float) -> Iterator[None]:
    """Keep etcd from starting on its database meanwhile, or find that it runs: it holds this very lock."""
    deadline = time.monotonic() + seconds
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if seconds and time.monotonic() >= deadline:
                    raise Failure(Exit.ERROR, f"another process holds {path}: stop the member first") from None
            time.sleep(LOCK_RETRY_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _term(content: SnapshotContent, log: Wal) -> int:
    """Of the last entry in the database, which before 3.5 did not say it."""
    return content.term or log.term_at or dict(log.snapshots).get(content.index, 0)


def _check_goes_on(source: Path, content: SnapshotContent, log: Wal) -> None:
    """Whether the log goes on from the state. Raises Failure: what etcd would mend at a start, it has to mend first."""
    start_it = "start etcd on it once, stop it, and migrate then"
    index = content.index
    names = map(_RECEIVED.match, os.listdir(source / "member" / "snap"))
    received = [int(found[1], 16) for found in names if found is not None]
    newest = max((each for each, _ in log.snapshots if each <= log.hard_state.commit), default=0)
    if newest > index or any(each > index for each in received):
        raise Failure(
            Exit.ERROR,
            f"{source}: the member was stopped while it took in a snapshot (its log goes on from entry "
            f"{max([newest, *received])}, its database ends at entry {index}); {start_it}",
        )
    if log.term_at is None and index not in (0, newest):
        raise Failure(
            Exit.ERROR,
            f"{source}: the log does not hold entry {index}, where the database ends: a part of it was lost, so take "
            "this member's data anew from another one",
        )
    if log.term_at is not None and log.term_at != content.term:
        raise Failure(
            Exit.ERROR,
            f"{source}: entry {index} has term {log.term_at} in the log and {content.term} in the database: "
            "they are not a pair",
        )


# --- to etcd ---


def _to_etcd(source: Path, wal_dir: Path | None, target: Path, seconds: float, masters: MasterKeys | None) -> str:
    from etcdpy.membership.members import Membership
    from etcdpy.utl.making import Place

    Place(target).check_free()
    engine = open_engine(source, seconds, masters=masters, wal_dir=wal_dir)
    try:
        membership = Membership(engine.state)
        membership.restore()
        if not membership.own_id:
            raise Failure(Exit.ERROR, f"{source}: the member has never taken part in a cluster")
        with Place(target).made_whole() as making:
            entries = _write_etcd(engine, making.data_dir / "member", (membership.own_id, membership.cluster_id))
    finally:
        engine.close()
    told = f"member {membership.own_id:x} of cluster {membership.cluster_id:x}"
    return f"{told}, {entries} log entries after its state"


def _write_etcd(engine: Engine, member: Path, identity: tuple[int, int]) -> int:
    """Database, snapshot message and log, each synced. Returns how many entries the log has."""
    from etcdpy.interchange import wal
    from etcdpy.interchange.export import export_steps
    from etcdpy.interchange.member_tree import member_tree
    from etcdpy.proto import raft_pb2
    from etcdpy.raft.types import HardState

    snap = member / "snap"
    snap.mkdir(mode=0o700, parents=True)
    view = engine.frozen_view()
    try:
        with open(os.open(snap / "db", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            Progress("writing", engine.state_bytes).run(export_steps(view, file))
            file.flush()
            os.fsync(file.fileno())
        index, term, group = view.applied_index, view.applied_term, view.conf_state
        metadata = raft_pb2.SnapshotMetadata(conf_state=group.to_proto(), index=index, term=term)
        wal.write_snapshot_message(snap, raft_pb2.Snapshot(data=member_tree(view), metadata=metadata))
    finally:
        view.close()
    known, _ = engine.log.initial_state()
    hard_state = HardState(known.term, known.vote, max(known.commit, index))
    wal.write(member / "wal", identity, (index, term, group), hard_state, _entries_after(engine, index))
    return engine.log.last_index() - index


def _entries_after(engine: Engine, index: int) -> Generator[Entry, None, None]:
    from etcdpy import limits

    last = engine.log.last_index()
    while index < last:
        entries = engine.log.entries(index + 1, last + 1, limits.FORCE_NEW_READ_BYTES)
        yield from entries
        index = entries[-1].index
