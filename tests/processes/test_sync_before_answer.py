"""A put is answered only after it was synced: the bench's check, and that the check can fail."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from bench.sync_check import check

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def test_etcdpy_syncs_before_it_answers(tmp_path: Path) -> None:
    result = check("etcdpy", "etcdpy", tmp_path)
    assert result.held, result


@pytest.mark.reference
def test_a_server_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    result = check("etcd", "etcd", tmp_path, flags=("--unsafe-no-fsync",))
    assert result.counted_by == "strace", "strace may not trace here, so the check shows nothing"
    assert not result.held, result
