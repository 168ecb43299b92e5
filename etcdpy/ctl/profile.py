"""A profile: a file of etcdctl's environment variables, which `etcdpy pki export` writes.

It stands behind the command line and the environment: what they give counts, and the profile fills in the rest. Lines
are `ETCDCTL_FLAG=value`, quoted as in a shell; `#` begins a comment.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etcdpy.commandline import Exit, Failure
from etcdpy.limits import PROFILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECRETS: Final = ("ETCDCTL_PASSWORD", "ETCDCTL_AUTH_JWT_TOKEN")
_OTHERS: Final = 0o077


def read_profile(name: str) -> Iterator[tuple[str, str, str]]:
    """Place, variable and value of each line. Raises Failure."""
    path = Path(name)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(PROFILE_BYTES_MAX + 1)
    except OSError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"open {path}: {(error.strerror or str(error)).lower()}") from None
    if len(raw) > PROFILE_BYTES_MAX:
        raise Failure(Exit.BAD_ARGUMENTS, f"{path}: a profile has {PROFILE_BYTES_MAX} bytes at the most")
    for number, line in enumerate(raw.decode(errors="surrogateescape").splitlines(), 1):
        place = f"{path}:{number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise Failure(Exit.BAD_ARGUMENTS, f"{place}: {str(error).lower()}") from None
        if not words:
            continue
        variable, equals, value = words[0].partition("=")
        if len(words) > 1 or not equals:
            raise Failure(Exit.BAD_ARGUMENTS, f"{place}: expected ETCDCTL_FLAG=value")
        if variable in _SECRETS and mode & _OTHERS:
            raise Failure(Exit.BAD_ARGUMENTS, f"{place}: others may read the secret in it; chmod 600 {path}")
        yield place, variable, value
