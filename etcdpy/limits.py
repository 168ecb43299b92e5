"""Every bound on what a peer, a client or a file controls: one place, the unit in the name, the reason beside it.

What an operator may change is a flag, and only its default stands here. What members may do to each other stands on a
second page, `limits_cluster`, and is found here too.
"""

from __future__ import annotations

from typing import Final

from etcdpy.limits_cluster import *  # noqa: F403 - a second page, since one would be too long

# --- the command-line tool ---

METRICS_PAGE_BYTES: Final = 16 * 1024 * 1024
"""What `check datascale` reads of a member's metrics. Real ones are some 100 KiB."""

# --- requests (etcd's defaults; flags of the same name) ---

MAX_REQUEST_BYTES_DEFAULT: Final = 1_572_864
"""--max-request-bytes: the largest proposal. etcd's 1.5 MiB; a proposal is held several times over on its way."""

GRPC_OVERHEAD_BYTES: Final = 512 * 1024
"""What a gRPC message may be larger than --max-request-bytes, as on etcd."""

MAX_APPLY_LAG_ENTRIES: Final = 5000
"""Committed entries that may wait to be applied before new ones are refused with `too many requests`, as on etcd."""

MAX_APPLY_LAG_PRIORITY_ENTRIES: Final = 2 * MAX_APPLY_LAG_ENTRIES
"""The same for the revocation of a lease, with the gate PriorityRequest. etcd's number."""

CLIENTS_LIMITED_MAX: Final = 10_000
"""Users, common names and addresses whose requests are counted. One more pushes out the one that has been quiet for the
longest, who then begins with a full allowance; 1 KB each."""

AUDIT_LINES_WAITING_MAX: Final = 10_000
"""Lines that may wait for the disk; more are counted and dropped, since a slow disk must not hold requests. 300 bytes
each, but for those of large transactions."""

AUDIT_KEYS_MAX: Final = 128
"""Keys that a line names; of more it says only that there are. As many as a transaction has operations by default."""

AUDIT_OPERATIONS_MAX: Final = 1024
"""Operations of a transaction that are looked at; one with more is mostly refused by --max-txn-ops. 0.5 ms."""

AUDIT_BATCH_LINES: Final = 256
"""Lines that are written to the disk at a time."""

AUDIT_FAILURE_SAID_SECONDS: Final = 60.0
"""How often the log says that the audit log cannot be written."""

AUDIT_KEY_BYTES_MAX: Final = 1024
"""The part of a key that a line shows."""

# --- transport: TLS ---

TLS_FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""The largest certificate, key, CA or CRL file that is read; a full CA bundle of a distribution is 0.25 MiB and a CRL
of 100,000 serials about 4 MiB."""

TLS_ON_LOOP_BYTES_MAX: Final = 16 * 1024
"""All files of a listener or dialler together, up to which they are read on the loop when one has changed: some ten
certificates, 8 ms. Larger ones are read by a thread."""

TLS_SESSIONS_CACHED_MAX: Final = 1024
"""TLS 1.2 sessions that OpenSSL may keep for resumption before the context is replaced by a fresh one. Python cannot
turn that cache off, its own bound is 20,480, and each session holds the client's certificate."""

TLS_UNSETTLED_NS: Final = 50_000_000
"""A file changed less than this long ago is read again at the next handshake: two writes within one tick of the
kernel's file clock (4 to 10 ms) leave the same stat signature."""

TLS_REFUSALS_LOGGED_BURST: Final = 50
"""Refused handshakes that are logged at once, before the rate below holds."""

TLS_REFUSALS_LOGGED_PER_SECOND: Final = 10
"""Refused handshakes logged a second, warnings and debug lines apart. What is left out is counted in the next line."""

TLS_NAME_LOGGED_CHARS_MAX: Final = 256
"""The longest name of a refused client that a log line repeats; the client chose it."""

# --- server ---

MAX_BATCH_PROPOSALS: Final = 512
"""Proposals that one turn of the ready loop takes: at 10 us each, applying them holds the loop for 5 ms."""

WAITING_PROPOSALS_BYTES: Final = 256 * 1024 * 1024
"""What proposals may hold that wait for the disk, for a leader, or for the leader's answer, each of the three; more are
refused with `too many requests`. As much as a leader keeps that is not committed; etcd bounds them by time alone."""

PROPOSAL_OVERHEAD_BYTES: Final = 2048
"""What a waiting proposal holds beside its data: the call with its stream and its place in the tables."""

CONF_CHANGES_WAITING_MAX: Final = 100
"""Changes of members that may wait for their turn: Raft takes one at a time, and each is tried 100 times a second."""

MAX_APPLY_SECONDS: Final = 0.002
"""How long applying may hold the loop; writing the answers, in the same turn, may take longer than that."""

