"""`etcdpy pki batch`: many requests and certificates at a time, as JSON through standard input and output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pki import batch as work
from pki import files, options
from pki.options import Group, access_options, directory_option, print_json
from pki.store import Store
from pki.verify import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from pki.store import KeyAccess


@click.group(cls=Group)
def batch() -> None:
    """Many certificates at a time, for playbooks: a list of JSON comes in by standard input, JSON goes out.

    \b
    Example, for all certificates of a host:
      etcdpy pki batch ask --dir /etc/etcd/pki <wanted.json >asked.json     # on the host
      etcdpy pki batch sign --dir pki <asked.json >signed.json              # where the CA is
      etcdpy pki batch accept --dir /etc/etcd/pki <signed.json              # on the host
    """


def _rows() -> list[object]:
    return work.parse(sys.stdin.read())


@batch.command()
@click.option("--new-key", is_flag=True, help="As with `csr`.")
@directory_option
def ask(new_key: bool, directory: Path) -> None:
    """On a node: make keys that never leave it, and print the requests that `batch sign` takes.

    A row: {"name": "m1", "known_as": "m1", "profile": "server", "ip": ["10.0.0.1"], "dns": ["m1"]}. The name is that
    of the node's file; the authority knows the certificate by the other one, which no other node may have.

    \b
    Example:
      etcdpy pki batch ask --dir /etc/etcd/pki <wanted.json >asked.json
    """
    rows = _rows()
    with files.locked(directory):
        print_json(work.ask(directory, rows, new_key=new_key))


@batch.command()
@directory_option
@access_options
def sign(directory: Path, access: KeyAccess) -> None:
    """Where the CA is: sign what `batch ask` has printed, and print the rows with their certificates.

    What was there under the names that are known there is replaced.

    \b
    Example:
      etcdpy pki batch sign --dir pki <asked.json >signed.json
    """
    rows = _rows()
    with Store.locked(directory, options.now()) as store:
        print_json(work.sign(store, rows, access))


@batch.command()
@directory_option
def accept(directory: Path) -> None:
    """On a node: put signed certificates into place, with the keys that they were signed for.

    A row: {"name": "m1", "certificate": "-----BEGIN..."}. Refused as with `accept`; what is there already stays.

    \b
    Example:
      etcdpy pki batch accept --dir /etc/etcd/pki <signed.json
    """
    rows = _rows()
    with files.locked(directory):
        written = work.accept(directory, rows, files.read_certificates(directory / "ca.pem"))
    print_json({"changed": bool(written), "written": written})


@batch.command()
def verify() -> None:
    """Print what keeps servers' certificates from their use: usage, names, dates, strength.

    A row: {"file": "/etc/etcd/pki/m1.pem", "certificate": "-----BEGIN...", "urls": ["https://10.0.0.1:2379"]}.

    \b
    Example:
      etcdpy pki batch verify <shown.json
    """
    print_json(work.faults(Verifier(options.now(), 0), _rows()))
