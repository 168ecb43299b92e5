"""JWT and simple tokens, on real etcd and on etcdpy: the same keys, and each takes what the other signed."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from etcdpy.proto import rpc_pb2
from tests.interop.test_auth import BAD_TOKEN, DENIED, OLD
from tests.support.client import Client, Refusal, wait_until
from tests.support.members import KINDS, Member
from tests.support.users import FAST_HASHES, READWRITE, ROOT_PASSWORD, As, logged_in, users

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.members import Kind

METHODS = ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS512"]
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


class Keys:
    """The key files of one signing method."""

    def __init__(self, directory: Path, method: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.method = method
        self.private, self.public = directory / f"{method}.key", directory / f"{method}.pub"
        if method.startswith("HS"):
            self.private.write_bytes(b"a secret that is long enough for the longest of the digests, 64 bytes")
            return
        key: Any
        if method in _CURVES:
            key = ec.generate_private_key(_CURVES[method])
        else:
            key = ed25519.Ed25519PrivateKey.generate() if method == "EdDSA" else rsa.generate_private_key(65537, 2048)
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public.write_bytes(public)

    def flag(self, *, ttl: str = "5m", verify_only: bool = False) -> str:
        parts = [f"--auth-token=jwt,sign-method={self.method},ttl={ttl}"]
        if not verify_only:
            parts.append(f"priv-key={self.private}")
        if self.public.exists():
            parts.append(f"pub-key={self.public}")
        return ",".join(parts)


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    value = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(value, dict)
    return value


@pytest.mark.reference
@pytest.mark.parametrize("method", METHODS)
def test_tokens_of_each_count_on_the_other(tmp_path: Path, method: str) -> None:
    keys = Keys(tmp_path, method)
    sides: list[dict[str, As]] = []
    members = [Member(kind, tmp_path / kind, flags=[FAST_HASHES, keys.flag()]) for kind in KINDS]
    with members[0], members[1], Client.of(members[0]) as first, Client.of(members[1]) as second:
        for client in (first, second):
            found = users(client, ["u"])
            found["root"].grant("u", READWRITE, b"u")
            sides.append(found)
        tokens = [logged_in(found, "u")[0].token for found in sides]
        revision = sides[0]["nobody"].must("AuthStatus", rpc_pb2.AuthStatusRequest()).authRevision
        for token in tokens:
            told = claims(token)
            assert (told["username"], told["revision"]) == ("u", revision)
            assert 290 < told["exp"] - time.time() <= 300
            for client in (first, second):
                u = As(client, token)
                assert not isinstance(u.put(b"u"), Refusal)
                assert u.put(b"v") == DENIED
                cut = token[:-8] + ("AAAAAAAA" if not token.endswith("AAAAAAAA") else "BBBBBBBB")
                assert As(client, cut).put(b"u") == BAD_TOKEN
        for found, client, token in zip(sides, (first, second), tokens, strict=True):
            found["nobody"].log_in("u", "u")
            sides_root = found["nobody"].log_in("root", ROOT_PASSWORD)
            sides_root.add_role("another")
            assert As(client, token).put(b"u") == OLD


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "ES256")


def test_a_member_with_the_public_key_alone_makes_no_tokens(tmp_path: Path, keys: Keys) -> None:
    """On etcd such a member fails its own /health and ends no lease: it acts by tokens that it cannot make."""
    with Member("etcdpy", tmp_path, flags=[FAST_HASHES, keys.flag()]) as member, Client.of(member) as client:
        root = users(client, ["u"])["nobody"].log_in("root", ROOT_PASSWORD)
    member.flags = [FAST_HASHES, keys.flag(verify_only=True)]
    with member, Client.of(member) as client:
        root = As(client, root.token)
        lease = root.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=1)).ID
        assert not isinstance(root.put(b"a", lease=lease), Refusal)
        refused = As(client).try_log_in("u", "u")
        assert refused == Refusal("Unknown", "auth: token signing attempted with verify-only key")
        wait_until(lambda: root.range(b"a").count == 0, 8)


def test_a_token_has_its_time(kind: Kind, tmp_path: Path, keys: Keys) -> None:
    with Member(kind, tmp_path, flags=[FAST_HASHES, keys.flag(ttl="2s")]) as member, Client.of(member) as client:
        root = users(client)["root"]
        assert not isinstance(root.put(b"a"), Refusal)
        time.sleep(3.1)
        assert root.put(b"a") == BAD_TOKEN
        assert not isinstance(root.log_in("root", ROOT_PASSWORD).put(b"a"), Refusal)


def test_a_simple_token_has_its_time_and_using_it_renews_it(kind: Kind, tmp_path: Path) -> None:
    flags = [FAST_HASHES, "--auth-token-ttl=3"]
    with Member(kind, tmp_path, flags=flags) as member, Client.of(member) as client:
        root = users(client)["root"]
        for _ in range(3):
            time.sleep(1.5)
            assert not isinstance(root.put(b"a"), Refusal)
        time.sleep(5.2)
        assert root.put(b"a") == BAD_TOKEN


def test_simple_tokens_end_with_the_process_and_jwts_do_not(kind: Kind, tmp_path: Path, keys: Keys) -> None:
    for flag, answer in (("--auth-token=simple", BAD_TOKEN), (keys.flag(), None)):
        directory = tmp_path / flag[:16]
        directory.mkdir()
        member = Member(kind, directory, flags=[FAST_HASHES, "--snapshot-count=1", flag])
        with member, Client.of(member) as client:
            root = users(client)["root"]
            for _ in range(20):
                root.put(b"a")
        with member, Client.of(member) as client:
            got = As(client, root.token).put(b"a")
            # Logins that are applied again from the log count again, on etcd too.
            assert got == answer or not isinstance(got, Refusal)
            if answer is None:
                assert not isinstance(got, Refusal)


def test_a_jwt_of_a_user_who_is_gone(tmp_path: Path, keys: Keys) -> None:
    """On etcd it still passes for somebody where any user will do."""
    with Member("etcdpy", tmp_path, flags=[FAST_HASHES, keys.flag()]) as member, Client.of(member) as client:
        found = users(client, ["u"])
        [u] = logged_in(found, "u")
        found["root"].must("UserDelete", rpc_pb2.AuthUserDeleteRequest(name="u"))
        for answer in (u.put(b"u"), u.ask("maintenance", "Status", rpc_pb2.StatusRequest())):
            assert answer == BAD_TOKEN


def test_no_tokens_at_all(kind: Kind, tmp_path: Path) -> None:
    with Member(kind, tmp_path, flags=[FAST_HASHES, "--auth-token="]) as member, Client.of(member) as client:
        nobody = As(client)
        nobody.add_user("root", "pw", "root")
        nobody.must("AuthEnable", rpc_pb2.AuthEnableRequest())
        text = "etcdserver: authentication failed, invalid user ID or password"
        assert nobody.try_log_in("root", "pw") == Refusal("InvalidArgument", text)
        assert As(client, "any.1").put(b"a") == BAD_TOKEN
