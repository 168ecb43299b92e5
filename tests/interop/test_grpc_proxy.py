"""`grpc-proxy start` beside real etcd's: what etcdctl and clients see through either, on members of both kinds."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from etcdpy.proxy.flags import GRPC_PROXY
from tests.interop.test_gateway_start import assert_same_flags, outcome
from tests.support.certificates import TestAuthority, nameless
from tests.support.client import CALL_SECONDS_MAX, Client, prefix_end, wait_until
from tests.support.cluster import Cluster
from tests.support.members import KINDS, Member, TlsFiles, free_port
from tests.support.proxies import Proxy
from tests.support.reference import reference_binary
from tests.support.transcripts import Side, differences, scripts
from tests.support.users import FAST_HASHES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind

pytestmark = pytest.mark.reference

Proxies = dict["Kind", Proxy]


@contextlib.contextmanager
def proxies_before(endpoints: list[str], directory: Path, *flags: str) -> Iterator[Proxies]:
    """One of each kind before the same members."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(Proxy(kind, "grpc-proxy", directory, endpoints, flags)) for kind in KINDS}


@pytest.fixture(scope="module")
def proxies(member: Member, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    with proxies_before([member.endpoint], tmp_path_factory.mktemp("proxies")) as found:
        yield found


SCRIPTS = scripts()


@pytest.mark.parametrize(
    ("upstream", "script"),
    [
        *(("etcd", script) for script in ("keys", "transactions", "leases", "permissions", "cluster")),
        ("etcdpy", "leases"),
        ("etcdpy", "keys"),
    ],
)
def test_etcdctl_says_the_same(upstream: Kind, script: str, tmp_path: Path) -> None:
    """Each proxy has a member of its own, as new as the other's."""
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for kind in KINDS:
            directory = tmp_path / kind
            member = stack.enter_context(Member(upstream, directory, flags=[FAST_HASHES]))
            proxy = stack.enter_context(Proxy(kind, "grpc-proxy", directory, [member.endpoint]))
            sides[kind] = Side("etcdctl", member, directory, proxy.endpoint)
        found = differences(SCRIPTS[script], sides.pop("etcd"), sides)
    assert not found, "\n".join(found)


def test_the_flags_are_etcds() -> None:
    assert_same_flags("grpc-proxy", GRPC_PROXY)


@pytest.mark.parametrize(
    "flags",
    [
        ["--resolver-prefix=p"],
        ["--resolver-ttl=5"],
        ["--resolver-prefix=p", "--resolver-ttl=5", "--advertise-client-url="],
        ["--auto-tls", "--self-signed-cert-validity=0"],
        ["--tls-min-version=TLS1.0"],
        ["--tls-max-version=nonsense"],
        ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        ["--tls-min-version=TLS1.3", "--listen-cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"],
        ["--max-concurrent-streams=4294967296"],
        ["--namespace"],
    ],
)
def test_what_is_refused(flags: list[str]) -> None:
    assert outcome("etcdpy", flags, "grpc-proxy") == outcome("etcd", flags, "grpc-proxy")


def test_a_port_that_is_taken(member: Member, proxies: Proxies) -> None:
    """Said in a line, by either."""
    for kind in KINDS:
        flags = [f"--endpoints={member.endpoint}", f"--listen-addr={proxies[kind].endpoint}"]
        status, told = outcome(kind, flags, "grpc-proxy")
        assert status == 1
        assert told.startswith(f"listen tcp {proxies[kind].endpoint}:")


# --- watches ---


def watchers_of(member: Member) -> float:
    return member.metric("etcd_debugging_mvcc_watcher_total")


def test_watchers_of_one_range_become_one(member: Member, proxies: Proxies, prefix: bytes) -> None:
    """From now on and from the past, on one stream and on many."""
    before = watchers_of(member)
    with Client(proxies["etcdpy"].endpoint) as client, contextlib.ExitStack() as stack:
        first = client.put(prefix + b"k", b"0").header.revision
        streams = [stack.enter_context(client.watching()) for _ in range(4)]
        for stream in streams:
            for number in range(5):
                stream.create(prefix, prefix_end(prefix), start_revision=first if number == 4 else 0)
        for stream in streams:
            created = [stream.next() for _ in range(5)]
            assert sorted(answer.watch_id for answer in created if answer.created) == list(range(5))
        past = [stream.next() for stream in streams]
        assert [(answer.watch_id, answer.events[0].kv.value) for answer in past] == [(4, b"0")] * 4
        # A group of five or more stays where it was made, as on etcd: at most one for each stream's first burst.
        wait_until(lambda: watchers_of(member) - before <= 4)
        client.put(prefix + b"k", b"1")
        for stream in streams:
            answers = [stream.next() for _ in range(5)]
            assert sorted(answer.watch_id for answer in answers) == list(range(5))
            assert {answer.events[0].kv.value for answer in answers} == {b"1"}
    wait_until(lambda: watchers_of(member) == before)


def test_late_watchers_join_one_by_one(member: Member, proxies: Proxies, prefix: bytes) -> None:
    before = watchers_of(member)
    with Client(proxies["etcdpy"].endpoint) as client, client.watching() as stream:
        for number in range(20):
            stream.create(prefix)
            assert stream.next().watch_id == number
            wait_until(lambda: watchers_of(member) == before + 1)
        client.put(prefix, b"v")
        assert {stream.next().watch_id for _ in range(20)} == set(range(20))
        for number in range(20):
            stream.cancel(number)
            assert stream.next().canceled
        wait_until(lambda: watchers_of(member) == before)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prev_kv": True},
        {"filters": [rpc_pb2.WatchCreateRequest.NOPUT]},
        {"filters": [rpc_pb2.WatchCreateRequest.NODELETE]},
        {"start_revision": -1},
        {"range_end": b"!"},
    ],
)
def test_a_watcher_sees_the_same_through_both(proxies: Proxies, prefix: bytes, fields: dict[str, Any]) -> None:
    seen = []
    with Client(proxies["etcd"].endpoint) as client:
        first = client.put(prefix, b"0").header.revision
        client.put(prefix, b"1")
        client.delete(prefix)
        client.put(prefix, b"2")
    for kind in KINDS:
        with Client(proxies[kind].endpoint) as client, client.watching() as stream:
            stream.create(prefix, **{"start_revision": first, **fields})
            answers = [stream.next()]
            if not answers[0].canceled:
                answers.append(stream.next())
            seen.append([_comparable(answer) for answer in answers])
    assert seen[0] == seen[1]


