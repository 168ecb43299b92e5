"""The flags of `gateway start` and `grpc-proxy start`, under etcd's names and with its defaults."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from etcdpy.commandline import DURATION, INT, UINT, FlagError
from etcdpy.duration import NS_PER_SECOND
from etcdpy.limits import KEEPALIVE_INTERVAL_SECONDS_DEFAULT, KEEPALIVE_TIMEOUT_SECONDS_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterable


class Flag(NamedTuple):
    """One flag. `kind` is pflag's word for its type; spans are nanoseconds, lists are tuples."""

    name: str
    kind: str
    default: Any
    help: str


_ENDPOINTS: Final = ("127.0.0.1:2379",)
_LISTEN: Final = "127.0.0.1:23790"

GATEWAY: Final = (
    Flag("endpoints", "strings", _ENDPOINTS, "where the cluster is, separated by commas"),
    Flag("discovery-srv", "string", "", "domain whose SRV records list the cluster, in place of --endpoints"),
    Flag("discovery-srv-name", "string", "", "suffix of the service's name in those records"),
    Flag("insecure-discovery", "bool", False, "take every SRV record, whether its endpoint proves the domain or not"),
    Flag("listen-addr", "string", _LISTEN, "where to listen"),
    Flag("retry-delay", "duration", 60 * NS_PER_SECOND, "how often an endpoint that is down is tried again"),
    Flag("trusted-ca-file", "string", "", "authorities by which endpoints found by --discovery-srv are checked"),
)

GRPC_PROXY: Final = (
    Flag("endpoints", "strings", _ENDPOINTS, "where the cluster is, separated by commas"),
    Flag("endpoints-auto-sync-interval", "duration", 0, "how often members replace --endpoints; 0: never"),
    Flag("discovery-srv", "string", "", "domain whose SRV records list the cluster, in place of --endpoints"),
    Flag("discovery-srv-name", "string", "", "suffix of the service's name in those records"),
    Flag("insecure-discovery", "bool", False, "take every SRV record, whether its endpoint proves the domain or not"),
    Flag("listen-addr", "string", _LISTEN, "where to listen"),
    Flag("metrics-addr", "string", "", "URL of one more listener, for /metrics and /health"),
    Flag("advertise-client-url", "string", _LISTEN, "address under which clients find this proxy in the member list"),
    Flag("resolver-prefix", "string", "", "keys under which proxies of one cluster tell each other their addresses"),
    Flag("resolver-ttl", "int", 0, "seconds after which the address of a proxy that is gone goes too"),
    Flag("namespace", "string", "", "what every key of every request is put behind, and answers are freed of"),
    Flag("enable-pprof", "bool", False, "serve runtime profiles under /debug/pprof/ (no effect: Go's profiles)"),
    Flag("data-dir", "string", "default.proxy", "where --auto-tls keeps its certificate"),
    Flag("max-send-bytes", "int", 1_572_864, "largest request that is sent to the cluster"),
    Flag("max-recv-bytes", "int", 2**31 - 1, "largest answer that is taken from the cluster"),
    Flag("max-concurrent-streams", "uint32", 2**32 - 1, "calls that a client may have open at a time"),
    Flag("dial-keepalive-time", "duration", 0, "quiet time before a ping to the cluster; 0: none"),
    Flag("dial-keepalive-timeout", "duration", 20 * NS_PER_SECOND, "how long to wait for the answer to that ping"),
    Flag("permit-without-stream", "bool", False, "send those pings while there is no call too"),
    Flag("grpc-keepalive-min-time", "duration", 5 * NS_PER_SECOND, "clients that ping more often are sent away"),
    Flag(
        "grpc-keepalive-interval",
        "duration",
        int(KEEPALIVE_INTERVAL_SECONDS_DEFAULT) * NS_PER_SECOND,
        "quiet time before a ping to a client; 0: none",
    ),
    Flag(
        "grpc-keepalive-timeout",
        "duration",
        int(KEEPALIVE_TIMEOUT_SECONDS_DEFAULT) * NS_PER_SECOND,
        "how long to wait for the answer to that ping",
    ),
    Flag("cert", "string", "", "certificate shown to the cluster; it must have no common name"),
    Flag("key", "string", "", "key of --cert"),
    Flag("cacert", "string", "", "authorities by which the cluster's certificates are checked"),
    Flag("insecure-skip-tls-verify", "bool", False, "take any certificate of the cluster (for tests alone)"),
    Flag("cert-file", "string", "", "certificate shown to clients"),
    Flag("key-file", "string", "", "key of --cert-file"),
    Flag("trusted-ca-file", "string", "", "authorities by which clients' certificates are checked"),
    Flag("client-crl-file", "string", "", "revoked certificates of clients"),
    Flag("auto-tls", "bool", False, "serve clients with a certificate made at the first start"),
    Flag("self-signed-cert-validity", "uint", 1, "years for which that certificate holds"),
    Flag("listen-cipher-suites", "strings", (), "TLS 1.2 suites for clients, by IANA's names"),
    Flag("tls-min-version", "string", "TLS1.2", "oldest TLS for clients: TLS1.2, TLS1.3"),
    Flag("tls-max-version", "string", "", "newest TLS for clients: TLS1.2, TLS1.3"),
    Flag("experimental-leasing-prefix", "string", "", "keys that record which proxy owns a key"),
    Flag("experimental-serializable-ordering", "bool", False, "let no read show an older revision than one before it"),
    Flag("experimental-enable-grpc-logging", "bool", False, "log every request and its answer, without their values"),
    Flag("debug", "bool", False, "log at debug level"),
)


def _strings(text: str) -> tuple[str, ...]:
    """One flag's text as pflag's StringSlice splits it: a line of CSV."""
    try:
        return tuple(next(csv.reader([text], strict=True), ()))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _uint32(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if value >= 1 << 32:
        text = f'strconv.ParseUint: parsing "{value}": value out of range'
        raise FlagError(f'invalid argument "{value}" for "{param.opts[0]}" flag: {text}', ctx)
    return value


def _lists(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    given = ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
    return tuple(part for text in value for part in _strings(text)) if given else value


def options(flags: Iterable[Flag]) -> list[click.Option]:
    """The flags as click takes them."""
    return [_option(flag) for flag in flags]


def _option(flag: Flag) -> click.Option:
    names = (f"--{flag.name}", flag.name.replace("-", "_"))
    if flag.kind == "bool":
        return click.Option(names, is_flag=True, default=False, help=flag.help)
    if flag.kind == "strings":
        return click.Option(names, multiple=True, default=flag.default, callback=_lists, help=flag.help, metavar="LIST")
    kind = {"duration": DURATION, "int": INT, "uint": UINT, "uint32": UINT, "string": click.STRING}[flag.kind]
    check = _uint32 if flag.kind == "uint32" else None
    return click.Option(names, type=kind, default=flag.default, callback=check, help=flag.help)
