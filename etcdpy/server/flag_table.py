"""Every flag of the server, in the order of the help text. Config, --help and docs/configuration.md are made from here.

Names, defaults and rules are etcd 3.7's. A flag with `inert` is checked like the others and changes nothing here; the
server says so once when it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.server.flags import Flag, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUPS: Final = {
    "Member": "",
    "Clustering": "",
    "Security": "",
    "Auth": "",
    "Monitoring": "",
    "Logging": "",
    "Distributed tracing": "",
    "Features": "",
    "Beyond etcd": "Flags that etcd does not have; all are off unless they are given. See limits.md.",
    "Unsafe": "These can break what the consensus protocol guarantees.",
}

TRACING: Final = "no traces are exported"
BOLT: Final = "concerns the bbolt file of real etcd; this server stores in LevelDB"
GROUP_COMMIT: Final = (
    "every request is on disk before its answer; requests that wait for the disk form one batch by themselves"
)
NO_DIALLING: Final = "the server never dials itself, so it needs no client certificate"

_ROTATION_DEFAULT: Final = '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'

_MEMBER: Final = (
    Flag(
        "name", Kind.STRING, "default", "What this member is called; its entry in --initial-cluster has the same name."
    ),
    Flag("data-dir", Kind.STRING, "", "Directory for all data. Empty: the name of the member, with `.etcd`."),
    Flag("wal-dir", Kind.STRING, "", "Directory for the raft log alone, for a disk of its own."),
    Flag("snapshot-count", Kind.UINT, "10000", "Applied requests after which the raft log is cut. 0: the default."),
    Flag("heartbeat-interval", Kind.MILLISECONDS, "100", "Milliseconds between heartbeats of the leader."),
    Flag(
        "election-timeout",
        Kind.MILLISECONDS,
        "1000",
        "Milliseconds without a leader until an election; 5 times the heartbeat or more, 50000 at most.",
    ),
    Flag(
        "initial-election-tick-advance",
        Kind.BOOL,
        "true",
        "Shorten the wait for the first election after a start.",
        inert="a single member elects itself at once",
    ),
    Flag("listen-peer-urls", Kind.URLS, "http://localhost:2380", "Where other members reach this one."),
    Flag("listen-client-urls", Kind.URLS, "http://localhost:2379", "Where clients are served: gRPC, and HTTP too."),
    Flag("listen-client-http-urls", Kind.URLS, "", "Where HTTP is served; --listen-client-urls is then gRPC alone."),
    Flag(
        "max-snapshots",
        Kind.UINT,
        "5",
        "Snapshot files to keep.",
        inert="there are no snapshot files here",
        deprecated="--max-snapshots is deprecated since 3.6 and goes in 3.8.",
    ),
    Flag("max-wals", Kind.UINT, "5", "Log files to keep.", inert="the raft log keeps the files that its entries need"),
    Flag("memory-mlock", Kind.BOOL, "false", "Lock the process in memory, so that nothing is swapped out."),
    Flag(
        "quota-backend-bytes",
        Kind.INT,
        "0",
        "Bytes the database may hold before writes are refused. 0: 2 GiB. Negative: no limit.",
    ),
    Flag("backend-bbolt-freelist-type", Kind.STRING, "", "Kind of free list, `map` or `array`.", inert=BOLT),
    Flag("backend-batch-interval", Kind.DURATION, "0s", "Longest wait before a commit.", inert=GROUP_COMMIT),
    Flag("backend-batch-limit", Kind.INT, "0", "Most operations in a commit.", inert=GROUP_COMMIT),
    Flag("max-txn-ops", Kind.UINT, "128", "Most operations in one list of a transaction."),
    Flag("max-request-bytes", Kind.UINT, "1572864", "Largest request. Above 10 MiB the member warns."),
    Flag("max-concurrent-streams", Kind.UINT32, "4294967295", "Most HTTP/2 streams on one client connection."),
    Flag("grpc-keepalive-min-time", Kind.DURATION, "5s", "A client that pings more often is disconnected. 0: 5m."),
    Flag("grpc-keepalive-interval", Kind.DURATION, "2h", "How long a client may be silent before it is pinged. 0: 2h."),
    Flag(
        "grpc-keepalive-timeout",
        Kind.DURATION,
        "20s",
        "How long a ping may stay unanswered. 0: 20s, every 2h.",
    ),
    Flag(
        "socket-reuse-port",
        Kind.BOOL,
        "false",
        "Set SO_REUSEPORT on listeners.",
        in_file=False,
    ),
    Flag(
        "socket-reuse-address",
        Kind.BOOL,
        "false",
        "Set SO_REUSEADDR on listeners, to bind while old connections linger.",
        in_file=False,
    ),
    Flag("enable-grpc-gateway", Kind.BOOL, "true", "Serve the JSON API under /v3/."),
    Flag(
        "raft-read-timeout",
        Kind.DURATION,
        "5s",
        "Read timeout of a peer connection, 5s or more.",
        in_file=False,
    ),
    Flag(
        "raft-write-timeout",
        Kind.DURATION,
        "5s",
        "Write timeout of a peer connection, 5s or more.",
        in_file=False,
    ),
    Flag("feature-gates", Kind.GATES, "", "Switch features on or off: `A=true,B=false`. The gates are listed below."),
    Flag(
        "config-file",
        Kind.STRING,
        "",
        "YAML file with the configuration. All other flags and the environment are then ignored.",
        in_file=False,
    ),
    Flag("version", Kind.BOOL, "false", "Print the version and exit.", in_file=False),
)

_CLUSTERING: Final = (
    Flag(
        "initial-advertise-peer-urls",
        Kind.URLS,
        "http://localhost:2380",
        "The peer URLs of this member that the others are told.",
    ),
    Flag(
        "initial-cluster",
        Kind.STRING,
        "default=http://localhost:2380",
        "The founding members: `name=url,name=url`. Not given: this member alone.",
    ),
    Flag(
        "initial-cluster-state",
        Kind.CHOICE,
        "new",
        "`new` to found a cluster, `existing` to join one. Ignored once there is data.",
        choices=("new", "existing"),
    ),
    Flag("initial-cluster-token", Kind.STRING, "etcd-cluster", "Keeps clusters with the same members apart."),
    Flag("advertise-client-urls", Kind.URLS, "http://localhost:2379", "The client URLs of this member that are told."),
    Flag("discovery-token", Kind.STRING, "", "Token of the cluster to found.", in_file=False),
    Flag("discovery-endpoints", Kind.WORD_SET, "", "URLs of the discovery service.", in_file=False),
    Flag("discovery-dial-timeout", Kind.DURATION, "2s", "Discovery: time to connect.", in_file=False),
    Flag("discovery-request-timeout", Kind.DURATION, "5s", "Discovery: time to answer.", in_file=False),
    Flag("discovery-keepalive-time", Kind.DURATION, "2s", "Discovery: ping period.", in_file=False),
    Flag(
        "discovery-keepalive-timeout",
        Kind.DURATION,
        "6s",
        "Discovery: time a ping may take.",
        in_file=False,
    ),
    Flag("discovery-insecure-transport", Kind.BOOL, "true", "Discovery: without TLS.", in_file=False),
    Flag(
        "discovery-insecure-skip-tls-verify",
        Kind.BOOL,
        "false",
        "Discovery: trust any certificate. For tests.",
        in_file=False,
    ),
    Flag("discovery-cert", Kind.STRING, "", "Discovery: client certificate file.", in_file=False),
    Flag("discovery-key", Kind.STRING, "", "Discovery: client key file.", in_file=False),
    Flag("discovery-cacert", Kind.STRING, "", "Discovery: CA file.", in_file=False),
    Flag(
        "discovery-user",
        Kind.STRING,
        "",
        "Discovery: `user` or `user:password`.",
        secret=True,
        in_file=False,
    ),
    Flag("discovery-password", Kind.STRING, "", "Discovery: password.", secret=True, in_file=False),
    Flag(
        "discovery-fallback",
        Kind.CHOICE,
        "exit",
        "What to do when discovery fails: `exit`.",
        choices=("exit", "proxy"),
        in_file=False,
    ),
    Flag("discovery-srv", Kind.STRING, "", "DNS domain whose SRV records list the members."),
    Flag("discovery-srv-name", Kind.STRING, "", "Suffix of the SRV service names."),
    Flag(
        "strict-reconfig-check",
        Kind.BOOL,
        "true",
        "Refuse membership changes that would lose the quorum.",
    ),
    Flag("pre-vote", Kind.BOOL, "true", "Ask before an election whether it could be won."),
    Flag(
        "auto-compaction-retention",
        Kind.STRING,
        "0",
        "History to keep: a span (a bare number: hours), or in revision mode a number of revisions. 0: all.",
    ),
    Flag("auto-compaction-mode", Kind.STRING, "periodic", "`periodic` or `revision`."),
    Flag(
        "v2-deprecation",
        Kind.CHOICES,
        "",
        "Stage of the removal of the v2 store.",
        choices=("write-only", "write-only-skip-check", "write-only-drop-data", "gone"),
        inert="the value is ignored, as on etcd 3.7",
        deprecated="--v2-deprecation is deprecated and goes in 3.8; its value is ignored.",
    ),
)

_SECURITY: Final = (
    Flag("cert-file", Kind.STRING, "", "Certificate of the client port.", in_file=False),
    Flag("key-file", Kind.STRING, "", "Key of the client port.", in_file=False),
    Flag("client-cert-auth", Kind.BOOL, "false", "Demand client certificates; their CN is the user.", in_file=False),
    Flag("trusted-ca-file", Kind.STRING, "", "CA of client certificates; alone it already demands one.", in_file=False),
    Flag(
        "client-cert-file",
        Kind.STRING,
        "",
        "Certificate the server dials itself with.",
        inert=NO_DIALLING,
        in_file=False,
    ),
    Flag("client-key-file", Kind.STRING, "", "Key the server dials itself with.", inert=NO_DIALLING, in_file=False),
    Flag("client-crl-file", Kind.STRING, "", "Revoked client certificates (DER).", in_file=False),
    Flag("client-cert-allowed-hostname", Kind.WORDS, "", "Names (SAN) a client may have.", in_file=False),
    Flag("auto-tls", Kind.BOOL, "false", "Serve clients with a self-signed certificate.", in_file=False),
    Flag("peer-cert-file", Kind.STRING, "", "Certificate of the peer port.", in_file=False),
    Flag("peer-key-file", Kind.STRING, "", "Key of the peer port.", in_file=False),
    Flag("peer-client-cert-auth", Kind.BOOL, "false", "Demand certificates of peers.", in_file=False),
    Flag("peer-trusted-ca-file", Kind.STRING, "", "CA of peer certificates.", in_file=False),
    Flag("peer-client-cert-file", Kind.STRING, "", "Certificate to dial peers with.", in_file=False),
    Flag("peer-client-key-file", Kind.STRING, "", "Key to dial peers with.", in_file=False),
    Flag("peer-cert-allowed-cn", Kind.WORDS, "", "Common names a peer may have.", in_file=False),
    Flag("peer-cert-allowed-hostname", Kind.WORDS, "", "Names (SAN) a peer may have.", in_file=False),
    Flag("peer-auto-tls", Kind.BOOL, "false", "Self-signed certificates for peers.", in_file=False),
    Flag("self-signed-cert-validity", Kind.UINT, "1", "Years that self-signed certificates are good for."),
    Flag("peer-crl-file", Kind.STRING, "", "Revoked peer certificates (DER).", in_file=False),
    Flag("cipher-suites", Kind.WORDS, "", "TLS 1.2 suites to offer, by their IANA names."),
    Flag("tls-min-version", Kind.STRING, "TLS1.2", "Lowest TLS version: `TLS1.2` or `TLS1.3`."),
    Flag("tls-max-version", Kind.STRING, "", "Highest TLS version. Empty: the highest there is."),
    Flag("cors", Kind.ORIGINS, "*", "Origins whose web pages may call; `*` is all."),
    Flag("host-whitelist", Kind.WORD_SET, "*", "Host names that plain HTTP requests may use; `*` is all."),
    Flag(
        "encryption-key-file",
        Kind.STRING,
        "",
        "Keys for encryption at rest; not in etcd. Empty: systemd's credential `etcdpy.encryption-keys`, if any.",
    ),
)

_AUTH: Final = (
    Flag(
        "auth-token",
        Kind.STRING,
        "simple",
        "`simple`, `jwt,sign-method=..,pub-key=..,priv-key=..,ttl=..`, or empty where certificates alone tell users.",
    ),
    Flag("bcrypt-cost", Kind.UINT, "10", "Cost of password hashes, 4 to 31; one more doubles their time."),
    Flag("auth-token-ttl", Kind.UINT, "300", "Seconds a simple token lives after its last use."),
)

_MONITORING: Final = (
    Flag("enable-pprof", Kind.BOOL, "false", "Serve /debug/pprof.", inert="pprof is Go's; there is no /debug/pprof"),
    Flag("metrics", Kind.STRING, "basic", "`extensive` adds the histogram of how long calls take."),
    Flag("listen-metrics-urls", Kind.URLS, "", "Further places for /metrics and the health paths."),
)

_LOGGING: Final = (
    Flag("logger", Kind.STRING, "zap", "Only `zap`."),
    Flag("log-outputs", Kind.WORD_SET, "default", "`default`, `stderr`, `stdout`, `systemd/journal`, or files."),
    Flag("log-level", Kind.STRING, "info", "`debug`, `info`, `warn`, `error`, `panic` or `fatal`."),
    Flag("log-format", Kind.STRING, "json", "`json` or `console`."),
    Flag("enable-log-rotation", Kind.BOOL, "false", "Rotate the log; needs one file in --log-outputs."),
    Flag(
        "log-rotation-config-json",
        Kind.STRING,
        _ROTATION_DEFAULT,
        "maxsize in MB, maxage in days, maxbackups in files (0: no limit), localtime, compress.",
    ),
    Flag("warning-unary-request-duration", Kind.DURATION, "300ms", "A call that takes longer is logged."),
)

_TRACING: Final = (
    Flag("enable-distributed-tracing", Kind.BOOL, "false", "Export traces.", inert=TRACING),
    Flag("distributed-tracing-address", Kind.STRING, "localhost:4317", "Where traces go.", inert=TRACING),
    Flag("distributed-tracing-service-name", Kind.STRING, "etcd", "Service name in traces.", inert=TRACING),
    Flag("distributed-tracing-instance-id", Kind.STRING, "", "Instance id in traces.", inert=TRACING),
    Flag("distributed-tracing-sampling-rate", Kind.INT, "0", "Traces out of a million.", inert=TRACING),
)

_FEATURES: Final = (
    Flag("corrupt-check-time", Kind.DURATION, "0s", "How often members compare hashes. 0: never."),
    Flag("compact-hash-check-time", Kind.DURATION, "1m", "How often compaction hashes are compared."),
    Flag("compaction-batch-limit", Kind.INT, "0", "Revisions compacted in one go. 0: 1000."),
    Flag("compaction-sleep-interval", Kind.DURATION, "0s", "Pause between those. 0: 10ms."),
    Flag(
        "peer-skip-client-san-verification",
        Kind.BOOL,
        "false",
        "Do not match a peer's certificate with its address.",
        in_file=False,
    ),
    Flag("watch-progress-notify-interval", Kind.DURATION, "0s", "Pace of progress notices. 0: 10m. Least: 100ms."),
    Flag("warning-apply-duration", Kind.DURATION, "100ms", "A request that takes longer to apply is logged."),
    Flag(
        "bootstrap-defrag-threshold-megabytes",
        Kind.UINT,
        "0",
        "Defragment at start when that frees as many megabytes. 0: never.",
    ),
    Flag("max-learners", Kind.INT, "1", "Most learners in the cluster."),
    Flag("downgrade-check-time", Kind.DURATION, "5s", "How often the state of a downgrade is looked at."),
    Flag("snapshot-catchup-entries", Kind.UINT, "5000", "Log entries that stay after the log is cut."),
)

_BEYOND: Final = (
    Flag(
        "auto-space-reclaim",
        Kind.BOOL,
        "false",
        "Defragment by itself when the database is near its quota and compaction has left enough to give back.",
    ),
    Flag(
        "auto-alarm-disarm",
        Kind.BOOL,
        "false",
        "Disarm this member's NOSPACE alarm when its database is below nine tenths of the quota again.",
    ),
    Flag(
        "client-requests-per-second",
        Kind.UINT,
        "0",
        "Requests a second that one user, or one common name, may make of this member. 0: no limit.",
    ),
    Flag(
        "client-watches-per-second",
        Kind.UINT,
        "0",
        "Watches a second that one user, or one common name, may begin on this member. 0: no limit.",
    ),
    Flag("audit-log-file", Kind.STRING, "", "File that gets a line for each call that changes something. Empty: none."),
    Flag(
        "audit-log-keys",
        Kind.CHOICE,
        "plain",
        "How that file shows keys: `plain`, or `hash` for the start of their SHA-256.",
        choices=("plain", "hash"),
    ),
    Flag(
        "audit-log-max-megabytes",
        Kind.UINT,
        "100",
        "Size at which that file makes way for a new one; old ones are kept. 0: it grows.",
    ),
)

_UNSAFE: Final = (
    Flag("force-new-cluster", Kind.BOOL, "false", "Start as the only member, forgetting the others."),
    Flag("unsafe-no-fsync", Kind.BOOL, "false", "Never wait for the disk. Data is lost when the machine fails."),
)

_IGNORED: Final = tuple(
    Flag(name, Kind.IGNORED, "", "", in_file=False)
    for name in (
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "config",
        "force",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
        "snapshot",
        "v",
        "vv",
        "test.coverprofile",
        "test.outputdir",
    )
)

BY_GROUP: Final = dict(
    zip(
        GROUPS,
        (_MEMBER, _CLUSTERING, _SECURITY, _AUTH, _MONITORING, _LOGGING, _TRACING, _FEATURES, _BEYOND, _UNSAFE),
        strict=True,
    )
)

FLAGS: Final = {flag.name: flag for group in (*BY_GROUP.values(), _IGNORED) for flag in group}
"""Every flag by its name, the ignored ones included."""


def redacted(words: Sequence[str]) -> list[str]:
    """The command line with secret values blotted out, for the log."""
    secret = {f"{dash}{flag.name}" for flag in FLAGS.values() if flag.secret for dash in ("-", "--")}
    shown: list[str] = []
    hide_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide_next:
            shown.append("***")
        elif name in secret and equals:
            shown.append(f"{name}=***")
        else:
            shown.append(word)
        hide_next = word in secret and not hide_next
    return shown
