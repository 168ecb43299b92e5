"""What can go wrong in raft through no fault of this code: a caller out of turn, a peer that sends nonsense.

None of these reaches a client as it is; the server translates. A broken invariant is an assertion instead.
"""

from __future__ import annotations


class RaftError(Exception):
    """Base of all errors that raft raises on purpose. The state is unchanged when one is raised."""


class ProposalDropped(RaftError):
    """The proposal was not taken: no leader, too many uncommitted bytes, or this member has left the group."""


class ConfChangeRefused(ProposalDropped):
    """A configuration change that cannot be taken now: another one is pending, or it does not fit the configuration."""


class InvalidConfChange(RaftError):
    """A configuration change that would break the group, such as removing its last voter."""


class InvalidMessage(RaftError):
    """A peer's message that contradicts itself or what this member knows; it is dropped whole."""


class LocalMessage(InvalidMessage):
    """A message type that only travels inside one process came from the network."""


class UnknownPeer(InvalidMessage):
    """An answer from a member that this one does not track."""


class MalformedMessage(RaftError, ValueError):
    """Bytes that are no raft message."""


class MessageNotSupported(InvalidMessage):
    """A message type that this version does not speak."""


class LogLost(RaftError):
    """The leader knows entries of ours as stored that we do not have: this member's log was damaged or replaced.

    Going on would break promises made to the leader; the member must stop and be replaced.
    """


class SnapshotTemporarilyUnavailable(RaftError):
    """Storage cannot give a snapshot now; a later attempt may succeed."""


class LogUnavailable(RaftError):
    """An index beyond the end of the log."""


class LogCompacted(RaftError):
    """An index that has been truncated away from the start of the log."""
