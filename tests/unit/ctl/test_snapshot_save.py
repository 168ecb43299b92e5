"""`snapshot save` where the disk is at fault: what could not be done is named as etcdctl names it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from etcdpy.client.client import Client
from etcdpy.ctl.__main__ import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("number", "opening", "text"),
    [
        (errno.ENOSPC, False, "could not write snapshot: no space left on device"),
        (errno.EACCES, True, "could not open saved.db.part (open saved.db.part: permission denied)"),
    ],
)
def test_a_file_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, opening: bool, text: str
) -> None:
    def fail(_client: Client, path: Path, *_args: object, **_others: object) -> str:
        raise OSError(number, os.strerror(number), *([f"{path}.part"] if opening else []))

    monkeypatch.setattr(Client, "snapshot", fail)
    assert run(["snapshot", "save", "saved.db"]) == 5
    assert capsys.readouterr().err == f"Error: {text}\n"
