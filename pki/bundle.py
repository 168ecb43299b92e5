"""What a client needs in one file, to be brought to its host: a tar with a profile, or everything in one PEM file."""

from __future__ import annotations

import io
import shlex
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pki import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMS: Final = ("tar", "pem")
_HEADER: Final = (
    "# Made by `etcdpy pki export`; read by `etcdpyctl --profile`, shells and systemd's EnvironmentFile=.\n"
)


@dataclass(frozen=True, slots=True)
class Client:
    """A client's files, and whom it asks."""

    name: str
    certificate: Path
    key: Path
    ca: Path
    urls: Sequence[str]

    def profile(self, at: Path | None = None) -> bytes:
        """etcdctl's environment variables that name endpoints and files: where they lie, or in another directory."""
        paths = {"CACERT": self.ca, "CERT": self.certificate, "KEY": self.key}
        # Absolute, so that the profile means the same from everywhere.
        there = {name: str(at / self._names()[path] if at else path.absolute()) for name, path in paths.items()}
        variables = {"ENDPOINTS": ",".join(self.urls), **there}
        lines = [f"ETCDCTL_{variable}={shlex.quote(value)}\n" for variable, value in variables.items()]
        return (_HEADER + "".join(lines)).encode()

    def _names(self) -> Mapping[Path, str]:
        """Under which name each file stands in a bundle."""
        return {self.ca: "ca.pem", self.certificate: f"{self.name}.pem", self.key: f"{self.name}-key.pem"}

    def tar(self, at: Path, moment: float) -> bytes:
        """An archive with the three files and a profile for the directory that it is unpacked in. It holds the key."""
        target = io.BytesIO()
        contents = {name: files.read(path) for path, name in self._names().items()}
        contents[f"{self.name}.profile"] = self.profile(at)
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in contents.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), int(moment)
                entry.mode = files.KEY_MODE if name.endswith("-key.pem") else files.CERTIFICATE_MODE
                entry.uname = entry.gname = "root"
                archive.addfile(entry, io.BytesIO(content))
        return target.getvalue()

    def pem(self) -> bytes:
        """Certificate with its chain, key and CA, one after the other, for programs that want one file."""
        return b"".join(files.read(path).rstrip(b"\n") + b"\n" for path in (self.certificate, self.key, self.ca))
