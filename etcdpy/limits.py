"""Every bound on what a peer, a client or a file controls: one place, the unit in the name, the reason beside it.

What an operator may change is a flag, and only its default stands here.
"""

from __future__ import annotations

from typing import Final

# --- requests (etcd's defaults; flags of the same name) ---

MAX_REQUEST_BYTES_DEFAULT: Final = 1_572_864
"""--max-request-bytes: the largest proposal. etcd's 1.5 MiB; a proposal is held several times over on its way."""

GRPC_OVERHEAD_BYTES: Final = 512 * 1024
"""What a gRPC message may be larger than --max-request-bytes, as on etcd."""

MAX_TXN_OPS_DEFAULT: Final = 128
"""--max-txn-ops: the longest of a transaction's three lists. etcd's default."""

MAX_APPLY_LAG_ENTRIES: Final = 5000
"""Committed entries that may wait to be applied before new ones are refused with `too many requests`, as on etcd."""
