"""One trip to the disk: what was applied since the last one, then what must be durable in the raft log.

The order within a job and its two rules:
  1. the applied batch, without a sync. Everything in it can be applied again from the log.
  2. (rarely) the applied state is synced, so that the log may be truncated later.
  3. the log batch, with one sync when it carries entries, a term or a vote.
A job runs on the disk thread or on the loop, and does not touch anything that others may touch meanwhile.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from etcdpy.storage.errors import StorageError
from etcdpy.storage.leveldb import Batch, LevelError, sync_write_ahead, translate

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.histogram import Histogram
    from etcdpy.storage.layers import Overlay


class DiskJob:
    """Made by Engine.take_job, run once. `error` is None when everything it carried is written (and synced)."""

    __slots__ = (
        "commit_durations",
        "data_bytes",
        "error",
        "log_batch",
        "log_path",
        "must_sync",
        "overlays",
        "state_batch",
        "state_path",
        "state_sync_seconds",
        "state_write_seconds",
        "sync_durations",
        "sync_seconds",
        "sync_state",
        "truncate_to",
    )

    def __init__(
        self, log_path: Path, state_path: Path, sync_durations: Histogram, commit_durations: Histogram
    ) -> None:
        self.log_path = log_path
        self.state_path = state_path
        self.sync_durations = sync_durations
        self.commit_durations = commit_durations
        self.log_batch: Batch | None = None
        self.state_batch: Batch | None = None
        self.overlays: list[Overlay] = []
        self.data_bytes = 0
        """Keys and values in both batches."""
        self.must_sync = False
        self.sync_state = False
        self.state_write_seconds = 0.0
        self.state_sync_seconds = 0.0
        self.truncate_to = 0
        """Once this job is done, the log may be truncated up to here; 0 for no change."""
        self.sync_seconds = 0.0
        self.error: StorageError | None = None

    def run(self) -> None:
        """Write. Never raises: see `error`."""
        path = self.state_path
        try:
            if self.state_batch is not None:
                begin = perf_counter()
                self.state_batch.write()
                written = perf_counter()
                self.state_write_seconds = written - begin
                if self.sync_state:
                    sync_write_ahead(path)
                    self.state_sync_seconds = perf_counter() - written
                self.commit_durations.observe(perf_counter() - begin)
            path = self.log_path
            if self.log_batch is not None:
                begin = perf_counter()
                self.log_batch.write()
                if self.must_sync:
                    self.sync_seconds = perf_counter() - begin
                    self.sync_durations.observe(self.sync_seconds)
        except LevelError as error:
            self.error = translate(path, error)
        except OSError as error:
            self.error = StorageError(f"{path}: {error.strerror or error}")
        # The batches hold copies of all that was written; the job itself may live on in the caller's hands.
        self.state_batch = self.log_batch = None
