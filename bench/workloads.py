"""The workloads of docs/bench: what each sends, how much, and what etcdpy is to reach beside etcd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench import failover, saving, spread
from bench.load import Load, Target, run_benchmark, run_h2load
from bench.users import BENCH_USER
from etcdpy.proto import rpc_pb2
from tests.support.client import Client
from tests.support.reference import build_reference
from tests.support.users import As

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.members import Member

VALUE_BYTES: Final = 256
USERS_SHARE_MIN: Final = 0.85
LIST_PREFIX: Final = b"/registry/pods/"
LIST_KEYS: Final = 10_000
LIST_VALUE_BYTES: Final = 1024
KEY: Final = spread.key(0)
"""The one that is asked for again and again."""
_CONNECTIONS_CLIENTS: Final = ("--conns=100", "--clients=1000")


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table. `total` requests in a full run; a quick one does `quick_total`."""

    name: str
    what: str
    total: int
    quick_total: int
    send: Callable[[Any, int], Load]
    """Takes a Member, or with several members a Cluster, and the number of requests."""
    ratio_min: float
    """What etcdpy's rate is to be, at least, times etcd's."""
    revisions: int | None = 1
    """Revisions that one request makes: shows that the requests did what they should. None: cannot be said."""
    answer_bytes_min: int = 0
    """What every answer carries at least: tells a value from a gRPC error, which h2load takes for a success."""
    members: int = 1
    rounds: int | None = None
    """Where the usual number is too small for a median."""
    tls: bool = False
    prepare: Callable[[Client], None] | None = None
    encrypted: bool = False
    """Both sides are etcdpy, the second one with encryption at rest: etcd has none to compare with."""
    users_on: str = ""
    """With users switched on: the load comes from one that is not root. Names the workload without, which runs beside
    it in each round: of that rate the same server is to keep USERS_SHARE_MIN."""
    p99_no_worse: bool = False
    server_us_max: float | None = None


def _put_arguments(*load: str) -> list[str]:
    return [
        *load,
        *("put", "--key-size=8", f"--val-size={VALUE_BYTES}"),
        *("--sequential-keys", "--key-space-size=1000000"),
    ]


def _put_one_client(target: Target, total: int) -> Load:
    return run_benchmark(build_reference("benchmark"), target, _put_arguments("--conns=1", "--clients=1"), total)


def put_many_clients(target: Target, total: int) -> Load:
    """W2's load: 1,000 clients on 100 connections."""
    return run_benchmark(build_reference("benchmark"), target, _put_arguments(*_CONNECTIONS_CLIENTS), total)


def _put_as_user(target: Target, total: int) -> Load:
    arguments = _put_arguments(f"--user={BENCH_USER}:{BENCH_USER}", *_CONNECTIONS_CLIENTS)
    return run_benchmark(build_reference("benchmark"), target, arguments, total)


def _put_h2load(member: Member, total: int) -> Load:
    message = rpc_pb2.PutRequest(key=b"h2load-key", value=b"v" * VALUE_BYTES).SerializeToString()
    return run_h2load(member, "/etcdserverpb.KV/Put", [message], total, connections=50, streams=20)


def _store_spread_keys(client: Client) -> None:
    _store(client, [(spread.key(number), VALUE_BYTES) for number in range(spread.KEYS)])


def _store(client: Client, keys: list[tuple[bytes, int]]) -> None:
    """Keys with values of these sizes, by transactions of 100."""
    for start in range(0, len(keys), 100):
        client.txn(
            success=[
                rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=b"v" * size))
                for key, size in keys[start : start + 100]
            ]
        )


def _range_spread(*, serializable: bool) -> Callable[[Member, int], Load]:
    def send(member: Member, total: int) -> Load:
        return spread.run_spread(member, total, connections=50, streams=20, serializable=serializable)

    return send


def _range_spread_as_user(*, serializable: bool) -> Callable[[Member, int], Load]:
    def send(member: Member, total: int) -> Load:
        with Client.of(member) as client:
            token = As(client).log_in(BENCH_USER, BENCH_USER).token
        return spread.run_spread(member, total, connections=50, streams=20, serializable=serializable, token=token)

    return send


def range_one_key(consistency: str) -> Callable[[Target, int], Load]:
    """Ranges of `KEY` by 1,000 clients on 100 connections; consistency is l or s."""

    def send(target: Target, total: int) -> Load:
        arguments = [*_CONNECTIONS_CLIENTS, "range", KEY.decode(), f"--consistency={consistency}"]
        return run_benchmark(build_reference("benchmark"), target, arguments, total)

    return send


def _store_list(client: Client) -> None:
    """10,000 keys of 1 KB."""
    _store(client, [(LIST_PREFIX + b"pod-%08d" % number, LIST_VALUE_BYTES) for number in range(LIST_KEYS)])
    found = client.range(LIST_PREFIX, LIST_PREFIX[:-1] + b"0", count_only=True).count
    assert found == LIST_KEYS, f"{found} keys stored"


