"""Wrong configurations, on real etcd and on etcdpy: the same exit code, the same manner of telling, the same key words.

A member that accepts a configuration would go on to serve, so each row here must make it end.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.members import Kind, command_of, free_port

if TYPE_CHECKING:
    from pathlib import Path

END_SECONDS_MAX: Final = 30

USAGE = "a bare line and a usage text"
LOGGED = "a line of the log"

# What is wrong -> (flags, environment, exit code, manner, words in what is said)
WRONG: Final[dict[str, tuple[list[str], dict[str, str], int, str, str]]] = {
    "unknown flag": (["--nope"], {}, 2, USAGE, "flag provided but not defined: -nope"),
    "flag of the v2 discovery": (["--discovery=x"], {}, 2, USAGE, "flag provided but not defined: -discovery"),
    "experimental flag": (
        ["--experimental-initial-corrupt-check"],
        {},
        2,
        USAGE,
        "flag provided but not defined: -experimental-initial-corrupt-check",
    ),
    "no value": (["--name"], {}, 2, USAGE, "flag needs an argument: -name"),
    "bad syntax": (["---x"], {}, 2, USAGE, "bad flag syntax: ---x"),
    "bad boolean": (["--pre-vote=maybe"], {}, 2, USAGE, 'invalid boolean value "maybe" for -pre-vote: parse error'),
    "bad number": (
        ["--heartbeat-interval=x"],
        {},
        2,
        USAGE,
        'invalid value "x" for flag -heartbeat-interval: parse error',
    ),
    "number too large": (
        ["--max-concurrent-streams=4294967296"],
        {},
        2,
        USAGE,
        'strconv.ParseUint: parsing "4294967296": value out of range',
    ),
    "bad span": (
        ["--grpc-keepalive-min-time=5"],
        {},
        2,
        USAGE,
        'invalid value "5" for flag -grpc-keepalive-min-time: parse error',
    ),
    "no scheme": (["--listen-client-urls=foo"], {}, 2, USAGE, "URL scheme must be http, https, unix, or unixs: foo"),
    "no port": (
        ["--listen-client-urls=http://127.0.0.1"],
        {},
        2,
        USAGE,
        'URL address does not have the form "host:port": http://127.0.0.1',
    ),
    "path in a URL": (["--listen-peer-urls=http://127.0.0.1:1/x"], {}, 2, USAGE, "URL must not contain a path"),
    "bad state": (["--initial-cluster-state=x"], {}, 2, USAGE, "invalid value"),
    "unknown gate": (["--feature-gates=Foo=true"], {}, 2, USAGE, "unrecognized feature gate: Foo"),
    "gate without value": (
        ["--feature-gates=LeaseCheckpoint"],
        {},
        2,
        USAGE,
        "missing bool value for LeaseCheckpoint",
    ),
    "bad origin": (["--cors=foo"], {}, 2, USAGE, "URL scheme must be http, https, unix, or unixs: foo"),
    "positional argument": (["foo"], {}, 1, LOGGED, "is not a valid flag"),
    "boolean with a word behind it": (["--pre-vote", "false"], {}, 1, LOGGED, "is not a valid flag"),
    "variable and flag": (
        ["--name=a"],
        {"ETCD_NAME": "b"},
        1,
        LOGGED,
        "conflicting environment variable is shadowed by corresponding command-line flag",
    ),
    "bad variable": (
        [],
        {"ETCD_HEARTBEAT_INTERVAL": "x"},
        1,
        LOGGED,
        'invalid value "x" for ETCD_HEARTBEAT_INTERVAL: parse error',
    ),
    "no such file": (["--config-file=/no/such/file"], {}, 1, LOGGED, "open /no/such/file: no such file or directory"),
    "name to bind": (
        ["--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://example.com:1"],
        {},
        1,
        LOGGED,
        "expected IP in URL for binding (http://example.com:1)",
    ),
    "nothing advertised": (
        ["--listen-client-urls=http://127.0.0.1:1"],
        {},
        1,
        LOGGED,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    "no host advertised": (
        ["--advertise-client-urls=http://:1"],
        {},
        1,
        LOGGED,
        "unexpected empty host (http://:1)",
    ),
    "two ways to bootstrap": (
        ["--initial-cluster=a=http://127.0.0.1:1", "--discovery-srv=x"],
        {},
        1,
        LOGGED,
        "multiple discovery or bootstrap flags are set",
    ),
    "half of discovery": (
        ["--discovery-token=x"],
        {},
        1,
        LOGGED,
        "both --discovery-token and --discovery-endpoints must be set",
    ),
    "no heartbeat": (["--heartbeat-interval=0"], {}, 1, LOGGED, "--heartbeat-interval must be >0 (set to 0ms)"),
    "hasty election": (
        ["--election-timeout=499"],
        {},
        1,
        LOGGED,
        "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    ),
    "late election": (["--election-timeout=50001"], {}, 1, LOGGED, "--election-timeout[50001ms] is too long"),
    "compaction mode": (["--auto-compaction-mode=x"], {}, 1, LOGGED, 'unknown auto-compaction-mode "x"'),
    "no compaction mode": (["--auto-compaction-mode="], {}, 1, LOGGED, "undefined auto-compaction-mode"),
    "retention": (
        ["--auto-compaction-retention=-1"],
        {},
        1,
        LOGGED,
        'error parsing CompactionRetention: time: missing unit in duration "-1"',
    ),
    "gate without the one it needs": (
        ["--feature-gates=LeaseCheckpointPersist=true"],
        {},
        1,
        LOGGED,
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
    ),
    "hash check": (["--compact-hash-check-time=0"], {}, 1, LOGGED, "--compact-hash-check-time must be >0 (set to 0s)"),
    "TLS version": (["--tls-min-version=TLS1.0"], {}, 1, LOGGED, "unexpected TLS version"),
    "TLS versions": (
        ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        {},
        1,
        LOGGED,
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    ),
    "suites of TLS 1.3": (
        ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"],
        {},
        1,
        LOGGED,
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    ),
    "unknown suite": (["--cipher-suites=foo"], {}, 1, LOGGED, 'unexpected TLS cipher suite "foo"'),
    "https without a certificate": (
        ["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:1"],
        {},
        1,
        LOGGED,
        "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:0 with HTTPS scheme",
    ),
    "token": (["--auth-token=foo"], {}, 1, LOGGED, "invalid auth options"),
    "removed logger": (["--logger=capnslog"], {}, 1, LOGGED, "--logger=capnslog is removed in v3.5"),
    "log format": (["--log-format=x"], {}, 1, LOGGED, "unknown log format: x"),
    "log outputs": (["--log-outputs=default,stderr"], {}, 1, LOGGED, "multi logoutput for"),
    "nothing to rotate": (["--enable-log-rotation"], {}, 1, LOGGED, "--log-outputs requires a single file path"),
    "v2 proxy": (["--discovery-fallback=proxy"], {}, 1, LOGGED, "v2 proxy is deprecated"),
    "tracing": (
        ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
        {},
        1,
        LOGGED,
        "tracing sampling rate must be positive",
    ),
}

# A file -> words in what is said; all end with 1
WRONG_FILES: Final = {
    "name: [1": "yaml",
    "name: 3": "name",
    "name: y": "name",
    'heartbeat-interval: "100"': "heartbeat-interval",
    "max-txn-ops: -1": "max-txn-ops",
    "max-concurrent-streams: 4294967296": "max-concurrent-streams",
    'pre-vote: "true"': "pre-vote",
    "grpc-keepalive-min-time: 10x": "grpc-keepalive-min-time",
    "cipher-suites: a,b": "cipher-suites",
    "log-outputs: stderr": "log-outputs",
    "listen-client-urls: foo": "URL scheme must be http, https, unix, or unixs: foo",
    "feature-gates: Foo=true": "unrecognized feature gate: Foo",
    "initial-cluster-state: foo": 'unexpected clusterState "foo"',
    "auto-compaction-retention: 5": "auto-compaction-retention",
    "peer-transport-security: 3": "peer-transport-security",
    "HEARTBEAT-INTERVAL: 0": "--heartbeat-interval must be >0",
}


def run(kind: Kind, directory: Path, flags: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and standard error of a server that is expected to end by itself."""
    # Ports of its own, in case something listens on the usual ones. Flags of a row come after and win.
    places = [] if any(flag.startswith("--config-file") for flag in flags) else _own_ports(flags)
    done = subprocess.run(
        [*command_of(kind), *places, *flags],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=END_SECONDS_MAX,
        check=False,
    )
    return done.returncode, done.stderr


