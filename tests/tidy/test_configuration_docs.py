"""docs/configuration.md says what the flag table says."""

from __future__ import annotations

from etcdpy.server.config_docs import render
from tests.tidy.sources import ROOT


def test_the_page_is_fresh() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == render(), "run: python -m etcdpy.server.config_docs > docs/configuration.md"