# --- watch ---

WATCH_OUTBOX_BYTES_MAX: Final = 1024 * 1024
"""Unsent bytes of one watch stream above which its watchers stop getting events and are caught up from history later.
etcd holds 128 responses a stream; bytes are what memory is made of. One response may overshoot it."""

WATCH_OUTBOX_BYTES_RESUME: Final = WATCH_OUTBOX_BYTES_MAX // 4
"""Unsent bytes below which a stream that was held up gets events again: low enough that it does not flap."""

WATCH_RESPONSE_REVISIONS_MAX: Final = 1000
"""Main revisions in one watch response, and in one read of history. etcd's number."""

WATCH_RESPONSE_BYTES_MAX: Final = 3584 * 1024
"""Several revisions share a watch response, and a read of history, up to this size. gRPC clients receive 4 MiB by
default. A single revision may be larger: it is never split unless the client asked for fragments."""

WATCH_HISTORY_EVENTS_TARGET: Final = 4096
"""Events after which one read of history stops at the next revision boundary: some 8 ms of reading, in slices."""

WATCH_WINDOW_KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Responses made from one read of history that are kept for the next watcher of the same group. Past it they are made
again for each: overlapping ranges must not multiply the memory."""

WATCH_SLICE_WATCHERS_MAX: Final = 512
"""Watchers that one slice of catching up serves, about 1 ms. etcd's number."""

WATCH_SLICE_SENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes that one slice of catching up hands out: 1 to 2 ms of copying."""

WATCH_SLICE_PREVIOUS_READS_MAX: Final = 200
"""Previous values (about 10 us each) that one slice of catching up reads for watchers that asked for them."""

WATCH_NOTIFY_COPIED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that one call of notify copies into responses before it leaves the rest of the watchers to slices, so that a
large value with thousands of watchers does not hold the loop for more than about 5 ms."""

WATCH_MEMO_KEYS_MAX: Final = 16_384
"""Keys whose range watchers are remembered; about 3 MB. The memo is emptied when it is full."""

WATCH_MEMO_GROUPS_MAX: Final = 32
"""A key with more range groups than this is looked up each time, which is then little beside serving the groups."""

WATCH_MEMO_KEY_BYTES_MAX: Final = 512
"""Longer keys are not remembered: the memo holds clients' keys, and a key may be as long as a request."""

WATCH_PROGRESS_SLICE_WATCHERS_MAX: Final = 2000
"""Watchers that one progress tick looks at, about 2 ms; the next tick goes on from there."""

WATCH_PROGRESS_INTERVAL_SECONDS_MIN: Final = 0.1
"""--watch-progress-notify-interval is raised to this, as on etcd."""

OBSERVE_BACKLOG_BYTES: Final = 64 * 1024
"""Unsent bytes of one Election.Observe above which it reads no further; its watch is held up in turn."""

# --- JSON gateway ---

JSON_DEPTH_MAX: Final = 10_000
"""Objects and lists within each other. Go's number, so that its error comes where etcd gives it."""

JSON_MESSAGES_DEPTH_MAX: Final = 100
"""Messages within each other, as protobuf's own parsers bound them. Only transactions nest."""

JSON_STEPS_PER_SLICE: Final = 500
"""Tokens of a request's JSON between two looks at the clock, about 1 ms; a token may be as long as a body."""

JSON_READ_AT_ONCE_BYTES: Final = 64 * 1024
"""A request's JSON that is read in one go, well below 1 ms; a larger one is read in slices."""

JSON_MESSAGE_WHOLE_BYTES: Final = 64 * 1024
"""A message of an answer that is made JSON in one go, about 1 ms; a larger one is walked field by field."""

JSON_PIECE_CHARACTERS: Final = 64 * 1024
"""JSON that is written to a client at a time, and the longest answer that is sent in one piece."""

JSON_STREAM_BACKLOG_BYTES: Final = 256 * 1024
"""What a streaming call's requests may hold as JSON, beyond the largest message, while the first is not complete."""

# --- lease ---

LEASE_TTL_SECONDS_MAX: Final = 9_000_000_000
"""The longest TTL that etcd grants."""

LEASE_REVOKES_PER_SECOND_MAX: Final = 1000
"""Expired leases revoked a second. etcd's number: a pile of expiries must not starve other proposals."""

LEASE_REVOKES_IN_FLIGHT_MAX: Final = 16
"""Revocations of expired leases that may wait for their commit at once, as on etcd."""

LEASE_EXPIRY_TICK_SECONDS: Final = 0.5
"""How often expired leases and due checkpoints are looked for, as on etcd; half the revoke rate is spent each time."""

LEASE_CHECKPOINT_INTERVAL_SECONDS_DEFAULT: Final = 300.0
"""How old the replicated remaining TTL of a lease may grow. etcd's default."""

