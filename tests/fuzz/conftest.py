"""What the tests of hostile inputs share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the product logs about hostile inputs is no news, and formatting it for a report takes most of the time."""
    logger = logging.getLogger("etcdpy")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
