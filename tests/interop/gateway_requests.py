# ruff: noqa: E501 - a table of requests, several on a line
"""Requests for the JSON gateway, each to be answered alike by real etcd and by etcdpy: valid ones, edges, nonsense."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = self.body if len(self.body) < 60 else self.body[:57] + b"..."
        return f"{self.method} {self.path} {shown!r} {self.headers or ''}"


def b64(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def asked(path: str, request: Any, **headers: str) -> Asked:
    """A request given as what its JSON says."""
    return Asked(path, json.dumps(request).encode(), headers=headers)


FOO: Final = b64("foo")
RANGE, PUT, DELETE, TXN = "/v3/kv/range", "/v3/kv/put", "/v3/kv/deleterange", "/v3/kv/txn"

# --- JSON that is none, and messages that are none: all for Range, whose fields have every kind ---

BODIES: Final = [
    b"", b" \n\t ", b"{}", b"null", b"true", b"tru", b"truex", b"nul", b"fals", b"falze", b"nil", b'"foo"', b'"foo', b"1", b"01",
    b"-", b"-x", b"1.", b"1.x", b"1e", b"1ex", b"1e+", b"1.5", b"[", b"[]", b"[1,]", b"[1 2]", b"[1", b"{", b"{,}", b"{1}",
    b'{"key"', b'{"key":', b'{"key":}', b'{"key":1,}', b'{"key" 1}', b'{"key":"a" "b"}', b'{"key":"a",}', b'{"key":"a",,}',
    b"{'key':1}", b'{key:1}', b'{"key":"\x01"}', b'{"key":"\\x"}', b'{"key":"\\u12"}', b'{"key":"\\u12G4"}', b'{"key":"\n"}',
    b'{"key":"Zm9v"}garbage', b'{"key":"Zm9v"} {"key":"YQ=="}', b'{"key":"Zm9v"}]', b"\xef\xbb\xbf{}", b"\xff", b"\x00", b"\x7f",
    b"\xc3\xa4", b"\xa0", b"\xad", b"<a>", b"&", b"'", b"\\", b"{\"key\":\x07}", b"{\"key\":NaN}", b"{\"key\":Infinity}",
    # bytes
    b'{"key":"Zm9v"}', b'{"key":"Zm8"}', b'{"key":"Zm8="}', b'{"key":"Zm8=="}', b'{"key":"Zg"}', b'{"key":"Zg="}', b'{"key":"Zg=="}',
    b'{"key":"Z"}', b'{"key":"Zm9v\\n"}', b'{"key":"Zm\\n9v\\r\\n\\n"}', b'{"key":"-_-_"}', b'{"key":"+/+/"}', b'{"key":"-/-/"}',
    b'{"key":"=aaa"}', b'{"key":"a=aa"}', b'{"key":"####"}', b'{"key":"Zm 9"}', b'{"key":"\\u005am9v"}', b'{"key":1}', b'{"key":true}',
    b'{"key":[]}', b'{"key":{}}', b'{"key":null}', b'{"key":["Zm9v"]}', b'{"key":""}', b'{"key":"Zm9v\xff"}', b'{"key":"\xed\xa0\x80"}',
    b'{"key":"\\ud800"}', b'{"key":"\\ud800\\u0041"}', b'{"key":"\\udc00abcdef"}', b'{"key":"\\ud83d\\ude00"}',
    # numbers
    *[b'{"key":"Zm9v","limit":%b}' % number for number in (
        b"1", b'"1"', b"1.0", b'"1.0"', b"1e2", b'"1e2"', b"10e-1", b"15e-1", b"1.5", b'"1.5"', b"1.50e1", b"0e5", b"-0", b'"-0"', b"0.0",
        b"-1", b'"-1"', b'" 1"', b'"1 "', b'"1 2"', b'"1x"', b'"x"', b'""', b'"+1"', b'"0x1"', b"9223372036854775807",
        b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"1e18", b"1e19", b"1e30", b"1e400", b'"1e99999999999"',
        b"null", b"true", b"{}", b"[]", b"[1]", b'"1,"', b'"01"', b'"."', b'"1.2.3"', b"0.1e1", b"0.05e2", b"100e-2", b"1E2")],
    b'{"key":"Zm9v","limit":1,"limit":2}', b'{"key":"Zm9v","limit":null,"limit":2}',
    # booleans and enums
    *[b'{"key":"Zm9v","serializable":%b}' % value for value in (b"true", b"false", b'"true"', b"1", b"0", b"null", b"[]")],
    *[b'{"key":"Zm9v","sort_order":%b}' % value for value in (
        b'"ASCEND"', b'"DESCEND"', b'"NONE"', b'"ascend"', b'"NOPE"', b'""', b"0", b"1", b"2", b"3", b"-1", b'"1"', b"1.0", b"1.5", b"1e0",
        b"2147483648", b"null", b"true", b"{}", b"[]")],
    *[b'{"key":"Zm9v","sortTarget":%b}' % value for value in (b'"KEY"', b'"VALUE"', b"4", b"5")],
    # names
    b'{"key":"Zm9v","rangeEnd":"Zm9w"}', b'{"key":"Zm9v","range_end":"Zm9w"}', b'{"key":"Zm9v","RangeEnd":"Zm9w"}',
    b'{"key":"Zm9v","range_end":"Zm9w","rangeEnd":"Zm9w"}', b'{"Key":"Zm9v"}', b'{"key":"Zm9v","nope":1}',
    b'{"key":"Zm9v","nope":{"a":[1,{"b":"\\u0041"},null,true]},"x":[]}', b'{"nope":"\xff","key":"Zm9v"}', b'{"\xff":1}', b'{"[a.b]":1}',
    b'{"nope":1,"nope":2,"key":"Zm9v"}', b'{"\\u006bey":"Zm9v"}', b'{"":1}', b'{"@type":"x","key":"Zm9v"}', b'{"nope":"\\ud800"}',
    # places
    b'\n\n {\n"key": "Zm9v",\n  "limit": "x"}', b'{"key":\t"Zm9v",\r\n"limit" : "x"}', '{"n\u00f6\u20ac\U0001f600":1,"limit":"x"}'.encode(),
    b"[" * 12000, b'{"a":' * 12000, b'{"key":"' + b"A" * 4000 + b'"}',
]  # fmt: skip

# --- headers and methods ---

FORM: Final = "application/x-www-form-urlencoded"

ODD: Final = [
    *[Asked(RANGE, b'{"key":"Zm9v"}', method) for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")],
    Asked("/v3/nope"), Asked("/v3/"), Asked("/v3"), Asked("/v3", method="GET"), Asked("/v3/kv"), Asked("/v3/kv/range/"),
    Asked("/v3/kv/Range"), Asked("/v3//kv/range"), Asked("/v3/kv/../kv/range"), Asked("/v3/kv/range?x=1", b'{"key":"Zm9v"}'),
    Asked("/v3/kv/r%61nge", b'{"key":"Zm9v"}'), Asked("/v3beta/kv/range", b'{"key":"Zm9v"}'), Asked("/v3beta/nope"), Asked("/v3alpha/kv/range"),
    Asked("/v3/kv/rangestream", b'{"key":"Zm9v"}'), Asked("/v3/nope", method="GET"), Asked("/v3/watch", method="GET"),
    *[Asked(RANGE, b'{"key":"Zm9v"}', headers={"content-type": kind}) for kind in ("text/plain", "application/grpc", FORM, "x", "application/json; charset=latin-1")],
    *[Asked(RANGE, b'{"key":"Zm9v"}', headers={"content-type": FORM, "x-http-method-override": method}) for method in ("GET", "POST", "post", "DELETE")],
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"content-type": "application/json", "x-http-method-override": "GET"}),
    *[Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-timeout": text}) for text in ("1S", "x", "1x", "1", "S", "-1S", "0S", "1.5S", "5H", "99999999M", "9223372036854775808S")],
    *[Asked(RANGE, b'{"key":"Zm9v"}', headers={"accept": text}) for text in ("*/*", "application/json", "text/html", "")],
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"origin": "http://example.com"}), Asked(RANGE, method="OPTIONS", headers={"origin": "http://example.com"}),
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"authorization": "Bearer nope"}), Asked(RANGE, b'{"key":"Zm9v"}', headers={"authorization": "nope"}),
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-metadata-token": "nope"}), Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-metadata-hasleader": "true"}),
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-metadata-x-bin": "####"}), Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-metadata-x-bin": "Zm9v"}),
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"te": "trailers"}), Asked(RANGE, b'{"key":"Zm9v"}', headers={"cookie": "token=x"}),
    Asked(RANGE, b'{"key":"Zm9v"}', headers={"grpc-metadata-client-api-version": "3.5.0"}),
]  # fmt: skip

# --- every call ---


def puts() -> Iterator[Asked]:
    yield asked(PUT, {"key": FOO, "value": b64("bar")})
    yield asked(PUT, {"key": FOO, "value": b64("baz"), "prev_kv": True})
    yield asked(PUT, {"key": FOO, "value": b64("<&>\u2028\u00e4"), "prevKv": True})
    yield asked(PUT, {"key": b64("dir/a"), "value": b64("1")})
    yield asked(PUT, {"key": b64("dir/b"), "value": b64(b"\x00\xff" * 2000)})
    yield asked(PUT, {"key": b64("dir/c"), "ignore_value": True})
    yield asked(PUT, {"key": FOO, "ignore_value": True, "value": b64("x")})
    yield asked(PUT, {"key": FOO, "ignore_lease": True, "lease": "5"})
    yield asked(PUT, {"key": FOO, "lease": 7777})
    yield asked(PUT, {"value": FOO})
    yield asked(PUT, {"key": FOO, "value": b64(bytes(1_600_000))})
    yield asked(PUT, {"key": FOO, "value": b64(bytes(2_100_000))})
    yield asked(RANGE, {"key": FOO})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0")})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0"), "keys_only": True, "sort_order": "DESCEND"})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0"), "count_only": True})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0"), "limit": "1"})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0"), "sort_target": "MOD", "sort_order": "DESCEND"})
    yield asked(RANGE, {"key": FOO, "revision": "2"})
    yield asked(RANGE, {"key": FOO, "revision": "999999"})
    yield asked(RANGE, {"key": b64("dir/"), "range_end": b64("dir0"), "min_mod_revision": "4"})
    yield asked(DELETE, {"key": b64("dir/a"), "prev_kv": True})
    yield asked(DELETE, {"key": b64("dir/nope")})
    yield asked(DELETE, {"key": b64("dir/"), "range_end": b64("dir0")})
    yield asked(DELETE, {})
    yield asked("/v3/kv/compaction", {"revision": "3"})
    yield asked("/v3/kv/compaction", {"revision": "3"})
    yield asked("/v3/kv/compaction", {"revision": 99999999, "physical": True})
    yield asked(RANGE, {"key": FOO, "revision": "2"})


def txns() -> Iterator[Asked]:
    compare = {"target": "VERSION", "result": "GREATER", "key": FOO, "version": "0"}
    put = {"request_put": {"key": FOO, "value": b64("t")}}
    get = {"requestRange": {"key": FOO}}
    delete = {"request_delete_range": {"key": FOO, "prev_kv": True}}
    nested = {"request_txn": {"compare": [compare], "success": [get]}}
    yield asked(TXN, {"compare": [compare], "success": [put], "failure": [get]})
    yield asked(TXN, {"compare": [{**compare, "result": "LESS"}], "success": [put], "failure": [get]})
    yield asked(TXN, {"success": [get, put, get, delete, nested]})
    yield asked(TXN, {"success": [put]})
    yield asked(TXN, {"success": [{}]})
    yield asked(TXN, {"success": [put, put]})
    yield asked(TXN, {"success": [None]})
    yield asked(TXN, {"success": put})
    yield asked(TXN, {"success": [get] * 129})
    yield asked(TXN, {})
    yield asked(TXN, {"success": [{**put, **get}]})
    yield asked(TXN, {"compare": [{**compare, "create_revision": "1"}]})
    yield asked(TXN, {"compare": [{"target": "VALUE", "key": FOO, "value": b64("t")}], "success": [get]})
    yield asked(TXN, {"compare": [{"target": "NOPE", "key": FOO}], "success": [get]})
    yield asked(TXN, {"compare": [{"target": "LEASE", "key": FOO, "lease": 0}], "success": [get]})
    yield asked(
        TXN,
        {"compare": [{"target": "MOD", "result": "NOT_EQUAL", "key": FOO, "modRevision": 0, "range_end": b64("g")}]},
    )
    yield asked(TXN, {"compare": [{"key": ""}]})
    yield asked(TXN, {"compare": [{"target": 17, "key": FOO}], "success": [get]})


def leases() -> Iterator[Asked]:
    yield asked("/v3/lease/grant", {"TTL": "60", "ID": "1234"})
    yield asked("/v3/lease/grant", {"TTL": 60, "ID": 1234})
    yield asked("/v3/lease/grant", {"TTL": "9000000001"})
    yield asked("/v3/lease/grant", {"ttl": 60, "id": 5})
    yield asked(PUT, {"key": b64("leased"), "lease": "1234"})
    for path in ("/v3/lease/timetolive", "/v3/kv/lease/timetolive"):
        yield asked(path, {"ID": "1234", "keys": True})
        yield asked(path, {"ID": "99"})
    yield asked("/v3/lease/keepalive", {"ID": "1234"})
    yield Asked("/v3/lease/keepalive", b'{"ID":"1234"}\n{"ID":99} {"ID":"1234"}')
    yield Asked("/v3/lease/keepalive", b'{"ID":"1234"}nonsense{"ID":"1234"}')
    yield Asked("/v3/lease/keepalive", b'{"ID":"x"}')
    yield Asked("/v3/lease/keepalive", b'{"ID":"1234"')
    yield Asked("/v3/lease/keepalive", b"")
    yield Asked("/v3/lease/keepalive", b"null")
    yield asked("/v3/lease/revoke", {"ID": "77"})
    yield asked("/v3/kv/lease/revoke", {"ID": "77"})
    yield asked("/v3/lease/revoke", {"ID": "1234"})


def members() -> Iterator[Asked]:
    yield asked("/v3/cluster/member/list", {})
    yield asked("/v3/cluster/member/list", {"linearizable": True})
    yield asked("/v3/cluster/member/add", {"peerURLs": ["nonsense"]})
    yield asked("/v3/cluster/member/add", {"peerURLs": []})
    yield asked("/v3/cluster/member/add", {"peerURLs": "http://127.0.0.1:1"})
    yield asked("/v3/cluster/member/remove", {"ID": "99"})
    yield asked("/v3/cluster/member/update", {"ID": "99", "peerURLs": ["http://127.0.0.1:1"]})
    yield asked("/v3/cluster/member/promote", {"ID": "99"})


def maintenance() -> Iterator[Asked]:
    yield asked("/v3/maintenance/alarm", {})
    yield asked("/v3/maintenance/alarm", {"action": "GET", "alarm": "NOSPACE"})
    yield asked("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    yield asked("/v3/maintenance/alarm", {"action": "NOPE"})
    yield asked("/v3/maintenance/status", {})
    yield asked("/v3/maintenance/hash", {})
    yield asked("/v3/maintenance/hashkv", {})
    yield asked("/v3/maintenance/hashkv", {"revision": "1"})
    yield asked("/v3/maintenance/hashkv", {"revision": "99999999"})
    yield asked("/v3/maintenance/defragment", {})
    yield asked("/v3/maintenance/transfer-leadership", {"targetID": "99"})
    yield asked("/v3/maintenance/downgrade", {"action": "VALIDATE", "version": "nonsense"})
    yield asked("/v3/maintenance/downgrade", {"action": "CANCEL"})
    yield asked("/v3/maintenance/downgrade", {"action": 7})
    yield asked("/v3/maintenance/snapshot", {"nope": 1})
    yield Asked("/v3/maintenance/snapshot", b"{")
    yield Asked("/v3/maintenance/snapshot", b"[]")


def recipes() -> Iterator[Asked]:
    name = b64("mutex")
    yield asked("/v3/lease/grant", {"TTL": "60", "ID": "5000"})
    yield asked("/v3/lock/lock", {"name": name, "lease": "5000"})
    yield asked("/v3/lock/lock", {"name": name, "lease": "5000"})
    yield asked("/v3/lock/lock", {"name": name, "lease": "99"})
    yield asked("/v3/lock/lock", {"name": "#"})
    yield asked("/v3/lease/grant", {"TTL": "60", "ID": "5001"})
    yield Asked("/v3/lock/lock", json.dumps({"name": name, "lease": "5001"}).encode(), headers={"grpc-timeout": "200m"})
    yield asked("/v3/lock/unlock", {"key": b64(f"mutex/{5000:x}")})
    yield asked("/v3/lock/unlock", {})
    yield asked("/v3/election/leader", {"name": name})
    yield asked("/v3/election/campaign", {"name": name, "lease": "5000", "value": FOO})
    yield asked("/v3/election/leader", {"name": name})
    yield asked("/v3/election/proclaim", {"value": FOO})
    yield asked("/v3/election/resign", {"leader": None})
    yield asked("/v3/election/resign", {"leader": {}})
    yield asked("/v3/election/campaign", {"name": name, "lease": "99", "value": FOO})
    yield Asked("/v3/election/observe", json.dumps({"name": name}).encode(), headers={"grpc-timeout": "300m"})
    yield Asked("/v3/election/observe", b'{"name":"eHh4"}', headers={"grpc-timeout": "200m"})
    yield Asked("/v3/election/observe", b'{"name":')
    yield asked(
        "/v3/election/resign", {"leader": {"name": name, "key": b64(f"mutex/{5000:x}"), "rev": "1", "lease": "5000"}}
    )


def watches() -> Iterator[Asked]:
    """Each ended by its deadline."""

    def watch(*requests: Any) -> Asked:
        body = b"\n".join(json.dumps(request).encode() for request in requests)
        return Asked("/v3/watch", body, headers={"grpc-timeout": "400m"})

    yield asked(PUT, {"key": b64("watched"), "value": b64("<1>")})
    yield asked(DELETE, {"key": b64("watched")})
    yield watch({"create_request": {"key": b64("watched"), "start_revision": "4", "prev_kv": True}})
    yield watch({"createRequest": {"key": FOO, "filters": ["NOPUT", "NODELETE"]}})
    yield watch({"create_request": {"key": FOO, "watch_id": "7"}}, {"cancel_request": {"watch_id": "7"}})
    # A progress request behind a watcher is not here: what comes within 400 ms depends on how busy the machine is.
    yield watch({"progress_request": {}})
    yield watch({"create_request": {"key": FOO, "start_revision": "1"}})
    yield watch({"create_request": {"key": FOO, "range_end": b64("a")}})
    yield watch({"create_request": {"key": FOO, "filters": ["NOPE"]}})
    yield watch({"create_request": {"key": "#"}})
    yield watch({})
    yield watch({"create_request": {}, "cancel_request": {}})
    yield Asked("/v3/watch", b"", headers={"grpc-timeout": "200m"})
    yield Asked("/v3/watch", b"nonsense", headers={"grpc-timeout": "200m"})
    yield Asked("/v3/watch", b"", headers={"grpc-timeout": "x"})


TOKEN: Final = "TOKEN"
"""Stands for the token of the last login."""


def users() -> Iterator[Asked]:
    """Leaves users switched on."""

    def shows(path: str, request: Any, token: str = TOKEN, header: str = "authorization") -> Asked:
        return Asked(path, json.dumps(request).encode(), headers={header: token})

    yield asked("/v3/auth/status", {})
    yield asked("/v3/auth/enable", {})
    yield asked("/v3/auth/disable", {})
    yield asked("/v3/auth/authenticate", {"name": "root", "password": "pw"})
    yield asked("/v3/auth/user/add", {"name": "root", "password": "pw"})
    yield asked("/v3/auth/user/add", {"name": "root", "password": "pw"})
    yield asked("/v3/auth/user/add", {"name": "", "password": "pw"})
    yield asked("/v3/auth/user/add", {"name": "nopw", "options": {"no_password": True}})
    yield asked("/v3/auth/user/add", {"name": "alice", "password": "pw"})
    yield asked("/v3/auth/role/add", {"name": "root"})
    yield asked("/v3/auth/role/add", {"name": "reader"})
    yield asked(
        "/v3/auth/role/grant", {"name": "reader", "perm": {"permType": "READ", "key": FOO, "range_end": b64("fop")}}
    )
    yield asked("/v3/auth/role/grant", {"name": "reader"})
    yield asked("/v3/auth/role/get", {"role": "reader"})
    yield asked("/v3/auth/role/list", {})
    yield asked("/v3/auth/user/grant", {"user": "root", "role": "root"})
    yield asked("/v3/auth/user/grant", {"user": "alice", "role": "reader"})
    yield asked("/v3/auth/user/get", {"name": "alice"})
    yield asked("/v3/auth/user/list", {})
    yield asked("/v3/auth/user/changepw", {"name": "alice", "password": "pw2"})
    yield asked("/v3/auth/enable", {})
    yield asked("/v3/auth/status", {})
    yield asked("/v3/auth/authenticate", {"name": "alice", "password": "pw"})
    yield asked("/v3/auth/authenticate", {"name": "alice", "password": "pw2"})
    for header in ("authorization", "grpc-metadata-token", "grpc-metadata-authorization", "token"):
        yield shows(RANGE, {"key": FOO}, header=header)
    yield shows(RANGE, {"key": FOO}, f"Bearer {TOKEN}")
    yield shows(RANGE, {"key": FOO}, f"Basic {TOKEN}")
    yield shows(RANGE, {"key": FOO}, "nonsense")
    yield shows(RANGE, {"key": FOO}, "")
    yield asked(RANGE, {"key": FOO})
    yield shows(RANGE, {"key": b64("x")})
    yield shows(PUT, {"key": FOO})
    yield shows("/v3/auth/user/list", {})
    yield shows("/v3/auth/user/get", {"name": "alice"})
    yield shows("/v3/lock/lock", {"name": FOO, "lease": "1"})
    yield shows("/v3/election/leader", {"name": FOO})
    yield shows("/v3/election/leader", {"name": b64("x")})
    yield shows("/v3/maintenance/snapshot", {})
    yield asked("/v3/maintenance/snapshot", {})
    yield asked("/v3/lease/keepalive", {"ID": "1"})
    yield asked("/v3/auth/authenticate", {"name": "root", "password": "pw"})
    yield shows(PUT, {"key": FOO})
    yield shows("/v3/lock/unlock", {"key": FOO})
    yield shows("/v3/auth/role/revoke", {"role": "reader", "key": FOO, "range_end": b64("fop")})
    yield shows("/v3/auth/user/revoke", {"name": "alice", "role": "reader"})
    yield shows("/v3/auth/role/delete", {"role": "reader"})
    yield shows("/v3/auth/user/delete", {"name": "alice"})
    yield shows("/v3/auth/user/delete", {"name": "root"})


GROUPS: Final[dict[str, list[Asked]]] = {
    "bodies": [*puts(), *(Asked(RANGE, body) for body in BODIES)],
    "odd": ODD,
    "txns": [*puts(), *txns()],
    "leases": list(leases()),
    "members": list(members()),
    "maintenance": list(maintenance()),
    "recipes": list(recipes()),
    "watches": list(watches()),
    "users": list(users()),
}