LEASE_CHECKPOINT_BATCH_MAX: Final = 1000
"""Checkpoints in one log entry. etcd's number."""

# --- transport ---

HEADER_LIST_BYTES_MAX: Final = 64 * 1024
"""SETTINGS_MAX_HEADER_LIST_SIZE: a request's decoded headers, 32 bytes a field included. An etcd client sends a few
hundred bytes; a token of a few KiB and tracing headers must fit."""

HEADER_BLOCK_BYTES_MAX: Final = 48 * 1024
"""One encoded header block with its CONTINUATION frames: Huffman's code takes 0.15 us a byte, so this is 7 ms of the
loop. The largest list, packed by Huffman's code as clients do, needs 40 to 48 KiB."""

CONTINUATION_FRAMES_MAX: Final = 16
"""CONTINUATION frames of one header block: 16 KiB frames need four. Bounds the flood of tiny ones."""

HEADER_TABLE_BYTES: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE: the protocol's default."""

MEMOISED_HEADS: Final = 128
"""Request heads remembered a connection. A client has about one for each method it calls."""

MEMOISED_BLOCK_BYTES: Final = 2048
"""The longest header block that is remembered, so that the memo of a connection stays under 0.5 MiB."""

STREAM_WINDOW_BYTES: Final = 1024 * 1024
"""SETTINGS_INITIAL_WINDOW_SIZE: request bytes that one stream may have on their way to a handler that does not read."""

CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
"""The connection's receive window. Given back as bytes arrive; what handlers hold is bounded by the next limit."""

HELD_REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
"""Request bytes a connection may have in incomplete and unread messages; the stream that goes over is reset. Forty
requests of the largest default size at once."""

STREAMS_PER_CONNECTION_MAX: Final = 100_000
"""Open streams of one connection where --max-concurrent-streams (default: no limit) allows more. About 1 KiB each."""

PENDING_ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""Answer bytes that wait for one connection's flow control; while there are more, its new streams are refused."""

PENDING_ANSWER_BYTES_HARD_MAX: Final = 4 * 1024 * 1024 * 1024
"""With more waiting the connection is closed. Two answers of gRPC's largest size; only calls that were open before the
limit above held can get there."""

WRITE_SLICE_BYTES: Final = 256 * 1024
"""Written to a socket at a time, and the mark of the write buffer at which work for the connection pauses. Copying it
takes 0.1 ms."""

PING_ANSWER_SECONDS_MAX: Final = 0.01
"""How long the answer to a ping may wait for answers to calls to go out with it. Under load those take a while: with
2 ms a member of three spends 2 % more CPU."""

READ_SLICE_BYTES: Final = 64 * 1024
"""Request bytes that one turn of the loop takes from a connection: about 200 small puts, 6 ms of work at 30 us each."""

RESETS_BURST: Final = 1000
"""Streams that a client may reset, or make the server reset, at once (rapid reset); nghttp2's number."""

RESETS_PER_SECOND: Final = 200
"""Resets that a client may go on with. Cancelled calls under overload come at the rate of calls timing out."""

SETTINGS_BURST: Final = 100
"""SETTINGS frames at once; a client sends one, perhaps a few."""

SETTINGS_PER_SECOND: Final = 10
"""SETTINGS frames that a client may go on with."""

CONTROL_FRAMES_BURST: Final = 10_000
"""PING, PRIORITY, WINDOW_UPDATE and unknown frames at once. They cost 1 to 2 us each."""

CONTROL_FRAMES_PER_SECOND: Final = 5000
"""Such frames a client may go on with, beside those that answer what it was sent: at most 1 % of a core."""

CONTROL_FRAME_PER_SENT_BYTES: Final = 16
"""Every so many bytes sent earn a client one control frame. grpc's C library answers each answer to a put, 51 bytes, by
a WINDOW_UPDATE, 30,000 a second; small watch events also by a bandwidth-estimation PING."""

EMPTY_FRAMES_BURST: Final = 500
"""DATA without a byte (and without END_STREAM) and empty CONTINUATION frames at once; no client needs one."""

EMPTY_FRAMES_PER_SECOND: Final = 10
"""Empty frames that a client may go on with."""

CLOSED_STREAMS_REMEMBERED: Final = 1024
"""Streams that the server closed before the client did, for which late frames are ignored rather than punished."""

PING_MIN_SECONDS_WITHOUT_FLAG: Final = 300.0
"""--grpc-keepalive-min-time=0: grpc-go's own interval."""

KEEPALIVE_INTERVAL_SECONDS_DEFAULT: Final = 7200.0
"""--grpc-keepalive-interval=0, or --grpc-keepalive-timeout=0: grpc-go's own interval."""

