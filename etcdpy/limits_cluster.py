"""The bounds on what members may do to each other, and on how a cluster changes: the second page of `limits`, through
which everybody asks for them."""

from __future__ import annotations

from typing import Final

# --- peer ---

PEER_MESSAGE_BYTES_MAX: Final = 512 * 1024 * 1024
"""One message on a stream between members. etcd's limit; an append has at most 1 MB, or one entry that is larger."""

PEER_SNAPSHOT_ENVELOPE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The message before a snapshot's state. etcd's limit."""

PEER_STREAM_QUEUE_MESSAGES: Final = 4096
"""Messages to one member that wait on a stream whose socket takes no more; further ones are dropped. etcd's number."""

PEER_STREAM_SLICE_BYTES: Final = 1024 * 1024
"""Messages that are encoded and written in one go. A batch is smaller, unless the socket stood still."""

PEER_PIPELINE_QUEUE_MESSAGES: Final = 64
"""Messages to one member that wait for a POST while there is no stream; further ones are dropped. etcd's number."""

PEER_PIPELINE_CONNECTIONS: Final = 4
"""POSTs to one member under way at once. etcd's number."""

PEER_POST_SECONDS: Final = 10.0
"""How long one POST of a message may take, dialing included. etcd sets no bound; its four connections can hang."""

PEER_REDIAL_SECONDS: Final = 0.1
"""A stream is dialed at most so often. etcd's interval."""

PEER_PROBE_SECONDS: Final = 4.0
"""How often a member is probed for its round-trip time: less than the 5 s after which etcd closes a quiet
connection."""

PEER_PROBE_REPORT_SECONDS: Final = 30.0
"""How often the estimate is observed and a drifting clock logged; 5 s while a member does not answer. As on etcd."""

PEER_CLOCK_DIFFERENCE_LOGGED_SECONDS: Final = 1.0
"""A clock that differs more from ours is logged. etcd's bound."""

PEER_ANSWER_BYTES_MAX: Final = 100 * 1024 * 1024
"""A member's answer to a question; the keys of a lease are the longest. etcd's limit for those."""

PEER_REQUEST_BYTES_MAX: Final = 64 * 1024
"""A member's question about leases or hashes. etcd's limit."""

PEER_CONNECTIONS_IDLE_MAX: Final = 8
"""Connections to one member that are kept for the next request: the pipeline's four, a probe, and some questions."""

PEER_CONNECTION_IDLE_SECONDS: Final = 4.5
"""How long they are kept: from one probe to the next, so that a probe measures no TLS handshake. etcd closes a quiet
connection after 5 s."""

PEER_SNAPSHOT_ANSWER_SECONDS: Final = 3600.0
"""How long the whole sending of a snapshot may take. A host that vanished is noticed earlier, by TCP."""

PEER_REMOTES_MAX: Final = 64
"""Senders that are no members in our eyes (we may lag) and are answered over the pipeline all the same. They name
themselves, so there must be a bound."""

PEER_LABELS_MAX: Final = 256
"""Members and addresses that the network's metrics tell apart; strangers choose some of them."""

# --- raft ---

RAFT_MESSAGE_BYTES: Final = 1 << 20
"""Entry data in one MsgApp, as in etcd: large enough to fill a pipe, small enough not to hold heartbeats up."""

RAFT_INFLIGHT_MESSAGES: Final = 512
"""MsgApps with entries that may be on their way to one member, as in etcd."""

RAFT_INFLIGHT_BYTES: Final = 64 << 20
"""Entry data that may be on its way to one member: a slow one must not fill the memory here. etcd has no such bound."""

RAFT_READY_COMMITTED_BYTES: Final = 64 << 20
"""Entry data handed over for apply at once; bounds memory when a restarted member replays its log."""

RAFT_UNCOMMITTED_BYTES: Final = 256 << 20
"""Entry data that may wait to be committed before proposals are dropped: a leader without a quorum must not grow."""

RAFT_WAITING_READS: Final = 100_000
"""ReadIndex requests that may wait for a quorum's heartbeats at once."""

READ_INDEX_RETRY_SECONDS: Final = 0.5
"""After this long an unconfirmed ReadIndex is asked again: the message may have been lost. etcd's value."""

# --- interchange ---

BOLT_LEAF_BYTES: Final = 16 * 1024
"""A leaf of a backend file that we write, unless one record is larger. bbolt's own are a page of 4 KiB; leaves of four
pages are written in two thirds of the time."""

BOLT_RESIDENT_BYTES: Final = 16 * 1024 * 1024
"""Of a backend file that is read, how much may stay mapped; letting go of that much takes about 1 ms."""

INTERCHANGE_SLICE_BYTES: Final = 256 * 1024
"""Bytes of a backend file written before the loop goes on: 0.3 to 1 ms."""

INTERCHANGE_SLICE_RECORDS: Final = 500
"""Records written or read before the loop goes on: 0.5 to 1 ms where they are small."""

# --- membership ---

CONF_CHANGE_RETRY_SECONDS: Final = 0.01
"""How often a change of members is offered to raft again while another one is under way; that one takes one sync."""

COMMIT_TOLD_SECONDS: Final = 0.001
"""A leader through which alone clients write tells the others what is committed with the next entries, or after this
long, twice that at the most. A message of its own costs a lone put a wake-up of each other member, and its answer."""

VERSION_CHECK_SECONDS: Final = 4.0
"""How often the leader compares the cluster's version with its members'. etcd's period."""

RESOLVE_SECONDS: Final = 30.0
"""How long a member without data waits for its URLs' names to resolve. etcd's span."""

RESOLVE_RETRY_SECONDS: Final = 1.0
"""How often it asks."""

ALREADY_BOOTSTRAPPED_SECONDS: Final = 1.0
"""How long a founding member waits for others to tell whether it was a member before. etcd's timeout; members that
start at the same moment do not answer yet."""

JOIN_MEMBERS_SECONDS: Final = 10.0
"""How long a joining member waits for one URL to tell the members. etcd's timeout."""

SRV_SECONDS: Final = 10.0
"""How long one look-up of --discovery-srv may take, retries of the resolver included."""

DISCOVERY_POLL_SECONDS: Final = 1.0
"""How often a member that registered with a discovery service looks whether the others have."""

DISCOVERY_RELAY_BYTES: Final = 64 * 1024
"""Passed on at a time between grpcio and a discovery service that is not verified."""

DISCOVERY_BACKOFF_DOUBLINGS: Final = 8
"""A discovery service that does not answer is asked after 2, 4, ... 256 s. etcd's steps."""

FORCE_NEW_READ_BYTES: Final = 4 << 20
"""How much of the log --force-new-cluster holds at once while it looks for changes of members."""

DOWNGRADE_QUESTION_SECONDS: Final = 1.0
"""How long a joining member waits for each member to tell whether the cluster is being downgraded, when all else fits.
A cluster of one that has just added this member cannot tell before this member has joined."""
