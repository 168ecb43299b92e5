"""Medians and ranges of the rounds, as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from bench.workloads import USERS_SHARE_MIN
from tests.support.members import command_of

if TYPE_CHECKING:
    from bench.sides import Result
    from bench.sync_check import SyncCheck
    from bench.workloads import Workload

_FIGURES: Final = ("rate", "p50_ms", "p99_ms", "server_us", "generator_us", "rss_mb", "revisions")


WITHOUT_USERS: Final = "without users"
"""The second side in the same rounds, with users switched off."""

_OWN_SIDES: Final = {"etcd": "plaintext", "etcdpy": "encrypted"}
"""Where both sides are etcdpy."""


def side_label(workload: Workload, side: str) -> str:
    """What a side is called in the row of that workload."""
    return _OWN_SIDES.get(side, side) if workload.encrypted else side


@dataclass(frozen=True, slots=True)
class Summary:
    """The rounds of one workload on one side: the median of each figure, and the range of the rate."""

    workload: Workload
    side: str
    rounds: list[Result]

    @property
    def label(self) -> str:
        """What the side is called."""
        return side_label(self.workload, self.side)

    def median(self, figure: str) -> float:
        """The middle of the rounds."""
        return float(statistics.median(getattr(result, figure) for result in self.rounds))

    def spread(self, figure: str) -> tuple[float, float]:
        """Smallest and largest of the rounds."""
        values = [float(getattr(result, figure)) for result in self.rounds]
        return min(values), max(values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """etcdpy beside etcd on one workload."""

    first: Summary
    second: Summary
    without_users: Summary | None = None
    """The second side on the same workload without users, where this one has them."""

    @property
    def ratio(self) -> float:
        """The second side's rate over the first's."""
        return self.second.median("rate") / self.first.median("rate")

    def missed(self) -> list[str]:
        """Which of the workload's goals were not reached, in words."""
        workload = self.first.workload
        goals = []
        if self.ratio < workload.ratio_min:
            goals.append(f"rate {self.ratio:.2f} x, goal {workload.ratio_min:.1f} x")
        if workload.p99_no_worse and self.second.median("p99_ms") > self.first.median("p99_ms"):
            goals.append("p99 worse")
        if workload.server_us_max is not None and self.second.median("server_us") > workload.server_us_max:
            goals.append(f"{self.second.median('server_us'):.0f} us a put, goal {workload.server_us_max:.0f}")
        share = self.share_of_rate
        if share is not None and share < USERS_SHARE_MIN:
            goals.append(f"{share:.0%} of the rate without users, goal {USERS_SHARE_MIN:.0%}")
        return goals

    @property
    def share_of_rate(self) -> float | None:
        """What the second side keeps of its own rate without users; None for a workload without them."""
        if self.without_users is None:
            return None
        return self.second.median("rate") / self.without_users.median("rate")

    @property
    def summaries(self) -> list[Summary]:
        """All that was measured, the second side last."""
        return [self.first, *([self.without_users] if self.without_users else []), self.second]


