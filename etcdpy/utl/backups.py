"""`etcdpy backup run`: one scheduled backup. Saved through the API, restored once to see that it can be, some kept.

`etcdpy backup keep` does the same with a file that was made elsewhere and brought here.

<dir>/etcd-20260131T235959Z.db    a backup that was verified; the time is when it was begun, in UTC. `.sealed` where
                                  it is encrypted: `etcdpyutl encryption decrypt-backup` makes a .db of it again
<dir>/.lock                       held while one is made
<dir>/.verify-*, .etcd-*          on the way; removed at the next run
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import INT, Command, Exit, Failure
from etcdpy.progress import Progress
from etcdpy.texttable import human_bytes
from etcdpy.utl.check import backup, decrypted, verify_file
from etcdpy.utl.options import global_options, key_file_option, masters_of, require
from etcdpy.utl.printers import check_format, show_facts
from etcdpy.utl.work import failures, one_argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.client.channels import TlsFiles
    from etcdpy.client.client import Client
    from etcdpy.storage.key_file import MasterKeys

_NAME = re.compile(r"etcd-[0-9]{8}T[0-9]{6}Z\.(db|sealed)")
KEEP_DEFAULT: Final = 7
PASSWORD_VARIABLE: Final = "ETCDPY_BACKUP_PASSWORD"  # noqa: S105  # its name
"""Never a flag: what stands on a command line everybody on the host can read."""
ANSWER_SECONDS_MAX: Final = 5.0
"""An endpoint that has said nothing by then is passed over for the next one."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whom to ask."""

    endpoints: tuple[str, ...]
    cacert: str
    cert: str
    key: str
    user: str = ""
    password: str = field(default="", repr=False)


@backup.command("run", cls=Command, globals_=global_options, short_help="Makes a backup, verifies it, keeps some")
@click.option("--endpoints", default="127.0.0.1:2379", show_default=True, help="The first one that answers is asked")
@click.option("--cacert", default="", help="verify the server by this CA bundle")
@click.option("--cert", default="", help="identify this client by this certificate file")
@click.option("--key", default="", help="the key file of --cert")
@click.option("--user", default="", help="who asks, where users are on: root, or a user with its role")
@click.option("--password-file", default="", help=f"its first line is the password (default: ${PASSWORD_VARIABLE})")
@click.option("--dir", "directory", default="", help="Required. Where the backups are kept")
@click.option("--keep", type=INT, default=KEEP_DEFAULT, show_default=True, help="How many are kept, the newest")
@click.option("--scratch-dir", default="", help="Where a backup is restored to verify it (default: --dir)")
@click.option("--metrics-file", default="", help="A file for node_exporter's textfile collector, made anew by each run")
@key_file_option
@click.pass_context
def run_backup(ctx: click.Context, /, directory: str, keep: int, metrics_file: str, **others: str) -> None:
    """Save the state, restore it to a scratch place to see that it can be, and only then remove the oldest backups.

    Meant for a timer. One run at a time in a directory. With --encryption-key-file what is kept is encrypted.

    \b
    Example:
      etcdpy backup run --endpoints https://10.0.0.1:2379 --cacert ca.pem --cert client.pem --key client-key.pem \\
        --dir /var/backups/etcd --keep 7 --metrics-file /var/lib/node_exporter/etcd_backup.prom
    """
    _check_keep(ctx, directory, keep)
    place = Path(directory)
    endpoints = tuple(part for part in others["endpoints"].split(",") if part)
    with failures():
        password = _password(others["user"], others["password_file"])
    source = Source(endpoints, others["cacert"], others["cert"], others["key"], others["user"], password)
    scratch = Path(others["scratch_dir"]) if others["scratch_dir"] else place
    with failures():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(place):
            began = time.time()
            try:
                path, facts = make_backup(source, place, scratch, began, masters_of(others["key_file"]))
                prune(place, keep)
            except BaseException:
                _write_metrics(metrics_file, place, began, succeeded=False)
                raise
            _write_metrics(metrics_file, place, began, succeeded=True, revision=facts["revision"])
    size = human_bytes(path.stat().st_size)
    click.echo(f"{path}: {size}, {facts['keys']} keys at revision {facts['revision']}, verified", err=True)


@backup.command("keep", cls=Command, globals_=global_options, short_help="Takes in a backup from elsewhere, keeps some")
@click.argument("filename", nargs=-1)
@click.option("--dir", "directory", default="", help="Required. Where the backups are kept")
@click.option("--keep", type=INT, default=KEEP_DEFAULT, show_default=True, help="How many are kept, the newest")
@key_file_option
@click.pass_context
def keep_backup(ctx: click.Context, filename: tuple[str, ...], directory: str, keep: int, key_file: str) -> None:
    """Move a file here that `backup run` made elsewhere, verify it, and only then remove the oldest backups.

    With --encryption-key-file it is kept encrypted. One that is encrypted already is verified with these keys; without
    them it is kept on the word of who made it.

    \b
    Example:
      etcdpy backup keep fetched/etcd-20260131T235959Z.db --dir backups --keep 30 --encryption-key-file backup-keys
    """
    path = Path(one_argument(filename, "backup keep"))
    form = check_format(ctx)
    _check_keep(ctx, directory, keep)
    if not _NAME.fullmatch(path.name):
        raise Failure(
            Exit.BAD_ARGUMENTS, f"{path.name} is no name that `backup run` gives; those are what is kept here"
        )
    place = Path(directory)
    with failures():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(place):
            facts = _take_in(path, place, masters_of(key_file))
            prune(place, keep)
    show_facts(form, facts)


