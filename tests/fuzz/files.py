"""Files that somebody may have damaged or made: backend files, data directories, configuration, certificates."""

from __future__ import annotations

import shutil
import ssl
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from etcdpy.interchange import bolt_format as bolt
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.interchange.ingest import ingest_steps
from etcdpy.mvcc.store import Store
from etcdpy.server.config import HelpRequested, VersionRequested, load, no_effect_notes
from etcdpy.server.notes import ConfigError
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import StorageError
from etcdpy.transport.tls import ServerTls, client_context
from etcdpy.transport.tls_options import ServerTlsConfig, TlsConfigError
from tests.fuzz.damage import mutate
from tests.fuzz.harness import STALL_SECONDS, Watch, Wrong
from tests.fuzz.peer import backend_bytes
from tests.support.certificates import TestAuthority, feed, wait_for_files
from tests.support.memory_backend import MemoryBackend
from tests.support.storage import check_prefix, copy_dir, flush, new_engine, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

START_STALL_SECONDS: Final = 0.25
"""Before a member serves anything, nobody waits for its loop: opening two databases takes 5 to 30 ms."""

CONFIG_STALL_SECONDS: Final = 1.0
"""The YAML library takes about 15 us a byte, and damage makes files of 48 KiB."""


@contextmanager
def _directory() -> Iterator[Path]:
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path)


class SnapshotFiles:
    """A backend file taken in slice by slice, as a received snapshot is."""

    name = "snapshot-files"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        watch.inputs += 1
        data = bytearray(mutate(draw, backend_bytes()))
        if draw.random() < 0.6 and len(data) >= 2 * bolt.PAGE_BYTES:
            _sign_metas(data)
        with _directory() as directory:
            path = directory / "db"
            path.write_bytes(data)
            backend = MemoryBackend()
            try:
                steps = ingest_steps(path, backend.put_many)
                while True:
                    with watch.turn():
                        next(steps)
            except StopIteration:
                Store.open(backend)
            except DamagedFileError as error:
                if not str(error).startswith(f"{path}: ") or "\n" in str(error):
                    raise Wrong(f"the refusal says {str(error)[:200]!r}") from error


def _sign_metas(data: bytearray) -> None:
    """A hostile sender's meta pages have good checksums."""
    for start in (0, bolt.PAGE_BYTES):
        body = data[start + bolt.HEADER_BYTES :][: bolt.META.size - 8]
        end = start + bolt.HEADER_BYTES + bolt.META.size
        data[end - 8 : end] = bolt.fnv1a_64(bytes(body)).to_bytes(8, "little")


@cache
def _data_dir() -> dict[str, bytes]:
    """A small member's files: tables, write-ahead files, what was killed in the middle."""
    with _directory() as directory:
        engine = new_engine(directory / "data", snapshot_count=40, catchup_entries=10)
        for number in range(12):
            write_batch(engine, 1 + number % 5, apply=number % 3 != 0)
        engine.close()
        engine = new_engine(directory / "data", snapshot_count=40, catchup_entries=10)
        for number in range(12):
            write_batch(engine, 1 + number % 5, apply=number % 3 != 0)
        flush(engine)
        copy = copy_dir(directory / "data", directory / "copy")
        engine.close()
        files = [file for file in sorted(copy.rglob("*")) if file.is_file()]
        return {str(file.relative_to(copy)): file.read_bytes() for file in files}


class DataDirs:
    """A data directory with a damaged file: whole, or refused in one line that names it."""

    name = "data-dir"
    stall_seconds = START_STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        files = _data_dir()
        victim = draw.choice([name for name in files if not name.endswith(("LOG", "LOG.old"))])
        with _directory() as directory:
            for name, content in files.items():
                path = directory / "data" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(mutate(draw, content) if name == victim else content)
            with watch.input():
                self._open(directory / "data")

    def _open(self, path: Path) -> None:
        try:
            engine = Engine.open(path)
        except StorageError as error:
            if "\n" in str(error) or str(path) not in str(error):
                raise Wrong(f"the refusal says {str(error)[:200]!r}") from error
            return
        try:
            with suppress(StorageError):
                check_prefix(engine)
        finally:
            engine.close()