def _comparable(answer: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse:
    answer.header.ClearField("raft_term")
    return answer


def test_what_is_compacted_is_told(member: Member, proxies: Proxies, prefix: bytes) -> None:
    told = []
    with Client.of(member) as client:
        revision = [client.put(prefix, b"v") for _ in range(3)][-1].header.revision
        client.compact(revision)
    for kind in KINDS:
        with Client(proxies[kind].endpoint) as client, client.watching() as stream:
            stream.create(prefix, start_revision=1)
            answer = stream.next()
            while not answer.canceled:
                answer = stream.next()
            told.append((answer.compact_revision, answer.created))
    assert told[1] == told[0] == (revision, False)


def test_a_killed_member_is_not_noticed(kind: Kind, tmp_path: Path) -> None:
    """Its clients go on at the others: watchers see each revision once, puts and leases succeed."""
    with (
        Cluster([kind] * 3, tmp_path / "cluster") as cluster,
        proxies_before([member.endpoint for member in cluster.members], tmp_path) as proxies,
        contextlib.ExitStack() as stack,
    ):
        clients = {kind: stack.enter_context(Client(proxy.endpoint)) for kind, proxy in proxies.items()}
        streams = {kind: stack.enter_context(client.watching()) for kind, client in clients.items()}
        for stream in streams.values():
            stream.create(b"k")
            assert stream.next().created
        lease = clients["etcdpy"].grant(60).ID
        revisions = [clients["etcdpy"].put(b"k", b"before").header.revision]
        victim = cluster.leader()
        victim.kill()
        cluster.leader(cluster.others(victim))
        wait_until(lambda: put_or_nothing(clients["etcdpy"]), 10)
        revisions.append(clients["etcdpy"].put(b"k", b"after").header.revision)
        assert clients["etcdpy"].keep_alive(lease)[0].TTL == 60
        for stream in streams.values():
            seen = [event.kv.mod_revision for event in stream.events(len(revisions), 10)]
            assert seen == revisions


def put_or_nothing(client: Client) -> bool:
    """Whether a put got through; one that was lost on its way may have been done, so its key is another."""
    try:
        client.put(b"other", b"v")
    except grpc.RpcError:
        return False
    return True


# --- leases ---


def test_renewals_share_a_stream_upstream(member: Member, proxies: Proxies) -> None:
    name = 'grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease"'
    sample = f'{name},grpc_type="bidi_stream"}}'
    with Client(proxies["etcdpy"].endpoint) as client:
        leases = [client.grant(60).ID for _ in range(5)]
        before = member.metric(sample, default=0)
        hold = client.lease.LeaseKeepAlive(_slow(leases[0]))
        assert next(iter(hold)).ID == leases[0]
        for _ in range(3):
            assert [answer.ID for answer in client.keep_alive(*leases)] == leases
        assert client.keep_alive(4711)[0].TTL == 0
        hold.cancel()  # type: ignore[no-untyped-call]
        assert member.metric(sample) == before + 1


def _slow(lease: int) -> Iterator[rpc_pb2.LeaseKeepAliveRequest]:
    """One renewal, and then silence until the call ends."""
    yield rpc_pb2.LeaseKeepAliveRequest(ID=lease)
    threading.Event().wait(20)


# --- the cache ---


def test_serializable_ranges_come_from_the_cache(member: Member, proxies: Proxies, prefix: bytes) -> None:
    proxy = proxies["etcdpy"]
    with Client(proxy.endpoint) as client, Client.of(member) as beside:
        client.put(prefix, b"1")
        for _ in range(2):
            assert client.range(prefix, serializable=True).kvs[0].value == b"1"
        beside.put(prefix, b"2")
        assert client.range(prefix, serializable=True).kvs[0].value == b"1"
        assert client.range(prefix).kvs[0].value == b"2"
        assert client.range(prefix, serializable=True).kvs[0].value == b"2"
        client.put(prefix, b"3")
        assert client.range(prefix, serializable=True).kvs[0].value == b"3"
        client.txn(success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=prefix, value=b"4"))])
        assert client.range(prefix, serializable=True).kvs[0].value == b"4"
        client.delete(prefix)
        assert not client.range(prefix, serializable=True).kvs
    pages = {path: page(f"http://{proxy.endpoint}{path}") for path in ("/proxy/metrics", "/metrics", "/health")}
    assert "etcd_grpc_proxy_cache_hits_total" in pages["/proxy/metrics"]
    assert "etcd_mvcc_put_total" in pages["/metrics"]
    assert json.loads(pages["/health"]) == {"health": "true", "reason": ""}


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_proxies_have_etcds_metrics(proxies: Proxies) -> None:
    def names(kind: Kind) -> set[str]:
        text = page(f"http://{proxies[kind].endpoint}/proxy/metrics")
        return {line.partition(" ")[0] for line in text.splitlines() if line.startswith("etcd_grpc_proxy_")}

    assert names("etcdpy") == names("etcd")


