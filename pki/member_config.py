"""What a member's configuration asks of its certificates: etcd's YAML file, or a file of ETCD_ variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import yaml

from pki import files
from pki.errors import PkiError
from pki.verify import Fault, Use

if TYPE_CHECKING:
    from pathlib import Path

_SECTIONS: Final = {"client-transport-security": "", "peer-transport-security": "peer-"}
_URL_FLAGS: Final = (
    ("", ("listen-client-urls", "advertise-client-urls")),
    ("peer-", ("listen-peer-urls", "initial-advertise-peer-urls")),
)
_VARIABLE: Final = re.compile(r"""^\s*(?:export\s+)?ETCD_([A-Z_]+)=(?:"([^"]*)"|'([^']*)'|(\S*))\s*$""")


def read_settings(path: Path) -> dict[str, str]:
    """Flags (without dashes) and their values. Raises PkiError for a file that is neither of the two kinds."""
    text = files.read(path).decode("utf-8", "replace")
    variables = [found for line in text.splitlines() if (found := _VARIABLE.match(line))]
    if variables:
        return {each[1].lower().replace("_", "-"): each[2] or each[3] or each[4] or "" for each in variables}
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError:
        table = None
    if not isinstance(table, dict):
        raise PkiError(f"{path}: neither a configuration file of etcd (YAML) nor one of ETCD_ variables")
    settings: dict[str, str] = {}
    for key, value in table.items():
        section = _SECTIONS.get(str(key))
        if section is not None and isinstance(value, dict):
            # In these sections the client certificates are named without the prefix that their flags have.
            settings.update({f"{section}{name}": _text(each) for name, each in value.items()})
        else:
            settings[str(key)] = _text(value)
    return settings


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def uses_of_member(settings: dict[str, str], directory: Path, ca: Path | None = None) -> tuple[list[Use], list[Fault]]:
    """The uses of a member's certificates, and https URLs that none is there for.

    Relative paths count from `directory`. `ca` is what clients trust, where that is not `--trusted-ca-file`.
    """
    uses: list[Use] = []
    faults: list[Fault] = []

    def path(flag: str) -> Path | None:
        return directory / settings[flag] if settings.get(flag) else None

    for prefix, flags in _URL_FLAGS:
        urls = [url for flag in flags for url in settings.get(flag, "").split(",") if url.startswith("https://")]
        trusted = path(f"{prefix}trusted-ca-file")
        crl = path("peer-crl-file" if prefix else "client-crl-file")
        certificate, key = path(f"{prefix}cert-file"), path(f"{prefix}key-file")
        dialing, dialing_key = path(f"{prefix}client-cert-file"), path(f"{prefix}client-key-file")
        usages = ("serverAuth", "clientAuth") if prefix and dialing is None else ("serverAuth",)
        if certificate is not None:
            own_ca = trusted if prefix else ca or trusted
            uses.append(Use(certificate, key, own_ca, crl, usages, tuple(dict.fromkeys(urls))))
        elif urls and settings.get(f"{prefix}auto-tls") != "true":
            mend = f"set {prefix}cert-file and {prefix}key-file"
            faults.append(Fault(f"{prefix}cert-file", urls[0], "an https URL and no certificate for it", mend))
        if certificate is not None and key is None:
            faults.append(Fault(f"{prefix}key-file", "", "a certificate and no key for it", f"set {prefix}key-file"))
        if dialing is not None:
            uses.append(Use(dialing, dialing_key, trusted, crl, ("clientAuth",)))
    return uses, faults