KEEPALIVE_TIMEOUT_SECONDS_DEFAULT: Final = 20.0
"""The same of the timeout."""

KEEPALIVE_INTERVAL_SECONDS_MIN: Final = 1.0
"""A shorter --grpc-keepalive-interval is raised to this, as by grpc-go."""

PREFACE_SECONDS_MAX: Final = 10.0
"""From accept to a complete HTTP/2 preface with SETTINGS, or the first HTTP/1 request head; as the TLS handshake."""

WRITE_STALL_SECONDS_MAX: Final = 60.0
"""A socket that takes no byte of what waits for it for so long is dropped."""

DRAIN_PING_SECONDS: Final = 1.0
"""A draining connection waits so long for the client to acknowledge the first GOAWAY before the second names the last
stream."""

HTTP_HEAD_BYTES_MAX: Final = 64 * 1024
"""An HTTP/1 request line and headers; the same as over HTTP/2."""

HTTP_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The body of an HTTP (not gRPC) request. Base64 and JSON make the largest default gateway request about 2.8 MiB."""

HTTP_HEADS_KNOWN_MAX: Final = 8
"""Heads of HTTP/1.1 requests that a connection remembers, so that they are read once. One for each path in use."""

HTTP_HEAD_KNOWN_BYTES_MAX: Final = 2048
"""The longest head that is remembered: 16 KB for a connection."""

HTTP_BODY_KNOWN_BYTES_MAX: Final = 64 * 1024
"""The longest body of such a request; joining what came of it is then cheaper than h11's events."""

HTTP_REQUEST_SECONDS_MAX: Final = 30.0
"""From the first byte of an HTTP/1 request to its last."""

HTTP_IDLE_SECONDS_MAX: Final = 120.0
"""An HTTP/1 connection that waits for its next request."""

HTTP_PIPELINED_BYTES_MAX: Final = 64 * 1024
"""Bytes of further HTTP/1 requests read while one is being answered; then reading pauses."""

HTTP_STREAMED_BYTES_WAITING_MAX: Final = 1024 * 1024
"""Bytes of a streamed request body that wait for the handler; then the socket is not read. Four reads of the loop."""

WEBSOCKET_MESSAGE_OVERHEAD_BYTES: Final = 64
"""What an unread message counts beside its bytes, so that empty ones are not free."""

HTTP_LINGER_SECONDS: Final = 0.5
"""How long the rest of a streamed body is taken after an answer that refuses it. Go's server waits as long."""

ENDLESS_ANSWER_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Bytes of an endless answer in the write buffer above which its owner holds further ones back: eight full appends, so
that a short pause of the network does not leave the socket idle afterwards."""

ACCEPTS_PER_TURN: Final = 16
"""Connections accepted in one turn of the loop, some 2 ms with what they send. Of TLS handshakes a quarter as many."""

ACCEPT_RETRY_SECONDS: Final = 0.1
"""Pause of accepting after an error such as too many open files."""

LISTEN_BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel's net.core.somaxconn bounds it further, as with Go."""

# --- server: configuration (etcd's defaults and bounds for flags whose 0 is not zero) ---

QUOTA_BYTES_DEFAULT: Final = 2 * 1024**3
"""--quota-backend-bytes=0. etcd's 2 GiB."""

QUOTA_NEAR_BYTES: Final = 16 * 1024**2
"""While more room than this is left nobody looks at requests: one turn of applying takes 2 ms and adds less."""

SPACE_LOOK_SECONDS: Final = 1.0
"""How often --auto-space-reclaim and --auto-alarm-disarm look at the size."""

SPACE_TIGHT_SHARE: Final = 0.8
"""--auto-space-reclaim acts from this share of the quota on; below it the space is used again by itself."""

SPACE_FREEABLE_SHARE: Final = 0.1
"""And when this share of the quota can be given back: each defragmentation rewrites everything."""

SPACE_BACK_SHARE: Final = 0.9
"""--auto-alarm-disarm takes the alarm back below this share of the quota, so that it is not raised again at once."""

QUOTA_BYTES_ADVISED_MAX: Final = 8 * 1024**3
"""Above this quota the member warns, as etcd does."""

REQUEST_BYTES_ADVISED_MAX: Final = 10 * 1024**2
"""Above this --max-request-bytes the member warns, as etcd does."""

SNAPSHOT_COUNT_DEFAULT: Final = 10_000
"""--snapshot-count=0."""

COMPACTION_BATCH_REVISIONS_DEFAULT: Final = 1_000
"""--compaction-batch-limit=0."""

COMPACTION_SLEEP_NS_DEFAULT: Final = 10_000_000
"""--compaction-sleep-interval=0: 10 ms."""

