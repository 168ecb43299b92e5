"""The certificates of local members, made by the commands of `etcdpy pki` that an operator would type."""

from __future__ import annotations

import contextlib
import datetime
import io
from typing import TYPE_CHECKING, Final

import click
from cryptography import x509

from etcdpy.commandline import Exit, Failure
from etcdpy.local.place import CLIENT, HOST
from pki.cli import pki

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.local.place import Place

RENEW_BEFORE: Final = datetime.timedelta(days=7)


def _wanted(place: Place) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name, and the words of `pki` that make it, in the order in which they must be made."""
    yield "ca", ("init", "--cn", "etcdpy local CA")
    for member in place.members:
        addresses = ("--ip", HOST, "--dns", "localhost", "--dns", member.name)
        yield member.name, ("issue", "--profile", "server", member.name, *addresses)
        peer = f"{member.name}-peer"
        yield peer, ("issue", "--profile", "peer", peer, "--cn", member.name, *addresses)
    yield CLIENT, ("issue", "--profile", "client", CLIENT)


def ensure_certificates(place: Place, now: datetime.datetime) -> list[str]:
    """Make what is missing or about to expire; returns the names made. Raises Failure.

    A new authority makes everything under it anew, because nothing else would be trusted.
    """
    made: list[str] = []
    for name, words in _wanted(place):
        if "ca" in made or not _is_usable(*place.pem(name), now):
            _pki(*words, "--dir", str(place.pki), "--force")
            made.append(name)
    return made


def _is_usable(certificate: Path, key: Path, now: datetime.datetime) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return False
    return key.exists() and found.not_valid_after_utc - RENEW_BEFORE > now


def _pki(*words: str) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            pki.main(words, prog_name="etcdpy pki", standalone_mode=False)
    except click.ClickException as error:
        raise Failure(Exit.ERROR, f"cannot make certificates: {error.format_message()}") from None
