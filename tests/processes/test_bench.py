"""The bench runs every workload, notices requests that did nothing, and writes what it measured."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from bench import report, saving
from bench.__main__ import runs_of
from bench.sides import BenchError, Result, make_certificates, run_once, started
from bench.sync_check import SyncCheck
from bench.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import ClusterTls
    from tests.support.members import Kind

pytestmark = pytest.mark.reference  # etcd's benchmark tool is the load

SMALL = {"W1": 100, "W4": 10, "W4-enc": 10, "W11-put1": 100, "W11-kill": 1, "W12-save": 1, "W12-restore": 1}
SMALL_ELSE = 2000


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ClusterTls:
    return make_certificates(tmp_path_factory.mktemp("bench") / "pki")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload(workload: Workload, tls: ClusterTls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "ROW_MEGABYTES", 5)
    if workload.name.endswith("h2load") and shutil.which("h2load") is None:
        pytest.skip("h2load (nghttp2-client) is not installed")
    total = SMALL.get(workload.name, SMALL_ELSE)
    result = run_once(workload, "etcdpy", "etcdpy", total, tls, tmp_path)
    assert result.rate > 0
    assert result.p50_ms <= result.p99_ms
    assert result.rss_mb > 10 * workload.members
    if workload.revisions is not None:
        assert result.revisions == total * workload.revisions


def test_requests_that_did_nothing_are_noticed(tls: ClusterTls, tmp_path: Path) -> None:
    two_each = dataclasses.replace(WORKLOADS[0], revisions=2)
    with pytest.raises(BenchError, match="100 requests made 100 revisions, not 200"):
        run_once(two_each, "etcdpy", "etcdpy", 100, tls, tmp_path)
    spread = next(workload for workload in WORKLOADS if workload.answer_bytes_min)
    empty = dataclasses.replace(spread, prepare=None)  # the keys are not there: every answer is empty
    with pytest.raises(BenchError, match="bytes came back"):
        run_once(empty, "etcdpy", "etcdpy", 1000, tls, tmp_path)


def test_an_encrypted_workload_compares_etcdpy_with_itself(tls: ClusterTls, tmp_path: Path) -> None:
    workload = next(workload for workload in WORKLOADS if workload.name == "W2-enc")
    for side, encrypted, label in (("etcd", False, "plaintext"), ("etcdpy", True, "encrypted")):
        kind: Kind = "etcd" if side == "etcd" else "etcdpy"
        (tmp_path / side).mkdir()
        with started(workload, kind, tmp_path / side, tls) as (_, members):
            assert members[0].kind == "etcdpy"
            assert (members[0].data_dir / "member" / "KEYS").exists() is encrypted
        assert report.side_label(workload, side) == label
        assert report.side_label(WORKLOADS[0], side) == side


def test_users_are_compared_with_the_same_rounds_without(capsys: pytest.CaptureFixture[str]) -> None:
    workload = dataclasses.replace(next(each for each in WORKLOADS if each.users_on), ratio_min=1.0)
    runs = runs_of(workload, ("etcd", "etcdpy"), ["etcd", "etcdpy"])
    assert [(name, kind, run.name) for name, kind, run in runs] == [
        ("etcd", "etcd", workload.name),
        ("etcdpy", "etcdpy", workload.name),
        (report.WITHOUT_USERS, "etcdpy", workload.users_on),
    ]
    rates = {"etcd": 50.0, "etcdpy": 80.0, report.WITHOUT_USERS: 100.0}
    results = [Result(workload.name, side, rate, 1.0, 5.0, 10.0, 50.0, 1000) for side, rate in rates.items()]
    (comparison,) = report.compare([workload], results, ("etcd", "etcdpy"))
    assert comparison.share_of_rate == 0.8
    assert comparison.missed() == ["80% of the rate without users, goal 85%"]
    report.print_table([comparison], [], 1)
    assert report.WITHOUT_USERS in capsys.readouterr().out


def test_medians_ratios_and_goals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workload = dataclasses.replace(WORKLOADS[1], ratio_min=2.0, p99_no_worse=True)

    def result(side: str, rate: float, p99: float) -> Result:
        return Result(workload.name, side, rate, 1.0, p99, 10.0, 50.0, 1000)

    results = [result("etcd", rate, 5.0) for rate in (900, 1000, 4000)]
    results += [result("etcdpy", rate, 6.0) for rate in (1000, 1900, 2000)]
    (comparison,) = report.compare([workload], results, ("etcd", "etcdpy"))
    assert comparison.ratio == 1.9
    assert comparison.missed() == ["rate 1.90 x, goal 2.0 x", "p99 worse"]
    checks = [SyncCheck("etcdpy", 200, 199, "strace")]
    assert not checks[0].held
    report.print_table([comparison], checks, 3)
    assert "BROKEN" in capsys.readouterr().out
    report.write_json(tmp_path / "results.json", [comparison], checks, 3)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["workloads"][0]["sides"]["etcdpy"]["median"]["rate"] == 1900
    assert document["sync_before_answer"][0]["held"] is False
    report.draw_chart(tmp_path / "results.png", [comparison])
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