_CONFIG: Final = b"""\
name: m1
data-dir: /tmp/x
listen-client-urls: http://127.0.0.1:1,https://127.0.0.1:2
listen-peer-urls: http://127.0.0.1:3
initial-cluster: m1=http://127.0.0.1:3
initial-advertise-peer-urls: http://127.0.0.1:3
advertise-client-urls: http://127.0.0.1:1
snapshot-count: 1000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0x10
cors: "*"
auto-compaction-retention: "1"
log-outputs: [stderr]
log-rotation-config-json: '{"maxsize": 100}'
client-transport-security:
  cert-file: /a
  client-cert-auth: true
  allowed-cn: [a, b]
discovery-config: {token: t, client: {endpoints: [h], auth: {username: u, password: p}}}
feature-gates: InitialCorruptCheck=true
"""
_YAML: Final = (
    b"a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nname: [*c,*c,*c,*c,*c,*c]\n",
    b"&a a: *a\n", b"<<: *x\n", b"- [" * 400, b"{a: " * 400, b"!!python/object/apply:os.system ['true']\n",
    b"name: !!binary zzz\n", b"? [1, 2]\n: x\n", b"name: 2001-01-01\n", b"snapshot-count: 1e999\n",
    b"snapshot-count: " + b"9" * 5000 + b"\n", b"heartbeat-interval: 0o9\n", b"snapshot-count: 0b\n",
    b"x: \xff\xfe\n",
    b"name: \"\\ud800\"\n", b"%YAML 9.9\n---\nx\n", b"--- a\n--- b\n", b"snapshot-count: .nan\n",
    b"\xef\xbb\xbfname: a\n",
)  # fmt: skip


class Configuration:
    """A YAML file: a Config, or the reason in one line."""

    name = "config"
    stall_seconds = CONFIG_STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        data = draw.choice(_YAML) + _CONFIG if draw.random() < 0.3 else _CONFIG
        if draw.random() < 0.3:
            lines = data.splitlines(keepends=True)
            draw.shuffle(lines)
            data = b"".join(lines[: draw.randint(1, len(lines))])
        data = mutate(draw, data, _YAML)[:8192]
        with _directory() as directory:
            path = directory / "config.yml"
            path.write_bytes(data)
            with watch.input():
                try:
                    config = load([f"--config-file={path}"], {})
                except (HelpRequested, VersionRequested):
                    return
                except ConfigError as error:
                    if not str(error).isprintable() or error.exit_code not in (1, 2):
                        raise Wrong(f"the refusal says {str(error)[:200]!r}") from error
                    return
                no_effect_notes(config)
                repr(config)


@cache
def _certificates() -> dict[str, bytes]:
    with _directory() as directory:
        authority = TestAuthority(directory)
        leaf = authority.issue("server", "server")
        crl = authority.revocation_list(5, 6, 7)
        return {
            "ca": authority.pem,
            "cert": Path(leaf.cert).read_bytes(),
            "key": Path(leaf.key).read_bytes(),
            "crl": crl.public_bytes(Encoding.DER),
            "crl-pem": crl.public_bytes(Encoding.PEM),
        }


def _write_honest(directory: Path, *names: str) -> dict[str, Path]:
    files = {name: directory / name for name in names}
    for name, path in files.items():
        path.write_bytes(_certificates()[name])
    return files


class Certificates:
    """Certificates, keys, CA bundles and revocation lists, at start and then under a server that runs."""

    name = "certificates"
    stall_seconds = STALL_SECONDS
    changes = 8

    def play(self, draw: Random, watch: Watch) -> None:
        honest = _certificates()
        with _directory() as directory:
            files = _write_honest(directory, "ca", "cert", "key", "crl")
            config = ServerTlsConfig(
                cert_file=str(files["cert"]),
                key_file=str(files["key"]),
                trusted_ca_file=str(files["ca"]),
                client_cert_auth=True,
                crl_file=str(files["crl"]),
            )
            tls = ServerTls(config)
            others = list(honest.values())
            for number in range(self.changes):
                name = draw.choice(list(files))
                source = honest["crl-pem"] if name == "crl" and draw.random() < 0.4 else honest[name]
                files[name].write_bytes(mutate(draw, source, others))
                with watch.input():
                    context = tls.context()
                wait_for_files(tls)
                if not isinstance(context, ssl.SSLContext):
                    raise Wrong("no context")
                if number % 4 == 3:
                    self._start(watch, config)
                files[name].write_bytes(honest[name])

    def _start(self, watch: Watch, config: ServerTlsConfig) -> None:
        with watch.input():
            try:
                ServerTls(config)
                client_context(
                    cert_file=config.cert_file, key_file=config.key_file, trusted_ca_file=config.trusted_ca_file
                )
            except TlsConfigError as error:
                if "\n" in str(error) or "PRIVATE" in str(error):
                    raise Wrong(f"the refusal says {str(error)[:200]!r}") from error


class Handshakes:
    """What comes instead of a handshake: a listener refuses it, and its log line can be made."""

    name = "handshakes"
    stall_seconds = STALL_SECONDS
    tries = 20

    def play(self, draw: Random, watch: Watch) -> None:
        with _directory() as directory:
            cert, key, ca = map(str, _write_honest(directory, "cert", "key", "ca").values())
            config = ServerTlsConfig(cert, key, ca, client_cert_auth=True)
            tls = ServerTls(config, now=time.time)
            hello = _client_hello(ca)
            for _ in range(self.tries):
                data = mutate(draw, hello, [b"GET / HTTP/1.1\r\n\r\n", hello])
                with watch.input():
                    pair = feed(tls.context(), data, end=draw.random() < 0.5)
                    if pair.server_error is not None:
                        tls.log_refused("10.0.0.9:1", pair.server_error, pair.server)


def _client_hello(ca: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
