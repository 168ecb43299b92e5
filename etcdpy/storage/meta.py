"""The records in the applied state that say what it is the state of."""

from __future__ import annotations

from typing import Final

from etcdpy.backend import META_BUCKET

APPLIED_KEY: Final = META_BUCKET + b"applied"
"""Index and term of the last applied entry, 8 bytes each."""
CONF_STATE_KEY: Final = META_BUCKET + b"conf_state"
"""raftpb.ConfState as of the applied index."""
IDENTITY_KEY: Final = META_BUCKET + b"identity"
"""The same random bytes as in the log: the two belong together."""
CHAIN_PREFIX: Final = META_BUCKET + b"batch/"
