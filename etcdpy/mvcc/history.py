"""Read the changes of past revisions out of the backend, in order, for watchers that are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy.backend import REVISION_BUCKET, Backend
from etcdpy.mvcc.record import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.mvcc.watch_events import Change

_KEY_BYTES = len(REVISION_BUCKET) + 12
_MAIN_MAX = (1 << 63) - 1


class Revisions(Protocol):
    """What the reader needs of the store beside its records."""

    @property
    def current_revision(self) -> int:
        """The main revision of the last change, 1 when there was none."""
        ...

    @property
    def compact_revision(self) -> int:
        """Revisions below it may be gone; 0 or less when there was no compaction."""
        ...

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        """The record of `key` as of `main_revision`; None when it did not exist then."""
        ...


class BackendHistory:
    """History over the revision bucket. Costs one backend scan a read, however many watchers share it."""

    __slots__ = ("_backend", "_revisions")

    def __init__(self, backend: Backend, revisions: Revisions) -> None:
        self._backend = backend
        self._revisions = revisions

    @property
    def current_revision(self) -> int:
        """The main revision of the last change."""
        return self._revisions.current_revision

    @property
    def compact_revision(self) -> int:
        """Revisions below it may be gone."""
        return self._revisions.compact_revision

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        """The record of `key` as of `main_revision`, None when it did not exist then or is compacted."""
        if main_revision < self._revisions.compact_revision:
            return None
        return self._revisions.record_at(key, main_revision)

    def changes_between(self, first_main: int, last_main: int) -> Iterator[Change]:
        """Changes with first_main <= main revision <= last_main in order of revision.

        Complete from the compaction revision on. The iterator must be exhausted or closed.
        """
        assert first_main >= 0
        start = REVISION_BUCKET + first_main.to_bytes(8, "big")
        end = REVISION_BUCKET + min(last_main + 1, _MAIN_MAX).to_bytes(8, "big")
        for revision_key, record in self._backend.scan(start, end):
            packed = int.from_bytes(revision_key[1:_KEY_BYTES], "big")
            # 8 bytes main and 4 bytes sub, read as one number, are main << 32 | sub: the packed form itself.
            if record:  # an empty one marks a revision that `etcdutl snapshot restore` made up; nobody watches it
                yield packed, key_of(record), len(revision_key) > _KEY_BYTES, record
