"""What the member does by itself: catch watchers up, expire leases, compact, defragment, hash.

Each duty is a coroutine that runs as a task of the server and works in slices.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.errors import Compacted, EtcdError
from etcdpy.histogram import COMPACTION_PAUSE_MS, COMPACTION_TOTAL_MS, DEFRAG_SECONDS, HASH_SECONDS, Histogram
from etcdpy.mvcc.compaction import WAITS
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from etcdpy.api.proposals import Proposer
    from etcdpy.lease.lessor import Lessor
    from etcdpy.mvcc.hashing import HashKv
    from etcdpy.mvcc.store import Store
    from etcdpy.mvcc.watch import WatchHub
    from etcdpy.server.auto_compaction import AutoCompactor
    from etcdpy.server.slices import SliceRunner
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.errors import StorageError

log = logs.get("mvcc")


class WatchDriver:
    """Serves watchers that are behind whenever there are any."""

    def __init__(self, hub: WatchHub, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._clock = clock
        self._work = asyncio.Event()

    def wake(self) -> None:
        """Somebody may be behind."""
        self._work.set()

    async def run(self) -> None:
        """For ever: a slice of history a turn while anybody is behind; progress notices when they are due."""
        hub = self._hub
        while True:
            if hub.has_work:
                hub.sync_slice()
                await asyncio.sleep(0)
                continue
            due = hub.progress_tick(self._clock())
            wait = 60.0 if due is None else max(due - self._clock(), 0.0)
            if hub.blocked_streams:
                wait = min(wait, limits.WATCH_BLOCKED_POLL_SECONDS)
            self._work.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._work.wait()
            except TimeoutError:
                if hub.blocked_streams:
                    hub.sync_slice()


class LeaseKeeper:
    """Revokes what has expired and checkpoints what lives long, on the leader.

    A leader that stood still may have a successor without knowing. All its leases look expired, and what it proposes
    would reach the successor, who has renewed them. So it makes sure by a quorum first (etcd issue 15247), and what it
    proposes counts in its own term alone (`Node.propose_as_leader`).
    """

    def __init__(
        self,
        lessor: Lessor,
        run_as_leader: Callable[[str, Message], Awaitable[object]],
        clock: Callable[[], float],
        wait_linearizable: Callable[[], Awaitable[None]],
    ) -> None:
        self._lessor = lessor
        self._wait_linearizable = wait_linearizable
        self._run_as_leader = run_as_leader
        self._clock = clock
        self._slots = asyncio.Semaphore(limits.LEASE_REVOKES_IN_FLIGHT_MAX)

    async def run(self) -> None:
        """For ever, every half second."""
        per_look = int(limits.LEASE_REVOKES_PER_SECOND_MAX * limits.LEASE_EXPIRY_TICK_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            while True:
                expired = self._lessor.expired(self._clock(), per_look)
                due = self._lessor.checkpoints_due(self._clock())
                if (expired or due) and await self._leads():
                    for lease in expired:
                        await self._slots.acquire()
                        tasks.create_task(self._revoke(lease))
                    if due:
                        tasks.create_task(self._checkpoint(due))
                await asyncio.sleep(limits.LEASE_EXPIRY_TICK_SECONDS)

    async def _leads(self) -> bool:
        """Whether this member still leads. If not, or nobody confirms it, whoever leads keeps the leases."""
        try:
            await self._wait_linearizable()
        except EtcdError as error:
            log.warn("ignored expired leases: nobody confirms that this member leads", error=error.message)
            return False
        return self._lessor.is_primary

    async def _revoke(self, lease: int) -> None:
        try:
            if not self._lessor.has_expired(lease, self._clock()):
                return  # while others were revoked the lead went elsewhere, and perhaps came back
            await self._run_as_leader("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=lease))
            log.debug("revoked expired lease", **{"lease-id": f"{lease:016x}"})
        except EtcdError as error:
            # It is reported again after a while, or somebody else has revoked it.
            log.warn("failed to revoke lease", **{"lease-id": f"{lease:016x}", "error": error.message})
        finally:
            self._slots.release()

    async def _checkpoint(self, due: list[tuple[int, int]]) -> None:
        checkpoints = [rpc_pb2.LeaseCheckpoint(ID=lease, remaining_TTL=ttl) for lease, ttl in due]
        try:
            await self._run_as_leader("lease_checkpoint", rpc_pb2.LeaseCheckpointRequest(checkpoints=checkpoints))
        except EtcdError as error:
            log.warn("failed to checkpoint leases", error=error.message)


class StoreUpkeep:
    """Compaction, defragmentation and hashes; implements the api room's `Upkeep` and `Compactions`."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        proposer: Proposer,
        slices: SliceRunner,
        *,
        batch_limit: int,
        pause_seconds: float,
        write_early: Callable[[], None],
    ) -> None:
        """`write_early` is told after each slice that changed the applied state: see Node.write_early."""
        self._store = store
        self._engine = engine
        self._proposer = proposer
        self._slices = slices
        self._batch_limit = batch_limit
        self._pause_seconds = pause_seconds
        self._write_early = write_early
        self.total_milliseconds = Histogram(COMPACTION_TOTAL_MS)
        self.pause_milliseconds = Histogram(COMPACTION_PAUSE_MS)
        self.defrag_seconds = Histogram(DEFRAG_SECONDS)
        self.hash_seconds = Histogram(HASH_SECONDS)
        self.hash_kv_seconds = Histogram(HASH_SECONDS)
        self._work = asyncio.Event()
        self._waiting: list[Callable[[], None]] = []
        self._defragmenting: asyncio.Future[None] | None = None
        self.compacted_records = 0
        self.last_compaction = 0.0
        """Wall clock seconds of the last finished compaction, 0 when there was none."""
        self.defragmenting = False
        self.on_defragmenting: Callable[[bool], None] = lambda _running: None
        """Told of the start and the end of a defragmentation."""

    # --- compaction ---

    def compaction_scheduled(self) -> None:
        """A compaction was applied: there is work."""
        self._work.set()

    def when_compacted(self, done: Callable[[], None]) -> None:
        """Call `done` when no scheduled compaction is left to do."""
        if not self._store.compactions.pending:
            done()
            return
        self._waiting.append(done)
        self._work.set()

    async def compact_forever(self) -> None:
        """Work off scheduled compactions, a batch at a time."""
        while True:
            if not self._store.compactions.pending:
                waiting, self._waiting = self._waiting, []
                for done in waiting:
                    done()
                self._work.clear()
                await self._work.wait()
                continue
            await self._compact()

    async def _compact(self) -> None:
        began, removed = time.monotonic(), 0
        store = self._store
        revision = store.compact_revision
        steps = store.compaction_steps(self._batch_limit)
        replaced = store.times_replaced
        try:
            while store.times_replaced == replaced:
                slice_began = time.monotonic()
                try:
                    gone = next(steps)
                except StopIteration:
                    break
                if gone == WAITS:
                    await asyncio.sleep(limits.COMPACTION_PIN_WAIT_SECONDS)
                    continue
                removed += gone
                self.compacted_records += gone
                self._write_early()
                self.pause_milliseconds.observe((time.monotonic() - slice_began) * 1000)
                await asyncio.sleep(self._pause_seconds if gone else 0)
            else:
                return  # what it worked on is gone; what is pending in its place comes next
        finally:
            steps.close()
        took = time.monotonic() - began
        self.total_milliseconds.observe(took * 1000)
        self.last_compaction = time.time()
        log.info(
            "finished scheduled compaction",
            **{
                "compact-revision": revision,
                "took": took,
                "current-db-size-bytes": store.size_total,
                "current-db-size-in-use-bytes": store.bytes_in_use,
                "removed-revisions": removed,
            },
        )

    async def auto_compact(
        self, compactor: AutoCompactor, clock: Callable[[], float], is_leader: Callable[[], bool]
    ) -> None:
        """Compact by itself, as `compactor` says, while this member leads."""
        log.info(f"enabled auto {compactor.mode} compaction", interval=compactor.interval_seconds)
        while True:
            await asyncio.sleep(compactor.interval_seconds)
            revision = compactor.due(clock(), self._store.current_revision)
            if not revision or not is_leader():
                continue
            log.info(f"starting auto {compactor.mode} compaction", revision=revision)
            began = clock()
            try:
                await self._proposer.run("compaction", rpc_pb2.CompactionRequest(revision=revision))
            except Compacted:
                pass
            except EtcdError as error:
                log.warn(f"failed auto {compactor.mode} compaction", revision=revision, error=error.message)
                continue
            compactor.done(clock(), revision)
            log.info(f"completed auto {compactor.mode} compaction", revision=revision, took=clock() - began)

    # --- Upkeep ---

    async def defragment(self) -> None:
        """Give disk space back, beside normal work. Callers that come while one runs wait for its end."""
        if self._defragmenting is None:
            loop = asyncio.get_running_loop()
            self._defragmenting = loop.create_future()
            self.defragmenting = True
            began = time.monotonic()
            log.info("starting defragment")
            self.on_defragmenting(True)

            def done(error: StorageError | None) -> None:
                finished, self._defragmenting = self._defragmenting, None
                self.defragmenting = False
                self.on_defragmenting(False)
                took = time.monotonic() - began
                self.defrag_seconds.observe(took)
                if error is None:
                    self._store.defragment()
                    log.info("finished defragment", took=took)
                else:
                    log.warn("failed to defragment", error=str(error))
                assert finished is not None
                if not finished.cancelled():
                    finished.set_result(None)

            self._engine.defragment(loop, done)
        await asyncio.shield(self._defragmenting)

    async def hash(self) -> tuple[int, int]:
        """See Upkeep."""
        revision, began = self._store.current_revision, time.monotonic()
        checksum: int = await self._slices.wait(self._store.hash_steps())
        self.hash_seconds.observe(time.monotonic() - began)
        return checksum, revision

    async def hash_kv(self, revision: int) -> tuple[int, int, int, int]:
        """See Upkeep."""
        current, began = self._store.current_revision, time.monotonic()
        found: HashKv = await self._slices.wait(self._store.hash_kv_steps(revision))
        self.hash_kv_seconds.observe(time.monotonic() - began)
        return found.hash, found.compact_revision, found.revision, current