def _own_ports(flags: list[str]) -> list[str]:
    peer = f"http://127.0.0.1:{free_port()}"
    found = [f"--listen-peer-urls={peer}"]
    named = " ".join(flags)
    if "--listen-client-urls" not in named and "--advertise-client-urls" not in named:
        found += [
            f"--listen-client-urls=http://127.0.0.1:{free_port()}",
            "--advertise-client-urls=http://127.0.0.1:2379",
        ]
    return found


def manner(stderr: str) -> str:
    """How the reason is told."""
    if "\nUsage:\n" in stderr and not stderr.startswith("{"):
        return USAGE
    return LOGGED if all(line.startswith("{") for line in stderr.splitlines()) else "neither"


def said(stderr: str) -> str:
    """Every text that the log lines, or the bare lines, hold."""
    texts = []
    for line in stderr.splitlines():
        if line.startswith("{"):
            texts += [str(value) for value in json.loads(line).values()]
        else:
            texts.append(line)
    return "\n".join(texts)


@pytest.mark.parametrize("name", WRONG)
def test_flags_and_variables(kind: Kind, tmp_path: Path, name: str) -> None:
    flags, environment, code, how, words = WRONG[name]
    found, stderr = run(kind, tmp_path, flags, environment)
    assert (found, manner(stderr)) == (code, how), stderr
    assert words in said(stderr)


@pytest.mark.parametrize("text", WRONG_FILES)
def test_files(kind: Kind, tmp_path: Path, text: str) -> None:
    path = tmp_path / "etcd.yml"
    path.write_text(text)
    code, stderr = run(kind, tmp_path, [f"--config-file={path}"], {})
    assert code == 1, stderr
    assert WRONG_FILES[text].lower() in said(stderr).lower()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    # etcd leaves an empty data directory in some of these cases; a refusal here comes before anything is made.
    run("etcdpy", tmp_path, ["--auto-compaction-retention=x"], {})
    assert list(tmp_path.iterdir()) == []
