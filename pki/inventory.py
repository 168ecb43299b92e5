"""What an authority has issued: `inventory.json` in its directory, one entry a certificate, none ever taken out.

It also knows which authority signs which profile, and the number of the last revocation list of each. An entry is
written before its certificate, so that a crash leaves an entry too many and never a certificate that nobody knows of.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import hashes

from pki.errors import PkiError
from pki.profiles import BACKDATED
from pki.reading import key_digest, names_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cryptography import x509

FILE_NAME: Final = "inventory.json"
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Room for more than 100,000 certificates; a file beyond that is damaged, or another's."""

_VERSION: Final = 1
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


def stamp(moment: datetime.datetime) -> str:
    """A moment as all files and tables here write it, in UTC and to the second."""
    return moment.astimezone(datetime.UTC).strftime(_FORM)


def moment_of(text: str) -> datetime.datetime:
    """The moment that `stamp` wrote. Raises ValueError."""
    return datetime.datetime.strptime(text, _FORM).replace(tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate. Moments are texts of `stamp`; an empty one means that it has not come to that."""

    serial: str
    """Hexadecimal, as OpenSSL prints it, in lower case."""
    name: str
    """Of its file, without `.pem`."""
    profile: str
    ca: str
    """The name of the authority that signed it; its own for a root."""
    subject: str
    names: tuple[str, ...]
    sha256: str
    issuer_key: str
    """`key_digest` of the authority: it tells an authority from one made anew under its name."""
    not_before: str
    not_after: str
    days: int
    """What was asked for. A certificate cut short by the end of its authority gets these days from the next one."""
    replaced_at: str = ""
    revoked_at: str = ""
    reason: str = ""

    @classmethod
    def of(
        cls, certificate: x509.Certificate, name: str, profile: str, ca: str, signer: x509.Certificate, days: int
    ) -> Entry:
        """The entry of a fresh certificate."""
        return cls(
            serial=f"{certificate.serial_number:x}",
            name=name,
            profile=profile,
            ca=ca,
            subject=certificate.subject.rfc4514_string(),
            names=names_in_words(certificate),
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            issuer_key=key_digest(signer),
            not_before=stamp(certificate.not_valid_before_utc),
            not_after=stamp(certificate.not_valid_after_utc),
            days=days,
        )

    def check(self) -> None:
        """Raise ValueError for what this program cannot have written."""
        for part in dataclasses.fields(self):
            value, optional = getattr(self, part.name), part.default == ""
            if part.name.startswith("not_") or (part.name.endswith("_at") and value):
                moment_of(value)
            elif part.name == "names":
                if not all(isinstance(each, str) for each in value):
                    raise ValueError("names")
            elif part.name == "days":
                if type(value) is not int:
                    raise ValueError("days")
            elif not isinstance(value, str) or not (value or optional or part.name == "subject"):
                raise ValueError(part.name)
        int(self.serial, 16)

    def expired(self, now: datetime.datetime) -> bool:
        """Whether its time is over."""
        return moment_of(self.not_after) <= now

    def state(self, now: datetime.datetime) -> str:
        """`revoked`, `expired`, `replaced` (a newer one has its name; it is still valid by itself) or `valid`."""
        if self.revoked_at:
            return "revoked"
        if self.expired(now):
            return "expired"
        return "replaced" if self.replaced_at else "valid"


STATES: Final = ("valid", "replaced", "revoked", "expired")


@dataclass(slots=True)
class Inventory:
    """The entries in the order of their issue, and what else an authority must remember."""

    entries: list[Entry] = field(default_factory=list)
    signers: dict[str, str] = field(default_factory=dict)
    """Which authority signs a profile, where that is not `ca`. `*` stands for all other profiles."""
    crl_numbers: dict[str, int] = field(default_factory=dict)

    def add(self, entry: Entry, now: datetime.datetime) -> None:
        """Note a certificate; the one that had its name until now counts as replaced."""
        self._change(
            lambda old: old.name == entry.name and not old.replaced_at,
            lambda old: dataclasses.replace(old, replaced_at=stamp(now)),
        )
        self.entries.append(entry)

    def current(self, name: str) -> Entry | None:
        """The certificate that has this name now."""
        return next((each for each in reversed(self.entries) if each.name == name and not each.replaced_at), None)

    def revoke(self, chosen: Iterable[Entry], now: datetime.datetime, reason: str) -> None:
        """Note that these are revoked."""
        serials = {each.serial for each in chosen}
        self._change(
            lambda old: old.serial in serials,
            lambda old: dataclasses.replace(old, revoked_at=stamp(now), reason=reason),
        )

    def _change(self, wanted: Callable[[Entry], bool], changed: Callable[[Entry], Entry]) -> None:
        self.entries = [changed(each) if wanted(each) else each for each in self.entries]

    def signer_of(self, profile: str) -> str:
        """The name of the authority that signs this profile."""
        return self.signers.get(profile) or self.signers.get("*") or "ca"

    def next_crl_number(self, ca: str) -> int:
        """One more than the last one of this authority."""
        self.crl_numbers[ca] = self.crl_numbers.get(ca, 0) + 1
        return self.crl_numbers[ca]

    def to_json(self) -> bytes:
        """The file's content."""
        content = {
            "version": _VERSION,
            "signers": self.signers,
            "crl_numbers": self.crl_numbers,
            "issued": [dataclasses.asdict(each) for each in self.entries],
        }
        return json.dumps(content, indent=1).encode() + b"\n"


def parse_inventory(content: bytes, path: Path) -> Inventory:
    """Raises PkiError for what is damaged, and for a file of a later version of this program."""
    damaged = PkiError(f"{path}: damaged; put back a copy of it, for it says what was issued and revoked")
    try:
        found = json.loads(content)
        version = found["version"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise damaged from None
    if version != _VERSION:
        raise PkiError(f"{path}: written by another version of etcdpy (form {version}, known is {_VERSION})")
    try:
        entries = [_entry(each) for each in found["issued"]]
        signers, numbers = dict(found["signers"]), dict(found["crl_numbers"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    if not all(isinstance(each, str) for each in signers.values()):
        raise damaged
    if not all(type(each) is int for each in numbers.values()):
        raise damaged
    return Inventory(entries, signers, numbers)


def _entry(table: dict[str, Any]) -> Entry:
    if not isinstance(table["names"], list):
        raise TypeError("names")
    entry = Entry(**{**table, "names": tuple(table["names"])})
    entry.check()
    return entry


def days_asked_for(certificate: x509.Certificate) -> int:
    """How many days a certificate that is not in an inventory was made for, at least one."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc - BACKDATED
    return max(1, round(lifetime / datetime.timedelta(days=1)))