WATCH_PROGRESS_NS_DEFAULT: Final = 600_000_000_000
"""--watch-progress-notify-interval=0: 10 min."""

WATCH_PROGRESS_NS_MIN: Final = 100_000_000
"""The least --watch-progress-notify-interval, 100 ms: each notice goes to every watcher that asked for it."""

WARNING_UNARY_NS_DEFAULT: Final = 300_000_000
"""--warning-unary-request-duration=0: 300 ms."""

ELECTION_TIMEOUT_MS_MAX: Final = 50_000
"""The longest --election-timeout: a cluster that waits longer for a leader is as good as down."""

CONFIG_FILE_BYTES_MAX: Final = 1024 * 1024
"""The largest configuration file; etcd's sample has 7 KB."""

AUTH_FILE_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest file of `etcdpyctl auth apply`: some 100 bytes a user or a permission."""

TOPOLOGY_BYTES_MAX: Final = 1024 * 1024
"""The largest topology file of `etcdpy systemd`: a line a node, and there are few."""

FILE_DESCRIPTORS_RESERVED: Final = 150
"""Descriptors kept from clients for the database, logs and peers; with fewer in all the member refuses to start."""

FREED_MEMORY_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Memory that was freed and may be wanted again at once: a list of 10,000 keys of 1 KB passes through some 20 MB. Also
the largest value that glibc takes for the size from which a block gets a mapping of its own."""

# --- storage ---

RAFT_LOG_RECENT_BYTES: Final = 4 << 20
"""Wire forms of the newest raft entries kept in memory, so that a follower that keeps up costs no disk read."""

LOG_RECORD_BYTES: Final = 64 * 1024
"""Of the raft entries that share a record; a larger entry has one of its own. Two hundred puts, after which one record
more costs nothing; whoever reads one of them far back reads all, in 0.1 ms."""

LOG_SEGMENT_BYTES: Final = 4 << 20
"""A file of the raft log, some ten thousand puts. It is filled with zeros ahead: 2 ms of CPU, and what an idle member
takes on the disk."""

LOG_SEGMENT_BYTES_MAX: Final = 1 << 30
"""The largest file of the raft log that is read. One batch may go beyond LOG_SEGMENT_BYTES, by as much as a leader lets
wait (RAFT_UNCOMMITTED_BYTES) or one message of a peer holds (PEER_MESSAGE_BYTES_MAX)."""

LOG_TRUNCATE_ENTRIES_PER_JOB: Final = 500
"""Deletions of truncated records of raft entries in one disk job; about 0.1 ms on the loop."""

INLINE_WRITE_SECONDS: Final = 0.001
"""While the disk takes less than this for a write, a lone job is done on the loop: a thread takes 20 us for taking it
over and reporting it, and 0.5 ms beside a busy loop, and a loop that stands still this long does no harm."""

STATE_BATCH_RECORDS: Final = 64
"""Applied records that make it worth writing them with the next batch of the log: a second write costs 15 us."""

STATE_BATCH_BYTES: Final = 1 << 20
"""Value bytes of applied records that make it worth the same: copying them into the batch holds the loop for 0.5 ms."""

STATE_BATCH_RECORDS_EARLY: Final = 4096
"""Applied records that are written without waiting for the log's next batch: building theirs takes 1 ms of the loop."""

STATE_BATCH_BYTES_EARLY: Final = 4 << 20
"""The same by value bytes, 2 ms."""

STATE_JOBS_QUEUED_MAX: Final = 2
"""Jobs under way beyond which nothing is written early: a read looks into each of them, and a disk that is behind
gains nothing from more."""

INLINE_JOB_BYTES: Final = 1 << 20
"""A job with more bytes than this goes to the disk thread: writing 10 MB takes LevelDB 10 ms and more."""

DEFRAGMENT_SLICE_BYTES: Final = 32 << 20
"""About how much of the state database one slice of a defragmentation rewrites."""

RESIDENT_MAPPED_BYTES: Final = 64 << 20
"""Pages of mapped database files that may stay resident when memory is trimmed; the page cache keeps them anyway."""

TRIM_SLICE_BYTES: Final = 64 << 20
"""Mappings whose pages are given back in one go; about 3 ms of the loop."""

SNAPSHOT_SLICE_SECONDS: Final = 0.001
"""How long one turn makes or takes in a snapshot; it may end one step (1 ms) later."""

SNAPSHOT_PAUSE_SECONDS: Final = 0.002
"""And how long it leaves the loop alone then: a member that sends half a gigabyte is half as fast for seconds."""

SNAPSHOT_IDLE_TURN_SECONDS: Final = 0.0003
"""A turn of the loop between two slices that takes longer had other work; one without takes 0.05 ms."""

SNAPSHOT_THREADS: Final = 4
"""Threads that wait for the disk: two for a file that is written, one for each of two that are read."""

