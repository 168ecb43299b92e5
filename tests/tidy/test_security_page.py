"""The threat model names tests; they must be there."""

from __future__ import annotations

import re

import pytest

from tests.tidy.sources import ROOT, report

PAGE = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def missing(text: str) -> list[str]:
    """Tests that the text names and that do not exist."""
    found = []
    for path, name in NAMED.findall(text):
        file = ROOT / path
        if not file.is_file():
            found.append(path)
        elif name and not re.search(rf"^\s*(?:(?:async )?def|class) {name}\b", file.read_text(), re.MULTILINE):
            found.append(f"{path}::{name}")
    return found


def test_every_test_that_is_named_exists() -> None:
    text = PAGE.read_text()
    assert len(NAMED.findall(text)) > 40
    assert not missing(text), report(missing(text))


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    without = [row for row in rows if not NAMED.search(row) and not row.startswith("| Attack")]
    attacks = [row for row in without if " % | " not in row]  # the rest are figures
    assert not attacks, report(attacks)


@pytest.mark.parametrize("text", ["`tests/unit/gone.py`", "`tests/tidy/test_security_page.py::test_gone`"])
def test_a_planted_name_is_found(text: str) -> None:
    assert missing(text)