def rate_text(rate: float) -> str:
    """Whole numbers, and for what takes its time two digits after the point."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


def compare(workloads: list[Workload], results: list[Result], sides: tuple[str, str]) -> list[Comparison]:
    """One comparison for each workload that ran on both sides."""
    comparisons: list[Comparison] = []
    for workload in workloads:
        first, second, without = (
            Summary(workload, side, [r for r in results if r.workload == workload.name and r.side == side])
            for side in (*sides, WITHOUT_USERS)
        )
        if first.rounds and second.rounds:
            comparisons.append(Comparison(first, second, without if without.rounds else None))
    return comparisons


def print_table(comparisons: list[Comparison], checks: list[SyncCheck], rounds: int) -> None:
    """The one table, on standard output."""
    table = Table(title=f"etcdpy beside etcd: median of {rounds} interleaved rounds (range of the rate)")
    for name in ("workload", "server"):
        table.add_column(name)
    for name in ("requests/s", "(range)", "p50 ms", "p99 ms", "server us", "RSS MB", "revisions", "ratio", "goal"):
        table.add_column(name, justify="right")
    for comparison in comparisons:
        workload = comparison.first.workload
        for summary in comparison.summaries:
            last = summary is comparison.second
            low, high = summary.spread("rate")
            table.add_row(
                f"{workload.name}: {workload.what}" if summary is comparison.first else "",
                summary.label,
                rate_text(summary.median("rate")),
                f"({rate_text(low)} to {rate_text(high)})",
                f"{summary.median('p50_ms'):.2f}",
                f"{summary.median('p99_ms'):.2f}",
                f"{summary.median('server_us'):,.1f}",
                f"{summary.median('rss_mb'):,.0f}",
                f"{summary.median('revisions'):,.0f}",
                f"{comparison.ratio:.2f} x" if last else "",
                _goal(comparison) if last else "",
                end_section=last,
            )
    console = Console(width=None if os.isatty(1) else 190)
    console.print(table)
    for check in checks:
        verdict = "ok" if check.held else "BROKEN: answered before it was synced"
        console.print(
            f"sync before answer, {check.side}: {check.puts} sequential puts, {check.syncs} syncs "
            f"({check.counted_by}): {verdict}"
        )


def build_of_etcdpy() -> str:
    """Which build of etcdpy runs, by its own word."""
    command = [*command_of("etcdpy"), "--version"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    (python,) = (line for line in lines if line.startswith("Python Version"))
    return "compiled with mypyc" if "compiled" in python else "the sources, not compiled"


def _goal(comparison: Comparison) -> str:
    missed = comparison.missed()
    if missed:
        return "missed: " + ", ".join(missed)
    share = comparison.share_of_rate
    kept = "" if share is None else f", keeps {share:.0%}"
    return f"{comparison.first.workload.ratio_min:.1f} x{kept}"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpus": os.cpu_count(),
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "etcdpy": build_of_etcdpy(),
        "layout": "server and load generator share all cores",
    }


def write_json(path: Path, comparisons: list[Comparison], checks: list[SyncCheck], rounds: int) -> None:
    """Every figure of every round, with medians and ratios."""
    document = {
        "machine": machine(),
        "rounds": rounds,
        "workloads": [
            {
                "name": comparison.first.workload.name,
                "what": comparison.first.workload.what,
                "ratio": round(comparison.ratio, 3),
                "ratio_goal": comparison.first.workload.ratio_min,
                "missed": comparison.missed(),
                "sides": {
                    summary.label: {
                        "median": {figure: round(summary.median(figure), 3) for figure in _FIGURES},
                        "rounds": [result.as_json() for result in summary.rounds],
                    }
                    for summary in comparison.summaries
                },
            }
            for comparison in comparisons
        ],
        "sync_before_answer": [{**asdict(check), "held": check.held} for check in checks],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def draw_chart(path: Path, comparisons: list[Comparison]) -> None:
    """Rates side by side, each workload on a scale of its own: the ratio is what compares."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 0.75 * len(comparisons) + 1.6), layout="constrained")
    height = 0.38
    for row, comparison in enumerate(reversed(comparisons)):
        base = comparison.first.median("rate")
        for offset, summary, colour in (
            (height / 2, comparison.first, "#8a8f98"),
            (-height / 2, comparison.second, "#2f6db5"),
        ):
            relative = summary.median("rate") / base
            low, high = (value / base for value in summary.spread("rate"))
            axes.barh(row + offset, relative, height, color=colour, label=summary.side if row == 0 else None)
            axes.plot([low, high], [row + offset] * 2, color="black", linewidth=1)
            axes.text(
                max(relative, high) + 0.03,
                row + offset,
                f"{rate_text(summary.median('rate'))}/s",
                va="center",
                fontsize=8,
            )
        goal = comparison.first.workload.ratio_min
        axes.plot([goal, goal], [row - height, row + height], color="#c0392b", linestyle=":", linewidth=1.5)
    axes.set_yticks(
        range(len(comparisons)),
        [f"{c.first.workload.name}\n{c.first.workload.what}" for c in reversed(comparisons)],
        fontsize=8,
    )
    axes.set_xlabel("rate, etcd = 1 (line: range of the rounds; dotted: goal)")
    axes.margins(x=0.12)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title("etcdpy beside etcd, same machine, same run")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
