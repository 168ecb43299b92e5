"""A cluster with mutual TLS moves to a new authority while a client writes, and refuses who was revoked meanwhile.

The files that members serve from are copies, as on hosts of their own, so that every step is refused before they come.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from pki import files, keys, probe
from pki.authority import Issued
from tests.support.certificates import done_pki, refused_pki
from tests.support.cluster import Cluster, ClusterTls
from tests.support.members import TlsFiles
from tests.support.traffic import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

CERTIFICATES = ("server-key.pem", "server.pem", "peer-key.pem", "peer.pem")
CLIENTS = ("client-key.pem", "client.pem")

NO_CERTIFICATE = "tls: client didn't provide a certificate"
UNKNOWN_AUTHORITY = "remote error: tls: unknown certificate authority"


class Hosts:
    """The directory of the authority, and what was copied from it to the hosts."""

    def __init__(self, directory: Path) -> None:
        self.pki, self.taken = directory / "pki", directory / "taken"
        self.taken.mkdir()
        local = ("--dir", str(self.pki), "--ip", "127.0.0.1", "--dns", "localhost")
        done_pki("init", "--dir", str(self.pki))
        done_pki("issue", "--profile", "server", "server", *local)
        done_pki("issue", "--profile", "peer", "peer", *local)
        for name in ("client", "thief"):
            done_pki("issue", "--profile", "client", name, "--dir", str(self.pki))
        done_pki("crl", "--dir", str(self.pki))
        self.copy("ca.pem", *CERTIFICATES, *CLIENTS, "ca.crl")

    def copy(self, *names: str) -> None:
        """Bring files to the hosts, each by a rename."""
        for name in names:
            beside = self.taken / f".{name}"
            shutil.copy(self.pki / name, beside)
            beside.replace(self.taken / name)

    @property
    def tls(self) -> ClusterTls:
        at = self.taken
        pairs = (at / f"{name}{ending}.pem" for name in ("server", "client") for ending in ("", "-key"))
        return ClusterTls(TlsFiles(at / "ca.pem", *pairs), at / "peer.pem", at / "peer-key.pem")


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


@pytest.fixture
def cluster(hosts: Hosts, tmp_path: Path) -> Iterator[Cluster]:
    flags = [f"--{prefix}-crl-file={hosts.taken / 'ca.crl'}" for prefix in ("client", "peer")]
    with Cluster(["etcdpy"] * 3, tmp_path, tls=hosts.tls, flags=flags) as running:
        yield running


def identity(directory: Path, name: str) -> Issued:
    """A pair from files, to be shown to a port."""
    (certificate,) = files.read_certificates(directory / f"{name}.pem")
    return Issued(certificate, keys.from_pem((directory / f"{name}-key.pem").read_bytes(), None, name))


class Judge:
    """Whom every port lets in, and under which authority it serves."""

    def __init__(self, cluster: Cluster) -> None:
        self.ports = [
            f"https://127.0.0.1:{port}" for each in cluster.members for port in (each.client_port, each.peer_port)
        ]

    def all_let_in(self, shown: Issued, trusted: x509.Certificate) -> None:
        for port in self.ports:
            assert probe.ask(port, probe.Question([trusted], shown)) == probe.Answer(), port

    def all_refuse(self, shown: Issued, trusted: x509.Certificate) -> None:
        for port in self.ports:
            answer = probe.ask(port, probe.Question([trusted], shown))
            assert answer.server_fault == "", port
            assert answer.refusal, port


def refused_subjects(cluster: Cluster) -> set[str]:
    """Whom the members say that they refused; where nobody showed a certificate, the reason."""
    lines = [json.loads(line) for each in cluster.members for line in each.log_text().splitlines()]
    refused = [line for line in lines if line["msg"].startswith("rejected connection")]
    return {line.get("subject") or line["error"].partition(";")[0] for line in refused}


def test_a_rotation_and_a_revocation_under_load(cluster: Cluster, hosts: Hosts) -> None:
    judge, at = Judge(cluster), ("--dir", str(hosts.pki))
    (old,) = files.read_certificates(hosts.pki / "ca.pem")
    old_client, thief = identity(hosts.pki, "client"), identity(hosts.pki, "thief")
    with Writer(cluster, b"w/", puts_a_connection=5) as writer:
        writer.wait(10)
        judge.all_let_in(old_client, old)
        judge.all_let_in(thief, old)
        done_pki("revoke", "thief", *at)
        hosts.copy("ca.crl")
        judge.all_refuse(thief, old)
        judge.all_let_in(old_client, old)

        done_pki("rotate", "start", *at, *(word for port in judge.ports for word in ("--taken-by", port)))
        refused = refused_pki("rotate", "reissue", *at)
        assert refused.count("does not let in what the new CA signs") == len(judge.ports)
        hosts.copy("ca.pem")
        writer.wait(10)
        done_pki("rotate", "reissue", *at)
        new, _ = files.read_certificates(hosts.pki / "ca.pem")
        new_client = identity(hosts.pki, "client")
        judge.all_let_in(new_client, old)

        refused = refused_pki("rotate", "drop", *at)
        assert refused.count("still serves a certificate of the old CA") == len(judge.ports)
        hosts.copy(*CERTIFICATES, *CLIENTS, "ca.crl")
        writer.wait(10)
        for shown in (old_client, new_client):
            judge.all_let_in(shown, new)
        judge.all_refuse(thief, new)

        done_pki("rotate", "drop", *at)
        assert "still lets in what the old CA signs" in refused_pki("rotate", "finish", *at)
        hosts.copy("ca.pem")
        done_pki("rotate", "finish", *at)
        judge.all_let_in(new_client, new)
        judge.all_refuse(old_client, new)
        # Connections that stand outlive their certificates. A member that comes back has to make all of them anew.
        back = cluster.others(cluster.leader())[0]
        back.kill()
        cluster.restart(back)
        writer.wait(10)
        judge.all_let_in(new_client, new)

    cluster.forget_clients()  # they read their files when they were made
    kept = cluster.client(back).kv.Range(rpc_pb2.RangeRequest(key=b"w/", range_end=b"w0", keys_only=True))
    assert [each.key for each in kept.kvs] == sorted(writer.acknowledged)
    cluster.assert_equal()
    gauge = f'etcdpy_certificate_not_after_seconds{{file="{hosts.taken / "ca.pem"}",role="trusted-ca"}}'
    assert {member.metric(gauge) for member in cluster.members} == {new.not_valid_after_utc.timestamp()}
    # Nobody was refused by mistake, and no member ever. The last two are what the steps that were refused asked.
    strangers = {"CN=thief", "CN=rotation-probe", "CN=client", NO_CERTIFICATE, UNKNOWN_AUTHORITY}
    assert refused_subjects(cluster) <= strangers