# --- namespaces and names ---


def test_a_namespace(member: Member, tmp_path: Path, prefix: bytes) -> None:
    """Keys, transactions, watchers and leases look the same through both; in the cluster they have the prefix."""
    seen = {}
    with proxies_before([member.endpoint], tmp_path, f"--namespace={prefix.decode()}") as proxies:
        for kind in KINDS:
            with Client(proxies[kind].endpoint) as client, client.watching() as stream:
                stream.create(b"k", b"\0")
                assert stream.next().created
                lease = client.grant(60).ID
                client.put(b"k", b"v", lease=lease)
                get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
                answer = client.txn(success=[get])
                keys = client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)).keys
                seen[kind] = (
                    [record.key for record in answer.responses[0].response_range.kvs],
                    [event.kv.key for event in stream.events(1)],
                    list(keys),
                    client.delete(b"\0", b"\0", prev_kv=True).prev_kvs[0].key,
                )
        with Client(proxies["etcdpy"].endpoint) as client, Client.of(member) as beside:
            lock = client.lock.Lock(lock_pb2.LockRequest(name=b"l", lease=lease), timeout=CALL_SECONDS_MAX)
            assert [record.key for record in client.range(lock.key).kvs] == [lock.key]
            assert beside.range(prefix + lock.key).kvs
            campaign = election_pb2.CampaignRequest(name=b"e", lease=lease, value=b"me")
            leader = client.election.Campaign(campaign, timeout=CALL_SECONDS_MAX).leader
            assert (leader.name, leader.key[:2]) == (b"e", b"e/")
            asked = election_pb2.LeaderRequest(name=b"e")
            assert client.election.Leader(asked, timeout=CALL_SECONDS_MAX).kv.key == leader.key
            observed = next(iter(client.election.Observe(asked, timeout=CALL_SECONDS_MAX)))
            assert observed.kv.key == leader.key
            client.election.Resign(election_pb2.ResignRequest(leader=leader), timeout=CALL_SECONDS_MAX)
            assert not beside.range(prefix + leader.key).kvs
    assert seen["etcdpy"] == seen["etcd"] == ([b"k"], [b"k"], [b"k"], b"k")


