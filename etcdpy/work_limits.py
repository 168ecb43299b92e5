"""Bounds on the work that bytes may cost, where their number alone does not bound it: what one turn of the loop takes
from one connection, and how many small parts a message may have. The bounds on sizes and times are in limits.py.
"""

from __future__ import annotations

from typing import Final

TXN_OPS_TOTAL_FACTOR: Final = 8
"""Comparisons and operations of a transaction and all those nested in it, by --max-txn-ops: 1,024 with its default,
some 10 ms of applying where each is a put. etcd bounds each list alone, which leaves room for hundreds of thousands."""

HEADER_LIST_OVERRUN_FACTOR: Final = 2
"""A list so many times as large as its bound ends its connection, not its stream alone: one block can hold 48,000
fields, which take 25 ms to decode; up to here it is 6 ms."""

TURN_READ_SECONDS: Final = 0.002
"""What reading from all connections may take of one turn of the loop, and as much again for what has waited for that
turn; what comes beyond is looked at in the next."""

FLUSHES_PER_TURN: Final = 128
"""Connections whose answers are written in one go: 10 us each, and twice that where it wakes a process."""

CONNECTION_CLOSE_SECONDS: Final = 0.00006
"""What the end of a connection costs, most of it in the loop's own hands and the kernel's."""

WATCH_SLICE_EVENTS: Final = 1024
"""Events that one slice of catching up reads from history or encodes, 2 us each; four times as many that it only sorts
in or joins."""

REQUESTS_PER_TURN: Final = 400
"""Requests that one turn of the loop takes from a connection: 64 KiB can hold 4,000 of the smallest, 10 us each."""

FRAME_WORK_PER_TURN: Final = 4000
"""What frames off the fast road may cost in one turn, in microseconds as estimated by the three numbers below."""

FRAME_WORK: Final = 2
"""Any frame. A window update or a ping of 1 to 2 us."""

FRAME_WORK_PER_BYTES: Final = 8
"""So many bytes of a frame cost one more: messages of a stream may be 5 bytes each, and take 1 us."""

FRAME_WORK_HEADERS: Final = 20
"""A header block that is not remembered, beside its bytes."""

HTTP_EVENTS_PER_TURN: Final = 500
"""Chunks and other pieces that one turn of the loop takes from an HTTP/1 connection, 4 to 8 us each: a read of 256 KiB
can hold 43,000 chunks of one byte."""

HTTP_HEAD_LINES_MAX: Final = 1000
"""Lines of such a head, 2 us each."""

HTTP_PIECE_OVERHEAD_BYTES: Final = 64
"""What a waiting piece of a streamed body costs beside its bytes, which may be one."""

RAFT_ENTRY_BYTES_MIN: Final = 4
"""An entry's term and index. What claims to be a shorter one costs far more memory than bytes."""

RAFT_MESSAGE_ENTRIES_MAX: Final = (1 << 20) // RAFT_ENTRY_BYTES_MIN
"""Entries of one message: more do not fit into what a member sends at once (RAFT_MESSAGE_BYTES)."""

RAFT_MESSAGE_FIELDS_MAX: Final = 64
"""Fields of one message, and entries without a term and an index: etcd knows 15, and none of them is repeated. 40 KB of
them take 16 ms."""

RAFT_TERM_MAX: Final = 1 << 63
"""Terms that are believed. Near the end of 64 bits a member could not stand for election any more; a million elections
a second reach this after 290,000 years."""

SUSPECT_RESETS: Final = 100
"""Streams reset beyond what time has given back, after which a connection is a suspect: its turns are short."""

SUSPECT_WORK_PER_TURN: Final = 300
"""What the frames of a suspect may cost in one turn, in microseconds: an honest client that waits for its answer waits
for such a turn two or three times."""

SUSPECT_REQUESTS_PER_TURN: Final = 20
"""And how many requests they may be."""

OFFENCE_SECONDS: Final = 10.0
"""How long it is remembered of an address that one of its connections was ended for flooding."""

OFFENDER_PACE_SECONDS: Final = 0.1
"""How far apart new connections of such an address are served."""

OFFENDER_WAIT_SECONDS_MAX: Final = 5.0
"""How long one of them waits for that; fifty wait, more are dropped."""

OFFENDERS_MAX: Final = 1024
"""Addresses that are remembered, about 0.2 MB; the oldest goes first."""

CONNECTIONS_GONE_TO_TRIM: Final = 500
"""Connections gone since the last look at memory, after which the allocator is asked to give theirs back; each took
10 to 20 KB."""

TRIMS_AFTER_MANY_CONNECTIONS: Final = 4
"""How often it is asked then: half a TLS handshake is held for ten seconds more."""
