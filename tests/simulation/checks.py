"""What must hold whatever happens, judged by what members show to the outside: disks, messages, applied entries.

Raft paper figure 3 names the first five. None of them asks the code under test whether it is right.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from etcdpy.proto import raft_pb2
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from etcdpy.raft.entry import Entry
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import ConfState
    from tests.support.memory_engine import Disk, Job

_PROMISE_NO_TERM = frozenset(
    (raft_pb2.MsgPreVote, raft_pb2.MsgPreVoteResp, raft_pb2.MsgProp, raft_pb2.MsgReadIndex, raft_pb2.MsgReadIndexResp)
)


class Change(NamedTuple):
    """One write in the history of the store, as etcd's watchers see it."""

    packed: int
    key: bytes
    deleted: bool
    record: bytes


class Checks:
    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """Term -> who led it."""
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}
        """(index, term) -> (term of the entry before, checksum): what any log ever held there."""
        self.committed: dict[int, tuple[int, int]] = {}
        """Index -> (term, checksum) of what was applied somewhere."""
        self.last_committed = 0
        self.committed_in = 0
        """No later term than this one committed the last of them."""
        self.earlier: dict[ConfState, list[ConfState]] = {}
        """Configuration -> those from which members went over to it."""
        self.requests: dict[bytes, int] = {}
        """Payload of an entry -> where it was committed."""
        self.digests: dict[int, tuple[int, int]] = {}
        """Applied index -> (revision, digest of the state), from whoever was first."""
        self.history: dict[int, Change] = {}
        """Packed revision -> what was written then."""
        self.disks: dict[int, Disk] = {}
        self.terms: dict[int, int] = {}

    # --- election safety, leader completeness ---

    def leads(self, member: int, term: int) -> None:
        """A member says that it leads."""
        known = self.leaders.setdefault(term, member)
        if known != member:
            raise Violation(f"two leaders in term {term}: {known} and {member}")

    def log_holds_committed(self, member: int, term: int, term_at: Callable[[int], int | None]) -> None:
        """A new leader's log must hold all that was committed in earlier terms. By log matching the last entry tells.

        It need not hold what was committed in a later term, when the news of its election comes late.
        """
        last = self.last_committed
        if (
            term > self.committed_in
            and last
            and (found := term_at(last)) is not None
            and found != self.committed[last][0]
        ):
            raise Violation(
                f"leader {member} lacks committed entry {last}: term {found}, not {self.committed[last][0]}"
            )

    # --- log matching ---

    def written(self, member: int, job: Job) -> None:
        """A member's disk took a job."""
        batch, disk = job.log_batch, self.disks[member]
        if batch is None or disk.log_tail:
            return  # or not synced: a crash may still take it away
        before, known = self.terms.get(member, 0), batch.hard_state.term
        if known < before:
            raise Violation(f"the term of {member} goes back on its disk from {before} to {known}")
        self.terms[member] = known
        if not batch.stored:
            return
        content = disk.log
        previous = content.term(batch.first - 1) if batch.first > content.start[0] else 0
        for index, (term, wire) in enumerate(batch.stored, start=batch.first):
            self._note_entry(member, index, term, previous, zlib.crc32(wire))
            previous = term

    def _note_entry(self, member: int, index: int, term: int, previous: int, checksum: int) -> None:
        known = self.entries.setdefault((index, term), (previous, checksum))
        if known != (previous, checksum):
            raise Violation(f"logs differ at entry {index} of term {term}, which {member} holds now")

    # --- state machine safety, durability of what is committed ---

    def applied(self, member: int, entries: Sequence[Entry], configurations: Iterable[ConfState]) -> None:
        """A member is about to apply entries. `configurations` are its own, and those of whoever leads."""
        newest = None
        for entry in entries:
            checksum = zlib.crc32(entry.data)
            known = self.committed.get(entry.index)
            if known is None:
                self.committed[entry.index] = entry.term, checksum
                self.last_committed = max(self.last_committed, entry.index)
                self.committed_in = max(self.leaders, default=0)
                newest = entry
                self._note_request(entry)
            elif known != (entry.term, checksum):
                raise Violation(f"{member} applies another entry {entry.index} than others: {entry} after {known}")
        if newest is not None and not any(
            self._is_durable(newest, each) for each in self._with_earlier(configurations)
        ):
            holders = [each for each in sorted(self.disks) if self._holds(each, newest)]
            raise Violation(f"{member} takes {newest} for committed, but only the disks of {holders} hold it")

    def changed_members(self, before: ConfState, after: ConfState) -> None:
        """Somebody went over from one configuration to the next."""
        self.earlier.setdefault(after, [])
        if before not in self.earlier[after]:
            self.earlier[after].append(before)

    def _with_earlier(self, configurations: Iterable[ConfState]) -> Iterator[ConfState]:
        """What was committed right after a change may have been committed before its leader applied that change."""
        for each in configurations:
            yield each
            yield from self.earlier.get(each, ())

    def _note_request(self, entry: Entry) -> None:
        if entry.data:
            before = self.requests.setdefault(entry.data, entry.index)
            if before != entry.index:
                raise Violation(f"the same request is committed at {before} and at {entry.index}")

    def _is_durable(self, entry: Entry, configuration: ConfState) -> bool:
        """What counts as committed must be on the disks of a quorum, and not only in the members' memory."""
        return all(
            2 * sum(self._holds(voter, entry) for voter in voters) > len(voters)
            for voters in (configuration.voters, configuration.voters_outgoing)
            if voters
        )

    def _holds(self, member: int, entry: Entry) -> bool:
        disk = self.disks.get(member)
        if disk is None:
            return False
        content = disk.log
        if entry.index <= content.start[0]:
            return True
        return entry.index <= content.last and content.term(entry.index) == entry.term

    def state(self, member: int, index: int, revision: int, digest: int) -> None:
        """A member's state after applying everything up to an index."""
        known = self.digests.setdefault(index, (revision, digest))
        if known != (revision, digest):
            raise Violation(f"states differ after entry {index}: {member} is at {(revision, digest)}, others {known}")

    def changes(self, member: int, changes: Iterable[tuple[int, bytes, bool, bytes]]) -> None:
        """What a member's store wrote."""
        for change in changes:
            made = Change(*change)
            known = self.history.setdefault(made.packed, made)
            if known != made:
                raise Violation(f"{member} writes {made} where others wrote {known}")

    # --- nothing is promised before it is durable ---

    def sent(self, member: int, message: Message) -> None:
        """A member lets a message out."""
        if message.type in _PROMISE_NO_TERM or message.type == raft_pb2.MsgTransferLeader:
            return
        content = self.disks[member].log
        durable = content.hard_state
        term = durable.term if durable is not None else 0
        if message.term > term:
            raise Violation(f"{message} leaves {member}, whose disk knows of term {term} only")
        # What was acknowledged in an earlier term may have been replaced since by a later leader, in the same write.
        acknowledges = message.type == raft_pb2.MsgAppResp and not message.reject and message.term == term
        if acknowledges and message.index > content.last:
            raise Violation(f"{message} acknowledges more than the disk of {member} holds: {content.last}")
        if message.type in (raft_pb2.MsgVote, raft_pb2.MsgVoteResp) and not message.reject:
            candidate = member if message.type == raft_pb2.MsgVote else message.to
            if durable is not None and term == message.term and durable.vote != candidate:
                raise Violation(f"{message} leaves {member}, whose disk knows of a vote for {durable.vote}")
