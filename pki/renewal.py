"""Renewal: what is due by its window gets a new certificate for the same names; all else stays as it is."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes

from pki import files
from pki.authority import Request
from pki.errors import PkiError
from pki.inventory import moment_of, stamp
from pki.profiles import profile_named
from pki.reading import is_ca, is_self_signed, key_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pki.inventory import Entry
    from pki.store import KeyAccess, Made, Signer, Store

WINDOW_PART: Final = 3
"""Without a window of its own a certificate is due when less than a third of its life is left."""
GAIN_MIN: Final = datetime.timedelta(days=1)
"""What a renewal must gain: one that ends with its authority gains nothing, and would be made again at every run."""


@dataclass(slots=True)
class Renewal:
    """What a run did: certificates made (in a dry run those that are due), and what the operator should know."""

    made: list[Made] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Signers:
    """Authorities by name, each opened when the first certificate needs it."""

    def __init__(self, store: Store, access: KeyAccess) -> None:
        self._store = store
        self._access = access
        self._open: dict[str, Signer] = {}

    def named(self, name: str) -> Signer:
        """The authority of that name, ready to sign. Raises PkiError."""
        if name not in self._open:
            self._open[name] = self._store.signer(name, self._access)
        return self._open[name]


def renew(
    store: Store,
    names: Sequence[str],
    access: KeyAccess,
    *,
    within_days: int | None = None,
    keep_key: bool = False,
    dry_run: bool = False,
) -> Renewal:
    """Renew those of `names` (none: of all but authorities) that are due. Raises PkiError for a name that has none.

    A window of 0 days or more takes the place of a third of the life. Due is also what another key signs now than did
    then, and what carries an older intermediate along.
    """
    result, signers = Renewal(), Signers(store, access)
    for entry in _chosen(store, names):
        why = why_due(store, entry, within_days)
        if not why:
            continue
        if is_ca(store.certificates(entry.name)[0]) and not names:
            result.notes.append(f"{entry.name}: {why}; an authority is renewed by its name alone")
            continue
        if _gains_nothing(store, entry):
            result.notes.append(f"{entry.name}: ends with its CA; `rotate` makes a new one")
            continue
        result.due.append(entry.name)
        if not dry_run:
            result.made.append(reissue(store, entry, signers.named(entry.ca), keep_key=keep_key))
    return result


def _chosen(store: Store, names: Sequence[str]) -> list[Entry]:
    if not names:
        current = [each for each in store.inventory.entries if not each.replaced_at and not each.revoked_at]
        return [each for each in current if each.ca != each.name and store.has(each.name)]
    found = []
    for name in dict.fromkeys(names):
        entry = store.inventory.current(name)
        if entry is None or not store.has(name):
            raise PkiError(f'{store.directory}: there is no certificate "{name}" to renew')
        if entry.revoked_at:
            raise PkiError(f"{name}: revoked at {entry.revoked_at}; if it shall live on, issue it anew with --force")
        if entry.ca == name:
            raise PkiError(f"{name}: a root is not renewed but replaced, with `rotate`")
        found.append(entry)
    return found


def why_ending(
    begin: datetime.datetime, end: datetime.datetime, now: datetime.datetime, within_days: int | None
) -> str:
    """Why a time of validity is due to be followed by another; empty while it is not."""
    window = (end - begin) / WINDOW_PART if within_days is None else datetime.timedelta(days=within_days)
    if end <= now:
        return "expired"
    return f"expires at {stamp(end)}" if end - now <= window else ""


def why_due(store: Store, entry: Entry, within_days: int | None) -> str:
    """Why it must be made anew; empty while it may stay. Raises PkiError if its authority's certificate is gone."""
    begin, end = moment_of(entry.not_before), moment_of(entry.not_after)
    if why := why_ending(begin, end, store.now, within_days):
        return why
    own = store.certificates(entry.name)
    if own[0].fingerprint(hashes.SHA256()).hex() != entry.sha256:
        return "its file is not the one that was issued last"  # a run was cut off between the two
    above = store.certificates(entry.ca)
    if key_digest(above[0]) != entry.issuer_key:
        return "its CA was made anew"
    carried = [each for each in above if not is_self_signed(each)]
    if own[1:] != carried:
        return "an authority above it was made anew"
    return ""


def _gains_nothing(store: Store, entry: Entry) -> bool:
    """Whether a new one would end no later, because its authority ends."""
    above = store.certificates(entry.ca)[0]
    gain = above.not_valid_after_utc - moment_of(entry.not_after)
    return key_digest(above) == entry.issuer_key and gain < GAIN_MIN and moment_of(entry.not_after) > store.now


def reissue(store: Store, entry: Entry, signer: Signer, *, keep_key: bool = False) -> Made:
    """A new certificate for the names of an old one. Raises PkiError.

    Its key is new where it lies here. It stays the same where it was made elsewhere, for an authority, whose
    certificates would lose their issuer otherwise, and where the operator says so.
    """
    certificate = store.certificates(entry.name)[0]
    request = Request.again(certificate, profile_named(entry.profile, store.profiles), entry.days)
    if keep_key or is_ca(certificate) or not files.pair_paths(store.directory, entry.name)[1].exists():
        made, _ = store.sign(entry.name, request, signer, certificate.public_key(), days=entry.days, force=True)
        return made
    issued = signer.authority.issue(request, store.now)
    return store.put(entry.name, request.profile, signer, issued.certificate, issued.key, days=entry.days, force=True)
