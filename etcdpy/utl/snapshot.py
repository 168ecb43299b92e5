"""`etcdpyutl snapshot status | restore | hashkv`, and `hashkv`: a saved file, looked at or made a member's data."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import INT, UINT, Command, Exit, Failure, FlagError, Group
from etcdpy.progress import Progress
from etcdpy.utl.options import global_options, key_file_option, masters_of
from etcdpy.utl.printers import check_format, hash_columns, show, status_columns
from etcdpy.utl.work import check_exists, failures, one_argument

if TYPE_CHECKING:
    from etcdpy.interchange.ingest import SnapshotContent
    from etcdpy.mvcc.hashing import HashKv
    from etcdpy.raft.types import HardState
    from etcdpy.server.bootstrap import Beginning
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.utl.making import Filling

_DEFAULT_NAME: Final = "default"
_DEFAULT_URL: Final = "http://localhost:2380"


@click.group("snapshot", cls=Group, globals_=global_options, short_help="Manages etcd node snapshots")
@click.pass_context
def snapshot(ctx: click.Context) -> None:
    """Look at files that `snapshot save` made, or make a member's data directory from one."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# --- status ---


@snapshot.command(
    "status", cls=Command, globals_=global_options, short_help="Gets backend snapshot status of a given file"
)
@click.argument("filename", nargs=-1)
@click.pass_context
def status(ctx: click.Context, filename: tuple[str, ...]) -> None:
    """Read a file from one end to the other, and print its hash, revision, number of keys, size and version.

    \b
    Example:
      etcdpyutl snapshot status backup.db -w table
    """
    path = Path(one_argument(filename, "snapshot status"))
    check_exists(path)
    form = check_format(ctx)
    from etcdpy.interchange.inspect import status_steps

    with failures():
        found = Progress("reading", path.stat().st_size).run(status_steps(path))
    show(form, status_columns(found))


# --- hashkv ---


def _print_hash(ctx: click.Context, filename: tuple[str, ...], rev: int) -> None:
    if len(filename) != 1:
        raise FlagError(f"accepts 1 arg(s), received {len(filename)}", ctx)
    path = Path(filename[0])
    form = check_format(ctx)
    check_exists(path)
    with failures():
        show(form, hash_columns(hash_of(path, rev)))


def hash_of(path: Path, revision: int = 0) -> HashKv:
    """HashKV of a file. Raises Failure with etcd's text, DamagedFileError, OSError."""
    from etcdpy.errors import EtcdError
    from etcdpy.interchange.bolt_reader import BoltFile
    from etcdpy.interchange.inspect import FileBackend
    from etcdpy.mvcc.fetch import finish
    from etcdpy.mvcc.store import Store

    with BoltFile(path) as file:
        store = Store.open(FileBackend(file))
        try:
            return finish(store.hash_kv_steps(revision))
        except EtcdError as error:
            raise Failure(Exit.ERROR, error.message.removeprefix("etcdserver: ")) from None


_REV = click.option("--rev", type=INT, default=0, help="maximum revision to hash (default: latest revision)")


@click.command("hashkv", cls=Command, globals_=global_options, short_help="Prints the KV history hash of a given file")
@click.argument("filename", nargs=-1)
@_REV
@click.pass_context
def hashkv(ctx: click.Context, filename: tuple[str, ...], rev: int) -> None:
    """Print the hash that members compare, of a saved file: `etcdpyctl endpoint hashkv` shows the same of a member.

    \b
    Example:
      etcdpyutl hashkv backup.db --rev 1000
    """
    _print_hash(ctx, filename, rev)


@snapshot.command("hashkv", cls=Command, globals_=global_options, short_help="The same as `hashkv`")
@click.argument("filename", nargs=-1)
@_REV
@click.pass_context
def snapshot_hashkv(ctx: click.Context, filename: tuple[str, ...], rev: int) -> None:
    """Print the hash that members compare, of a saved file.

    \b
    Example:
      etcdpyutl snapshot hashkv backup.db
    """
    _print_hash(ctx, filename, rev)


# --- restore ---


@snapshot.command(
    "restore",
    cls=Command,
    globals_=global_options,
    short_help="Restores an etcd member snapshot to an etcd directory",
)
@click.argument("filename", nargs=-1)
@click.option("--data-dir", default="", help="Path to the output data directory (default: NAME.etcd)")
@click.option("--wal-dir", default="", help="Path for the raft log (default: inside of the data directory)")
@click.option(
    "--initial-cluster",
    default=f"{_DEFAULT_NAME}={_DEFAULT_URL}",
    show_default=True,
    help="Initial cluster configuration for restore bootstrap",
)
@click.option(
    "--initial-cluster-token",
    default="etcd-cluster",
    show_default=True,
    help="Initial cluster token for the etcd cluster during restore bootstrap",
)
@click.option(
    "--initial-advertise-peer-urls",
    default=_DEFAULT_URL,
    show_default=True,
    help="List of this member's peer URLs to advertise to the rest of the cluster",
)
@click.option("--name", default=_DEFAULT_NAME, show_default=True, help="Human-readable name for this member")
@click.option("--skip-hash-check", is_flag=True, help="Do not compare the checksum (for a copy of a data directory)")
@click.option("--bump-revision", type=UINT, default=0, help="How much to increase the latest revision after restore")
@click.option(
    "--mark-compacted",
    is_flag=True,
    help="Mark the latest revision after restore as the point of scheduled compaction (goes with --bump-revision)",
)
@click.option("--initial-memory-map-size", type=UINT, default=0, help="Accepted as by etcdutl; nothing is mapped here")
@key_file_option
def restore(
    filename: tuple[str, ...], bump_revision: int, mark_compacted: bool, key_file: str, **options: str | bool | int
) -> None:
    """Make the data directory of a new member of a new cluster from a saved file.

    Keys, revisions, leases, users and alarms are the file's; members and ids are new. Do it once for each member, on
    the same file with the same --initial-cluster. Clients that watch from revisions which the file does not have would
    miss changes: with --bump-revision and --mark-compacted they are told to start anew.

    \b
    Example:
      etcdpyutl snapshot restore backup.db --data-dir /var/lib/etcdpy --name m1 \\
        --initial-cluster m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380 \\
        --initial-advertise-peer-urls https://10.0.0.1:2380
    """
    path = Path(one_argument(filename, "snapshot restore"))
    if bool(bump_revision) != mark_compacted:
        raise Failure(Exit.BAD_ARGUMENTS, "--mark-compacted required if --revision-bump > 0")
    name = str(options["name"])
    with failures():
        founding = founding_of(
            name,
            str(options["initial_cluster"]),
            str(options["initial_cluster_token"]),
            str(options["initial_advertise_peer_urls"]),
        )
        data_dir = Path(str(options["data_dir"] or f"{name}.etcd"))
        wal_dir = Path(str(options["wal_dir"])) if options["wal_dir"] else None
        revision = restore_file(
            path,
            data_dir,
            wal_dir,
            founding,
            bump_revision,
            skip_hash_check=bool(options["skip_hash_check"]),
            masters=masters_of(key_file),
        )
    click.echo(f"restored {path} to {data_dir} at revision {revision}: member {founding.own_id:x} {name}", err=True)