SNAPSHOT_WRITE_BYTES: Final = 1 << 20
"""Written to a snapshot's file at a time."""

SNAPSHOT_WAITING_BYTES_MAX: Final = 4 << 20
"""Of a snapshot's file that are made and wait to be written, unless one record is larger."""

SNAPSHOT_WRITE_BACK_BYTES: Final = 4 << 20
"""Written to it before the disk is made to take it."""

SNAPSHOT_DIRTY_BYTES_MAX: Final = 16 << 20
"""Written to it while the disk has not taken what came before."""

SNAPSHOT_RECENT_BYTES: Final = 8 << 20
"""Of a snapshot's file that stays in memory after it was written: its readers mostly keep up with who makes it."""

SNAPSHOT_READER_SECONDS: Final = 0.02
"""How long who makes it waits for a reader to take a piece, once for so much. A reader of 13 MB/s keeps up."""

SNAPSHOT_READ_BYTES: Final = 1 << 20
"""Read from it at a time, for one member."""

SNAPSHOT_DISK_RESERVE_BYTES: Final = 64 << 20
"""What a snapshot must leave free: a member whose log finds no room stops taking writes."""

SNAPSHOT_BYTES_MAX: Final = 64 << 30
"""The largest snapshot that is received: eight times the quota that etcd advises at the most."""

SNAPSHOTS_RECEIVED_AT_ONCE: Final = 2
"""One from a leader that may have died in the middle, and one from its successor."""

SNAPSHOTS_SAVED_AT_ONCE: Final = 2
"""Files made for clients that save the state: each takes as much disk as the state, until its client has it."""

SNAPSHOT_FIRST_BLOB_BYTES: Final = 32 * 1024
"""Of the file in the first message to a client, which hears so how much comes. All of etcd's are of this size."""

SNAPSHOT_BLOB_BYTES: Final = 256 * 1024
"""In each later one: etcdctl takes 1 GB in two thirds of the time, and the member in half."""

SNAPSHOT_SENT_AHEAD_BYTES: Final = 1 << 20
"""Of the file that may wait for a client to take it."""

SNAPSHOT_LOG_HELD_SECONDS: Final = 30.0
"""After a snapshot was sent its follower has so long to take the entries after it before they may go. etcd's value."""

SNAPSHOT_READERS_SECONDS: Final = 1.0
"""How long a received state waits for long reads to end before it takes the other's place and they are ended."""

NEW_STATE_BATCH_BYTES: Final = 4 << 20
"""Bytes of a received state that are written in one trip: less would be many trips, more only memory."""

NEW_STATE_BATCH_RECORDS: Final = 16_384
"""The same by records."""

SNAPSHOT_CATCHUP_ENTRIES_DEFAULT: Final = 5_000
"""--snapshot-catchup-entries: entries kept behind for members that lag. etcd's default."""

PROFILE_BYTES_MAX: Final = 64 * 1024
"""A profile of `etcdpyctl`: a handful of lines; a file that was named by mistake must not fill the memory."""

KEY_FILE_BYTES_MAX: Final = 64 * 1024
"""A key file: some hundred keys."""

DATA_KEYS_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""`member/KEYS`: a data key takes 200 bytes, and there are never more than 65,535."""

# --- mvcc ---

INDEX_JOURNAL_ENTRIES_MAX: Final = 32_768
"""Creations and deletions remembered, to correct a count for an older revision (0.06 us each, so 2 ms at most). A count
further back walks the range in slices."""

INDEX_UNSORTED_KEYS_MAX: Final = 2_048
"""New keys that wait to be sorted into those that ranges read: 0.4 to 1 us each, for whoever reads first."""

RANGE_SLICE_KEYS_MAX: Final = 2_000
"""Index entries that a walk visits before it lets the loop go on: 0.1 to 0.5 us each."""

RECORD_CACHE_BYTES: Final = 32 << 20
"""Recent records kept in memory. A list of 10,000 objects of 1 KB fits into half of it; more would be etcd's way."""

WRITE_SLICE_KEYS: Final = 300
"""Keys that a deletion takes out in one slice: 2 us each where they lie beside each other, 8 us where they do not."""

READ_SLICE_WORK_MAX: Final = 500
"""Records that a slice of a read takes from a scan: 1 ms with a warm cache, else 4. A point read counts as four."""

READ_SLICE_BYTES_MAX: Final = 524_288
"""Record bytes that a read takes before it lets the loop go on; copying them is what costs."""

SORT_RUN_ROWS_MAX: Final = 4_000
"""Rows of a range that are sorted in one go, about 2 ms; more are sorted in runs, which are merged in slices."""

RESTORE_SLICE_RECORDS: Final = 20_000
"""Records read at start between two reports of progress, whose new keys enter the index together: 25 ms."""

