"""Where tests of requests begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import done_pki


@pytest.fixture
def authority_and_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory has an authority in `pki`, and a node that knows its certificate in `node`."""
    monkeypatch.chdir(tmp_path)
    done_pki("init", "--dir", "pki")
    Path("node").mkdir()
    Path("node/ca.pem").write_bytes(Path("pki/ca.pem").read_bytes())
