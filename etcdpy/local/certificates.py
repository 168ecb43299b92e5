"""The certificates of a local member, made with `etcdpy pki` as an operator would."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from cryptography import x509

from etcdpy.commandline import Exit, Failure
from etcdpy.local.place import CLIENT, HOST, MEMBER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.local.place import Place

RENEW_BEFORE: Final = datetime.timedelta(days=7)
_NAMES: Final = ("--ip", HOST, "--dns", "localhost", "--dns", MEMBER)


def _wanted() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name, and the words of `pki` that make it, in the order in which they must be made."""
    yield "ca", ("init", "--cn", "etcdpy local CA")
    yield MEMBER, ("issue", "--profile", "server", MEMBER, *_NAMES)
    yield f"{MEMBER}-peer", ("issue", "--profile", "peer", f"{MEMBER}-peer", "--cn", MEMBER, *_NAMES)
    yield CLIENT, ("issue", "--profile", "client", CLIENT)


def ensure_certificates(place: Place, now: datetime.datetime) -> list[str]:
    """Make what is missing or about to expire; returns the names made. Raises Failure.

    A new authority makes everything under it anew, because nothing else would be trusted.
    """
    made: list[str] = []
    for name, words in _wanted():
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
    command = [sys.executable, "-m", "pki", *words]
    done = subprocess.run(  # noqa: S603 - every word is ours
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failure(Exit.ERROR, f"cannot make certificates: {done.stderr.strip().removeprefix('Error: ')}")