RESTORE_ASIDE_SLICE_RECORDS: Final = 500
"""Records read in one go for an index that is built while another one serves: 1 ms."""

COMPACTION_BATCH_DEFAULT: Final = 1_000
"""--compaction-batch-limit: records that a compaction looks at in one step. etcd's default."""

COMPACTION_HASHES_MAX: Final = 10
"""Hashes of past compactions that HashKV still answers, as many as etcd keeps."""

# --- server: log ---

LOG_BYTES_FIELD_MAX: Final = 512
"""Bytes of a key or value that a log line shows; the client chose them."""

LOG_REQUEST_CHARS_MAX: Final = 2048
"""Characters of a request that a line about a slow one shows."""

SLOW_REQUESTS_LOGGED_PER_SECOND: Final = 20
"""Lines a second about requests that took long: after a stall thousands are late at once, and a line takes 30 us."""

LOG_LINES_PER_SECOND_BURST: Final = 100
"""Lines of one level and message that are written in a second before sampling sets in. etcd's (zap's) number."""

LOG_LINES_SAMPLED_EACH: Final = 100
"""After that, each hundredth is written, as on etcd."""

LOG_KINDS_COUNTED_MAX: Final = 10_000
"""Different messages counted for sampling in one second; more and the count starts anew."""

LOG_FAILURE_SAID_EACH_SECONDS: Final = 60.0
"""How often stderr is told that a log output fails."""

SLICE_SECONDS: Final = 0.002
"""How long one turn of sliced work goes on with further slices; each of them takes about as long at the most."""

COMPACTION_PIN_WAIT_SECONDS: Final = 0.05
"""How long compaction waits before it looks again whether the readers of older revisions are done."""

WATCH_BLOCKED_POLL_SECONDS: Final = 0.01
"""How often streams that took no more bytes are looked at again."""

HAND_OVER_SECONDS_MAX: Final = 0.3
"""How long a leader that stops waits for another to lead: a hand-over takes two message delays, and with the drain that
follows the process must be gone within 1.5 s."""

HAND_OVER_POLL_SECONDS: Final = 0.002
"""How often it looks."""

REMOVED_STOP_SECONDS: Final = 1.0
"""A removed member goes on for so long, as on etcd: those that learn of its removal through it must hear the end."""

PEERS_ACTIVE_POLL_SECONDS: Final = 0.02
"""How often a starting member looks whether a majority is within reach."""

APPLIED_INDEX_WAIT_SECONDS: Final = 1.0
"""What is committed must be applied within this time before a question about leases is answered. etcd's number."""

APPLIED_INDEX_POLL_SECONDS: Final = 0.002
"""How often it looks meanwhile."""

LEADER_RETRY_SECONDS: Final = 0.05
"""Pause before the leader is asked for a lease again. etcd's number."""

DRAIN_SECONDS: Final = 1.0
"""What open calls get to finish when the member stops; supervisors expect it to be gone within 1.5 s."""

MEMORY_TRIM_SECONDS: Final = 5.0
"""How often resident pages of mapped tables are looked at."""

# --- server: loop lag ---

LOOP_LAG_INTERVAL_SECONDS: Final = 0.01
"""How often the loop is asked how late it is: the longest stall that may happen unseen."""

LOOP_STALL_LOGGED_SECONDS: Final = 0.1
"""A stall beyond this is logged: a heartbeat interval, so followers notice it too."""

APPLY_CHUNK_BYTES: Final = 16 * 1024
"""So many bytes of entries at the most are applied between two looks at the clock, or one alone: a transaction of 125
small puts takes a millisecond, and 32 large values would be 50 MB to copy. Of a put a quarter counts."""

APPLY_CHUNK_ENTRY_BYTES: Final = 512
"""What an entry counts for at least: 32 between two looks."""

APPLY_CHUNK_PUT_BYTES: Final = 128
"""The same for a put: 128, which take half a millisecond. A follower spends a twentieth less on them than 32 by 32."""

# --- api: metrics ---

CLIENT_VERSIONS_COUNTED_MAX: Final = 32
"""Texts of client-api-version that /metrics tells apart; the client chooses them, and each is a series for ever."""

CLIENT_VERSION_BYTES_MAX: Final = 32
"""A longer client-api-version counts as unknown."""

WATCH_REQUESTS_PER_TURN: Final = 64
"""Watch requests of one stream that are served before others get their turn: about 1 ms."""

LEASE_RENEWALS_PER_TURN: Final = 64
"""The same for renewals on one stream: 64 KiB hold some 4,000 of them, 25 us each."""

DISK_PROBE_SECONDS: Final = 1.0
"""How often a member whose disk refused a write looks whether it takes writes again."""