def _check_keep(ctx: click.Context, directory: str, keep: int) -> None:
    require(ctx, dir=directory)
    if keep < 1:
        raise Failure(Exit.BAD_ARGUMENTS, "--keep must be 1 or more: the newest backup is never removed")


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(Exit.ERROR, f"another run is making a backup in {place}") from None
        for left in [*place.glob(".verify-*"), *place.glob(".etcd-*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def make_backup(
    source: Source, place: Path, scratch: Path, began: float, masters: MasterKeys | None = None
) -> tuple[Path, dict[str, Any]]:
    """Save, verify, and with `masters` encrypt. Raises Failure and what files raise."""
    path = place / time.strftime("etcd-%Y%m%dT%H%M%SZ.db", time.gmtime(began))
    unverified = place / f".{path.name}"
    try:
        _save(source, unverified)
        facts = verify_file(unverified, scratch)
        return _named(unverified, path, masters), facts
    finally:
        unverified.unlink(missing_ok=True)


def _take_in(source: Path, place: Path, masters: MasterKeys | None) -> dict[str, Any]:
    """Move it, verify it where that can be done, and with `masters` encrypt it. Raises as make_backup."""
    path = place / source.name
    unverified = place / f".{path.name}"
    shutil.move(source, unverified)
    try:
        unverified.chmod(0o600)
        facts: dict[str, Any] = {"verified": path.suffix == ".db" or masters is not None}
        if facts["verified"]:
            with decrypted(unverified, place, masters) as plain:
                facts |= verify_file(plain, place)
        return {**facts, "file": str(_named(unverified, path, masters))}
    finally:
        unverified.unlink(missing_ok=True)


def _named(unverified: Path, path: Path, masters: MasterKeys | None) -> Path:
    """Give a file that may be kept its name, with `masters` encrypted; returns which. Raises as make_backup."""
    if masters is not None and path.suffix == ".db":
        path = path.with_suffix(".sealed")
        unverified = _sealed(unverified, path.with_name(f".{path.name}"), masters)
    unverified.rename(path)
    _sync(path.parent)
    return path


def _sealed(plain: Path, sealed: Path, masters: MasterKeys) -> Path:
    """The file once more, encrypted; the plain one is removed."""
    from etcdpy.storage import sealed_file

    with plain.open("rb") as reader:
        descriptor = os.open(sealed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as writer:
            sealed_file.seal_backup(reader, writer, masters)
            writer.flush()
            os.fsync(writer.fileno())
    plain.unlink()
    return sealed


def _password(user: str, file: str) -> str:
    """The password of --user. Raises Failure, OSError."""
    if not user:
        return ""
    first = Path(file).read_text().partition("\n")[0] if file else os.environ.get(PASSWORD_VARIABLE, "")
    if not first:
        place = f"the first line of {file} is empty" if file else f"name --password-file, or set {PASSWORD_VARIABLE}"
        raise Failure(Exit.BAD_ARGUMENTS, f"--user needs a password: {place}")
    return first


def _save(source: Source, path: Path) -> None:
    from etcdpy.client.client import Client
    from etcdpy.client.snapshot import SnapshotFailed
    from etcdpy.errors import EtcdError

    reasons = []
    for endpoint in source.endpoints:
        progress = Progress("saving", 0)
        user, password = source.user, source.password
        try:
            with Client(endpoint, tls=_tls_files(source), user=user, password=password) as client:
                _check_answers(client)
                client.snapshot(path, progress.show_of)
            return
        except EtcdError as error:
            reasons.append(f"{endpoint}: {error.message}")
        except SnapshotFailed as error:
            reasons.append(f"{endpoint}: {error}")
        finally:
            progress.end()
    raise Failure(Exit.ERROR, "no endpoint gave a snapshot: " + "; ".join(reasons or ["none was named"]))


def _tls_files(source: Source) -> TlsFiles | None:
    from etcdpy.client.channels import TlsFiles

    files = [Path(name) if name else None for name in (source.cacert, source.cert, source.key)]
    return TlsFiles(*files) if any(files) else None


def _check_answers(client: Client) -> None:
    """Raise EtcdError where nobody answers: a snapshot itself takes as long as it takes."""
    from etcdpy.client.call import STATUS, Call
    from etcdpy.proto import rpc_pb2

    client.do(Call(STATUS, rpc_pb2.StatusRequest(), ANSWER_SECONDS_MAX))


def _sync(place: Path) -> None:
    from etcdpy.storage.leveldb import sync_directory

    sync_directory(place)


def kept(place: Path) -> list[Path]:
    """The backups, oldest first."""
    return sorted(path for path in place.iterdir() if _NAME.fullmatch(path.name))


def prune(place: Path, keep: int) -> None:
    """Remove all backups but the newest `keep`; other files are left alone."""
    for path in kept(place)[:-keep]:
        path.unlink()


def _write_metrics(name: str, place: Path, began: float, *, succeeded: bool, revision: int = 0) -> None:
    """What a monitor needs to notice that backups have stopped, or shrunk."""
    if not name:
        return
    backups = kept(place)
    figures = {
        "last_run_success": int(succeeded),
        "last_run_timestamp_seconds": int(began),
        "last_run_duration_seconds": round(time.time() - began, 3),
        "kept": len(backups),
    }
    if backups:
        status = backups[-1].stat()
        figures["last_success_timestamp_seconds"] = int(status.st_mtime)
        figures["last_success_size_bytes"] = status.st_size
    if revision:
        figures["last_success_revision"] = revision
    lines = [f"# TYPE etcdpy_backup_{key} gauge\netcdpy_backup_{key} {value}\n" for key, value in figures.items()]
    path = Path(name)
    making = path.with_name(f"{path.name}.{os.getpid()}")
    making.write_text("".join(lines))
    making.rename(path)


__all__ = ["backup"]