def founding_of(name: str, initial_cluster: str, token: str, advertised: str) -> Beginning:
    """The new cluster and this member in it. Raises Failure with etcdutl's texts, in its order."""
    from etcdpy.server import url_match
    from etcdpy.server.bootstrap import found
    from etcdpy.server.go_values import quote
    from etcdpy.server.initial_cluster import InitialCluster
    from etcdpy.server.urls import UrlError, parse_initial_cluster, parse_urls

    try:
        own = sorted(map(str, parse_urls(advertised)))
        parsed = parse_initial_cluster(initial_cluster)
    except UrlError as error:
        raise Failure(Exit.ERROR, str(error)) from None
    cluster = InitialCluster({each: tuple(map(str, urls)) for each, urls in parsed.items()}, token)
    if name not in cluster.members:
        raise Failure(Exit.ERROR, f"couldn't find local name {quote(name)} in the initial cluster configuration")
    listed = sorted(cluster.members[name])
    try:
        asyncio.run(url_match.check_same(own, listed, url_match.resolve_address))
    except url_match.UrlMismatch as mismatch:
        raise Failure(Exit.ERROR, _mismatch(name, listed, own, mismatch)) from None
    if cluster.has_duplicate_url:
        raise Failure(Exit.ERROR, f"initial cluster {cluster} has duplicate url")
    return found(name, cluster)


def _mismatch(name: str, listed: list[str], own: list[str], reason: Exception) -> str:
    missing = ",".join(f"{name}={url}" for url in listed if url not in own)
    if missing:
        told = ",".join(own)
        return f"--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={told} ({reason})"
    missing, named = ",".join(url for url in own if url not in listed), ",".join(f"{name}={url}" for url in own)
    return f"--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={named}"


def restore_file(
    path: Path,
    data_dir: Path,
    wal_dir: Path | None,
    founding: Beginning,
    bump_revision: int = 0,
    *,
    skip_hash_check: bool = False,
    masters: MasterKeys | None = None,
) -> int:
    """Make the data directory; returns its revision. Raises Failure, DamagedFileError, StorageError, OSError."""
    from etcdpy.interchange import schema
    from etcdpy.interchange.bolt_format import DamagedFileError
    from etcdpy.membership.members import Membership
    from etcdpy.raft.types import ConfState, HardState
    from etcdpy.utl.making import Place, checksum_compared, make_member

    place = Place(data_dir, wal_dir)
    place.check_free()
    path.open("rb").close()
    revisions: list[int] = []

    def fill(filling: Filling) -> tuple[SnapshotContent, HardState]:
        with nullcontext(_nothing) if skip_hash_check else checksum_compared(path) as compared:
            try:
                content = filling.take_in(path, without=(schema.MEMBERS, schema.MEMBERS_REMOVED))
            except DamagedFileError:
                compared()  # which says more
                raise
            compared()
        membership = Membership(filling.backend)
        membership.found(founding.cluster_id, founding.own_id)
        for member in founding.members:
            # As etcdutl writes them; each tells its client URLs once it has started.
            membership.add(member)
        revisions.append(_bump(filling, bump_revision))
        # The log begins behind the entries that would have brought the members in, in their term.
        index, voters = len(founding.members), tuple(member.id for member in founding.members)
        return replace(content, index=index, term=1, conf_state=ConfState(voters)), HardState(1, voters[0], index)

    make_member(place, fill, masters=masters)
    return revisions[0]


def _nothing() -> None:
    pass


def _bump(filling: Filling, amount: int) -> int:
    """Set the revision higher and have all before it compacted, as etcdutl does: by an empty record, and a compaction
    that is scheduled. Returns the revision."""
    from etcdpy.backend import REVISION_BUCKET
    from etcdpy.mvcc.compaction import SCHEDULED_COMPACTION

    filling.state.flush()()
    scan = filling.state.backend.scan(REVISION_BUCKET, b"s", reverse=True)
    last = next((int.from_bytes(key[1:9], "big") for key, _ in scan), 0)
    if amount:
        last += amount
        main = last.to_bytes(8, "big")
        filling.backend.put(REVISION_BUCKET + main + bytes(4), b"")
        filling.backend.put(SCHEDULED_COMPACTION, main)
    return last