def test_proxies_of_both_kinds_find_each_other(member: Member, tmp_path: Path, prefix: bytes) -> None:
    flags = [f"--resolver-prefix=proxies{prefix.decode()}x", "--resolver-ttl=3"]
    with contextlib.ExitStack() as stack:
        proxies = [
            stack.enter_context(
                Proxy(kind, "grpc-proxy", tmp_path, [member.endpoint], [*flags, f"--advertise-client-url={kind}:1"])
            )
            for kind in (*KINDS, "etcdpy")
        ]
        clients = [stack.enter_context(Client(proxy.endpoint)) for proxy in proxies]

        def listed(client: Client) -> list[str]:
            members = client.cluster.MemberList(rpc_pb2.MemberListRequest(), timeout=CALL_SECONDS_MAX).members
            return sorted(url for each in members for url in each.clientURLs)

        for client in clients:
            wait_until(lambda client=client: listed(client) == ["etcd:1", "etcdpy:1"], 10)  # type: ignore[misc]


# --- users and TLS ---


def test_users(kind: Kind, tmp_path: Path) -> None:
    """Tokens pass; nobody sees from the cache, or by the watcher of another, what he may not read."""

    def etcdctl(endpoint: str, *words: str) -> str:
        command = [str(reference_binary("etcdctl")), f"--endpoints={endpoint}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    with (
        Member(kind, tmp_path / "member", flags=[FAST_HASHES]) as member,
        Proxy("etcdpy", "grpc-proxy", tmp_path, [member.endpoint]) as proxy,
    ):
        for line in ("user add root:pw", "user add u:pw", "put secret x", "auth enable"):
            etcdctl(proxy.endpoint, *line.split())
        root, other = "--user=root:pw", "--user=u:pw"
        assert etcdctl(proxy.endpoint, root, "get", "secret", "--consistency=s") == "secret\nx\n"
        assert "permission denied" in etcdctl(proxy.endpoint, other, "get", "secret", "--consistency=s")
        assert "user name is empty" in etcdctl(proxy.endpoint, "get", "secret", "--consistency=s")
        command = [str(reference_binary("etcdctl")), f"--endpoints={proxy.endpoint}", root, "watch", "secret"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            try:
                wait_until(lambda: watchers_of(member) >= 1)
                assert "permission denied" in etcdctl(proxy.endpoint, other, "watch", "secret")
                etcdctl(proxy.endpoint, root, "put", "secret", "y")
                assert watching.stdout is not None
                assert [watching.stdout.readline() for _ in range(3)] == ["PUT\n", "secret\n", "y\n"]
            finally:
                watching.terminate()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("authority"))