DISK_PROBE_BYTES: Final = 16 * 1024 * 1024
"""What must be writable before such a member goes on: room for the log and for LevelDB's tables."""

# --- auth ---

SIMPLE_TOKENS_MAX: Final = 100_000
"""Simple tokens a member keeps, 20 MB; the longest unused go first. A login costs 50 ms of CPU, so that these many are
hours of logins unless --bcrypt-cost is low."""

JWT_TOKENS_KEPT: Final = 10_000
"""JWTs whose signature was checked and need not be checked again; 10 MB."""

AUTH_SIGNERS_KEPT: Final = 10_000
"""Users named by log entries of other members, parsed once."""

TOKEN_WAITS_MAX: Final = 10_000
"""Calls that may wait for a token this member has not heard of yet; what comes beyond is told that it is invalid."""

PASSWORD_WORK_WAITING_MAX: Final = 1_000
"""Passwords that wait to be hashed or compared; a thread does some 20 a second at the default cost."""

BCRYPT_PASSWORD_BYTES_MAX: Final = 72
"""What bcrypt looks at. A longer password is refused where it is set, as on etcd."""

BCRYPT_COST_DEFAULT: Final = 10

LEASE_KEYS_CHECKED_PER_SLICE: Final = 2_000
"""Keys of leases whose permission is checked before the loop goes on: 2 ms."""

# --- proxies ---

GATEWAY_DIAL_SECONDS: Final = 5.0
"""How long `gateway` dials an endpoint before it counts as down. etcd sets no bound of its own, so that a host that
vanished holds each new client for the two minutes that the kernel tries."""

GATEWAY_BUFFER_BYTES: Final = 256 * 1024
"""What `gateway` holds of one direction of a connection for a reader that does not read; then it reads no further."""

GATEWAY_RETRY_NS_DEFAULT: Final = 300_000_000_000
"""--retry-delay=0: five minutes, as on etcd."""

PROXY_CACHE_ANSWERS_MAX: Final = 2048
"""Answers to ranges that `grpc-proxy` keeps for serializable ones. etcd's number."""

PROXY_CACHE_BYTES_MAX: Final = 64 * 1024 * 1024
"""And their bytes, which etcd does not count."""

PROXY_CACHE_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer answer is not kept: it would push out many that are asked for more often."""

PROXY_CACHE_WRITES_KEPT: Final = 1024
"""Writes that are remembered while ranges are under way; a range that more of them overtook is not kept."""

PROXY_RECEIVE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The longest request that `grpc-proxy` takes from a client: gRPC's default, which etcd's proxy leaves as it is."""

PROXY_STREAM_UNREAD_BYTES_MAX: Final = 16 * 1024 * 1024
"""What a client may leave unread of its watchers before its stream is ended; it holds up nobody who watches the same.
etcd's proxy gives it 50 ms once 1024 responses wait."""

PROXY_PASSED_BYTES_MAX: Final = 1024 * 1024
"""What may wait for a client of a stream that is passed on as it is, such as a snapshot's."""

PROXY_WATCHERS_MERGED_MAX: Final = 5
"""A group of so many watchers or more is not moved to an older upstream watcher. etcd's number."""

PROXY_RESUME_SECONDS: Final = 0.1
"""Pause before a broken upstream stream is opened again, as in etcd's client."""

PROXY_REGISTER_RETRY_SECONDS: Final = 1.0
"""Pause before the proxy's own address is written again, or those of the others are read again. etcd's number."""

PROXY_TLS_LOOK_SECONDS: Final = 1.0
"""How often a proxy looks whether its TLS files were renewed, while it has no connection to a member."""

PROXY_REVOKE_SECONDS: Final = 1.0
"""How long a proxy that stops waits until its own lease is revoked; it ends by itself too."""

PROXY_LEASED_KEYS_MAX: Final = 8192
"""Keys that a proxy owns by --experimental-leasing-prefix, each of which is a record more for the cluster; and those
that it remembers to have let go of. etcd has no bound."""

PROXY_LEASED_BYTES_MAX: Final = 64 * 1024 * 1024
"""And the bytes that stand there."""

PROXY_LEASED_KEYS_PER_TXN_MAX: Final = 32
"""Owned keys that one transaction writes and that stay owned: each is an operation more, and a member takes 128."""

PROXY_LEASING_BACKOFF_SECONDS: Final = 2.0
"""How long a key that was let go of is not owned again. etcd's number."""

PROXY_LEASING_WAIT_SECONDS: Final = 1.0
"""How long a writer waits to hear that the owner of a key has let go of it, before he looks."""

PROXY_HEALTH_SECONDS: Final = 1.0
"""How long /health waits for the cluster. etcd's number."""

PROXY_METRICS_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest /metrics of a member that is passed on."""
