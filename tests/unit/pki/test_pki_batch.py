"""`etcdpy pki batch`: what `csr`, `sign`, `accept` and `verify --cert` do, many times in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pki.cli import pki
from tests.support.certificates import json_pki

pytestmark = pytest.mark.usefixtures("authority_and_node")

WANTED = [
    {"name": "m1", "known_as": "m1", "profile": "server", "ip": ["10.0.0.1"], "dns": ["m1"]},
    {"name": "client", "known_as": "m1-client", "profile": "client"},
]


def run(verb: str, rows: object, *options: str) -> Any:
    done = CliRunner().invoke(pki, ["batch", verb, *options], input=json.dumps(rows))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(verb: str, text: str, *options: str) -> str:
    done = CliRunner().invoke(pki, ["batch", verb, *options], input=text)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def put_in_place() -> None:
    run("accept", run("sign", run("ask", WANTED, "--dir=node"), "--dir=pki"), "--dir=node")


def test_all_of_a_node_in_one_round() -> None:
    asked = run("ask", WANTED, "--dir=node")
    assert [(each["name"], each["known_as"], each["profile"]) for each in asked] == [
        ("m1", "m1", "server"),
        ("client", "m1-client", "client"),
    ]
    assert "PRIVATE KEY" not in json.dumps(asked)
    assert run("ask", WANTED, "--dir=node") == asked, "a run that was cut off asks the same again"
    rows = run("sign", asked, "--dir=pki")
    assert run("accept", rows, "--dir=node") == {"changed": True, "written": ["node/m1.pem", "node/client.pem"]}
    assert run("accept", rows, "--dir=node") == {"changed": False, "written": []}
    server, client = json_pki("show", "node/m1.pem", "node/client.pem")
    assert (server["role"], server["dns_names"], server["ip_addresses"]) == ("server", ["m1"], ["10.0.0.1"])
    assert (client["role"], client["subject"], client["key_beside"]) == (
        "client",
        "CN=client",
        "client-key.pem matches",
    )
    assert [row["name"] for row in json_pki("list", "--dir", "pki")] == ["ca", "m1", "m1-client"]
    assert not list(Path("pki").glob("m1*-key.pem"))


def test_new_keys_wait_for_their_certificates() -> None:
    put_in_place()
    before = Path("node/m1-key.pem").read_bytes()
    rows = run("sign", run("ask", WANTED[:1], "--dir=node", "--new-key"), "--dir=pki")
    assert Path("node/m1-key.pem").read_bytes() == before
    assert run("accept", rows, "--dir=node")["written"] == ["node/m1-key.pem", "node/m1.pem"]
    assert Path("node/m1-key.pem").read_bytes() != before


def test_what_servers_show_is_judged_by_their_urls() -> None:
    put_in_place()
    server, client = (Path(f"node/{name}.pem").read_text() for name in ("m1", "client"))
    rows = [
        {"file": "/a.pem", "certificate": server, "urls": ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]},
        {"file": "/b.pem", "certificate": server, "urls": ["https://m1:2379"]},
        {"file": "/c.pem", "certificate": client},
        {"file": "/d.pem", "certificate": "nothing"},
    ]
    found = run("verify", rows)
    assert [(each["file"], each["about"]) for each in found][:2] == [
        ("/a.pem", "https://10.0.0.2:2379"),
        ("/c.pem", "serverAuth"),
    ]
    assert [each["file"] for each in found][2:] == ["/d.pem"]


@pytest.mark.parametrize(
    ("verb", "text", "said"),
    [
        ("ask", "{", "holds no list of JSON"),
        ("ask", "{}", "holds no list of JSON"),
        ("ask", "[1]", "each row needs the texts name, known_as, profile"),
        ("ask", '[{"name": "m1", "known_as": "m1"}]', "each row needs the texts name, known_as, profile"),
        ("ask", '[{"name": "m1", "known_as": "m1", "profile": "server", "ip": "x"}]', "ip is a list of texts"),
        ("ask", '[{"name": "../m1", "known_as": "m1", "profile": "server"}]', '"../m1" cannot be a file name'),
        (
            "sign",
            '[{"name": "m1", "known_as": "m1", "profile": "server", "request": "x"}]',
            "m1: holds no certificate signing request",
        ),
        ("accept", '[{"name": "m1", "certificate": "x"}]', "standard input: m1: holds no certificate"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(verb: str, text: str, said: str) -> None:
    assert said in refused(verb, text, "--dir=node" if verb != "sign" else "--dir=pki")


def test_the_authority_does_not_sign_itself_away() -> None:
    (asked, _) = run("ask", WANTED, "--dir=node")
    line = refused("sign", json.dumps([{**asked, "known_as": "ca"}]), "--dir=pki")
    assert '"ca" is the CA that signs' in line