def test_tls_on_both_sides(kind: Kind, authority: TestAuthority, tmp_path: Path) -> None:
    server, named = authority.issue("server", "server"), authority.issue("client", "somebody")
    files = TlsFiles(*map(Path, (authority.path, server.cert, server.key, named.cert, named.key)))
    cert, key = nameless(authority, tmp_path)
    clients = [f"--cert-file={server.cert}", f"--key-file={server.key}", f"--trusted-ca-file={authority.path}"]
    cluster = [f"--cert={cert}", f"--key={key}"]
    with Member(kind, tmp_path / "member", tls=files) as member:
        for verified in ([f"--cacert={authority.path}"], ["--insecure-skip-tls-verify"]):
            with (
                proxies_before([member.endpoint], tmp_path, *clients, *cluster, *verified) as proxies,
                contextlib.ExitStack() as stack,
            ):
                for proxy in proxies.values():
                    client = stack.enter_context(Client(proxy.endpoint, files))
                    client.put(b"k", b"v")
                    assert client.range(b"k").kvs[0].value == b"v"
                    with pytest.raises(grpc.RpcError), Client(proxy.endpoint) as plain:
                        plain.put(b"k", b"v")
        as_somebody = ["--cert", named.cert, "--key", named.key, f"--endpoints={member.endpoint}"]
        assert {outcome(each, as_somebody, "grpc-proxy")[0] for each in KINDS} == {1}
        assert "cert has non empty Common Name (somebody)" in outcome("etcdpy", as_somebody, "grpc-proxy")[1]


def test_a_certificate_of_its_own_making(member: Member, tmp_path: Path) -> None:
    flags = ["--auto-tls", f"--data-dir={tmp_path / 'data'}"]
    with Proxy("etcdpy", "grpc-proxy", tmp_path, [member.endpoint], flags) as proxy:
        made = tmp_path / "data" / "fixtures" / "proxy" / "cert.pem"
        context = ssl.create_default_context(cafile=str(made))
        with urllib.request.urlopen(f"https://{proxy.endpoint}/health", timeout=5, context=context) as answer:
            assert json.load(answer)["health"] == "true"


def test_the_flags_that_are_seldom_set(member: Member, tmp_path: Path, prefix: bytes) -> None:
    """What is logged, the second listener, endpoints from the member list, and what has no effect."""
    metrics = f"http://127.0.0.1:{free_port()}"
    flags = [
        "--experimental-enable-grpc-logging",
        "--experimental-serializable-ordering",
        "--enable-pprof",
        f"--metrics-addr={metrics}",
        "--endpoints-auto-sync-interval=50ms",
        "--advertise-client-url=",
    ]
    # Another name for the member, so that the member list has something to replace.
    endpoint = member.endpoint.replace("127.0.0.1", "localhost")
    with Proxy("etcdpy", "grpc-proxy", tmp_path, [endpoint], flags) as proxy, Client(proxy.endpoint) as client:
        client.put(prefix, b"secret value")
        listed = client.cluster.MemberList(rpc_pb2.MemberListRequest(), timeout=CALL_SECONDS_MAX)
        assert [list(each.clientURLs) for each in listed.members] == [[member.client_url]]
        wait_until(lambda: "etcd_mvcc_put_total" in page(f"{metrics}/metrics"))
        with client.watching() as stream:
            stream.create(prefix, start_revision=1)
            assert stream.next().created
            assert client.range(prefix).kvs[0].value == b"secret value"
        log = proxy.log_text()
        assert log.count("this setting has no effect here") == 1
        assert '"grpc-code":"OK"' in log
        assert "secret" not in log
        with pytest.raises(urllib.error.HTTPError, match="503"):
            page(f"{metrics}/proxy/health")
