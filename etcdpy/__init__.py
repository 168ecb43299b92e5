"""etcd, implemented anew in Python. See docs/design/ for how it is built."""

from __future__ import annotations

import sys
from typing import Final

if not __debug__:  # pragma: no cover - cannot be reached under pytest
    # Assertions guard what only a bug can cause; without them damage would be carried on instead of stopped.
    sys.exit("etcdpy: refuses to run under `python -O`: its assertions are part of its safety. Start it without -O.")

VERSION: Final = "3.7.3"
"""The etcd release whose protocols are spoken, as clients and operators see it."""

API_VERSION: Final = "3.7"
