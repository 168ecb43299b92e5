from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.process_collector import ProcessCollector

from etcdpy.api.process_metrics import ProcessMetrics

if TYPE_CHECKING:
    from pathlib import Path


def values(collector: ProcessCollector) -> dict[str, float]:
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def test_they_are_there_where_proc_shows_processes_alone(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")
    assert values(ProcessCollector(proc=str(tmp_path), registry=None)) == {}
    found = values(ProcessMetrics(proc=str(tmp_path), registry=None))
    usual = values(ProcessCollector(registry=None))
    assert set(found) == set(usual)
    started = "process_start_time_seconds"
    assert found[started] == pytest.approx(usual[started], abs=2)
    assert found["process_max_fds"] == usual["process_max_fds"]