def _list(member: Member, total: int) -> Load:
    start, end = LIST_PREFIX.decode(), LIST_PREFIX.decode()[:-1] + "0"
    return run_benchmark(build_reference("benchmark"), member, ["--conns=1", "--clients=1", "range", start, end], total)


WORKLOADS: Final = [
    Workload("W1", "put, 1 client", 6_000, 1_500, _put_one_client, 1.2),
    Workload("W2", "put, 100 connections, 1,000 clients", 150_000, 30_000, put_many_clients, 2.0, p99_no_worse=True),
    Workload("W2-tls", "the same over mutual TLS", 80_000, 20_000, put_many_clients, 3.0, tls=True),
    Workload(
        "W2-h2load", "put by h2load, 50 connections x 20 streams", 200_000, 40_000, _put_h2load, 2.5, server_us_max=28.0
    ),
    Workload(
        "W3-lin",
        "range of one key of 50,000, linearizable, 50 connections x 20 streams",
        300_000,
        60_000,
        _range_spread(serializable=False),
        1.5,
        revisions=0,
        answer_bytes_min=VALUE_BYTES,
        prepare=_store_spread_keys,
    ),
    Workload(
        "W3-ser",
        "the same, serializable",
        300_000,
        60_000,
        _range_spread(serializable=True),
        1.5,
        revisions=0,
        answer_bytes_min=VALUE_BYTES,
        prepare=_store_spread_keys,
    ),
    Workload(
        "W3-lin-go",
        "range of always the same key, linearizable, 100 connections, 1,000 clients",
        150_000,
        30_000,
        range_one_key("l"),
        1.0,
        revisions=0,
        prepare=_store_spread_keys,
    ),
    Workload(
        "W3-ser-go",
        "the same, serializable",
        150_000,
        30_000,
        range_one_key("s"),
        1.0,
        revisions=0,
        prepare=_store_spread_keys,
    ),
    Workload("W2-users", "W2 with users switched on", 150_000, 30_000, _put_as_user, 2.0, users_on="W2"),
    Workload(
        "W3-lin-users",
        "W3-lin with users switched on",
        300_000,
        60_000,
        _range_spread_as_user(serializable=False),
        1.5,
        revisions=0,
        answer_bytes_min=VALUE_BYTES,
        prepare=_store_spread_keys,
        users_on="W3-lin",
    ),
    Workload(
        "W3-ser-users",
        "W3-ser with users switched on",
        300_000,
        60_000,
        _range_spread_as_user(serializable=True),
        1.5,
        revisions=0,
        answer_bytes_min=VALUE_BYTES,
        prepare=_store_spread_keys,
        users_on="W3-ser",
    ),
    Workload(
        "W4", "list of 10,000 keys of 1 KB, one shot, 1 client", 60, 15, _list, 1.5, revisions=0, prepare=_store_list
    ),
    Workload("W2-enc", "W2 with encryption at rest", 150_000, 30_000, put_many_clients, 0.8, encrypted=True),
    Workload(
        "W4-enc",
        "W4 with encryption at rest",
        60,
        15,
        _list,
        0.6,
        revisions=0,
        prepare=_store_list,
        encrypted=True,
    ),
    Workload(
        "W12-save",
        "etcdctl snapshot save of 100 MB",
        5,
        2,
        saving.save_row,
        1.0,
        revisions=0,
        prepare=saving.store_row,
    ),
    Workload(
        "W12-restore",
        "snapshot restore of that by each one's tool, and a member's start on it",
        3,
        1,
        saving.restore_row,
        1.0,
        revisions=0,
        prepare=saving.store_row,
    ),
    Workload("W11-put", "put, 3 members, 1,000 clients over all", 60_000, 15_000, put_many_clients, 2.5, members=3),
    Workload(
        "W11-tls",
        "the same, mutual TLS between members and with clients",
        40_000,
        10_000,
        put_many_clients,
        3.0,
        members=3,
        tls=True,
    ),
    Workload("W11-put1", "put, 3 members, 1 client of the leader", 4_000, 1_000, _put_one_client, 1.0, members=3),
    Workload(
        "W11-range",
        "range of always the same key, linearizable, 3 members, 1,000 clients over all",
        100_000,
        20_000,
        range_one_key("l"),
        1.5,
        revisions=0,
        members=3,
        prepare=_store_spread_keys,
    ),
    Workload(
        "W11-kill",
        "kill -9 of the leader of 3 members, until the first acknowledged put",
        1,
        1,
        failover.kill_leader,
        1.0,
        revisions=None,
        members=3,
        rounds=20,
    ),
]
