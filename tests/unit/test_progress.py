from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from etcdpy import progress
from etcdpy.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    import pytest


def steps() -> Generator[int, None, str]:
    yield from (1_000_000, 2_000_000, 3_000_000)
    return "all"


def test_what_is_quick_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert Progress("reading", 3_000_000).run(steps()) == "all"
    assert capsys.readouterr().err == ""


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0)
    assert Progress("reading", 3_000_000).run(steps()) == "all"
    assert capsys.readouterr().err.splitlines()[-1] == "reading: 3.0 MB of 3.0 MB"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    bar = Progress("saving", 0)
    bar.show_of(1_000_000, 4_000_000)
    bar.end()
    shown = capsys.readouterr().err
    assert "saving" in shown
    assert "of 4.0 MB" not in shown, "no lines as well"
