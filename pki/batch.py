"""Requests and certificates as JSON, many at a time: for playbooks, to which each run of a program costs more than what
it does."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pki import files, keys, requests
from pki.authority import Names
from pki.errors import PkiError
from pki.profiles import PROFILES, profile_named
from pki.renewal import Signers
from pki.verify import Fault, Use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from pki.store import KeyAccess, Store
    from pki.verify import Verifier

INPUT = "standard input"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way to the authority, which knows the certificate by another name where `known_as` differs."""

    name: str
    known_as: str
    profile: str
    request: str
    """In PEM."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What comes back of it."""

    name: str
    known_as: str
    certificate: str
    """In PEM, with what is between it and the root."""


def parse(text: str) -> list[object]:
    """The rows that came in. Raises PkiError."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise PkiError(f"{INPUT}: holds no list of JSON")
    return found


def _texts(row: object, *names: str) -> list[str]:
    """Fields of a row that are texts. Raises PkiError."""
    found = [row.get(name) for name in names] if isinstance(row, dict) else []
    texts = [each for each in found if isinstance(each, str)]
    if len(texts) < len(names):
        raise PkiError(f"{INPUT}: each row needs the texts {', '.join(names)}")
    return texts


def _list(row: object, name: str) -> tuple[str, ...]:
    """A field of a row that is a list of texts, empty where it is not there. Raises PkiError."""
    found = row.get(name, []) if isinstance(row, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise PkiError(f"{INPUT}: {name} is a list of texts")
    return tuple(found)


def ask(directory: Path, rows: Sequence[object], *, new_key: bool) -> list[Asked]:
    """On a node: a request for each row of name, known_as, profile, ip and dns, with keys that stay there. The caller
    holds the directory. Raises PkiError."""
    made = []
    for row in rows:
        name, known_as, profile = _texts(row, "name", "known_as", "profile")
        request = Names(_list(row, "ip"), _list(row, "dns")).request(PROFILES["client"], name)
        path, _ = requests.ask(directory, name, request, keys.KeyType.ECDSA_P256, new_key=new_key)
        made.append(Asked(name, known_as, profile, files.read(path).decode()))
    return made


def sign(store: Store, rows: Sequence[object], access: KeyAccess) -> list[Signed]:
    """Where the CA is: the certificates that are asked for. What was there under the names known there is replaced; the
    caller holds the directory. Raises PkiError."""
    signers, made = Signers(store, access), []
    for row in rows:
        name, known_as, profile, pem = _texts(row, "name", "known_as", "profile", "request")
        asked = requests.parse_csr(pem.encode(), f"{INPUT}: {known_as}")
        kind = profile_named(profile, store.profiles)
        request = requests.request_of(asked, kind, Names(), file=known_as)
        signer = signers.named(store.signer_name(None, profile, known_as))
        store.sign(known_as, request, signer, asked.public_key(), force=True)
        path, _ = files.pair_paths(store.directory, known_as)
        made.append(Signed(name, known_as, files.read(path).decode()))
    return made


def accept(directory: Path, rows: Sequence[object], trusted: Sequence[x509.Certificate]) -> list[Path]:
    """On a node: put signed certificates into place, each a row of name and certificate, and say what was written. The
    caller holds the directory. Raises PkiError."""
    written = []
    for row in rows:
        name, pem = _texts(row, "name", "certificate")
        origin = f"{INPUT}: {name}"
        certificates = files.parse_certificates(pem.encode(), origin)
        written += requests.accept(directory, name, certificates, trusted, origin=origin)
    return written


def faults(verifier: Verifier, rows: Sequence[object]) -> list[Fault]:
    """What keeps servers' certificates from their use: each a row of file, which faults name, certificate and urls.
    Raises PkiError."""
    found: list[Fault] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "certificate.pem"
        path.touch(0o600)
        for row in rows:
            file, pem = _texts(row, "file", "certificate")
            path.write_text(pem)
            use = Use(path, usages=("serverAuth",), urls=_list(row, "urls"))
            found += [replace(each, file=file) for each in verifier.faults([use])]
    return found
