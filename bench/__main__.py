"""`python -m bench`: etcdpy beside real etcd on the same machine in the same run (make bench).

The rounds are interleaved: in each round every workload runs on one side, then on the other, and the side that goes
first changes from round to round, so that a slow minute of the machine meets both. Every run has a fresh data
directory, on the disk that --data-root names, and its requests are checked by the revisions that they made.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report, sync_check
from bench.load import LoadError, h2load_binary
from bench.sides import BenchError, make_certificates, run_once
from bench.workloads import WORKLOADS, Workload
from tests.support.members import KINDS
from tests.support.reference import ReferenceMissing, build_reference

if TYPE_CHECKING:
    from bench.sides import Result
    from tests.support.members import Kind

DOCS = Path(__file__).resolve().parents[1] / "docs" / "bench"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, for a look; publishes nothing")
    parser.add_argument("--only", action="append", metavar="NAME", help="only workloads whose name begins with NAME")
    parser.add_argument("--rounds", type=int, help="rounds (default 3; quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes (default docs/bench, full runs)")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="where the PNG goes (default docs/bench, full runs)")
    parser.add_argument(
        "--data-root", type=Path, default=Path.cwd() / ".bench", help="on the disk to measure (default .bench here)"
    )
    parser.add_argument("--sides", nargs=2, choices=KINDS, default=list(KINDS), help="what stands beside what")
    return parser.parse_args(arguments)


def chosen(only: list[str] | None) -> list[Workload]:
    """The workloads asked for; all where nothing was asked."""
    found = [w for w in WORKLOADS if not only or any(w.name.startswith(name) for name in only)]
    if not found:
        raise BenchError(f"no workload of that name; there are {', '.join(w.name for w in WORKLOADS)}")
    return found


def labels(sides: list[Kind]) -> tuple[str, str]:
    """Names of the two columns, apart even where both are of one kind."""
    first, second = sides
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")


def runs_of(workload: Workload, names: tuple[str, str], sides: list[Kind]) -> list[tuple[str, Kind, Workload]]:
    """What runs in a round of a workload: each side, and where it has users the second side without them as well."""
    runs = [(name, kind, workload) for name, kind in zip(names, sides, strict=True)]
    if workload.users_on:
        plain = next(each for each in WORKLOADS if each.name == workload.users_on)
        runs.append((report.WITHOUT_USERS, sides[1], plain))
    return runs


def measure(workloads: list[Workload], sides: list[Kind], rounds: int, *, quick: bool, data_root: Path) -> list[Result]:
    """All rounds. Raises LoadError, BenchError."""
    names = labels(sides)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-pki-") as directory:
        tls = make_certificates(Path(directory) / "pki")
        for number in range(max(rounds, *(workload.rounds or 0 for workload in workloads))):
            for workload in workloads:
                if number >= (rounds if quick else workload.rounds or rounds):
                    continue
                order = runs_of(workload, names, sides)
                for name, kind, run in order if number % 2 == 0 else reversed(order):
                    total = workload.quick_total if quick else workload.total
                    result = replace(run_once(run, name, kind, total, tls, data_root), workload=workload.name)
                    results.append(result)
                    print(
                        f"round {number + 1}/{rounds}  {workload.name:<10} {report.side_label(workload, name):<13} "
                        f"{report.rate_text(result.rate):>10}/s  "
                        f"p99 {result.p99_ms:8.2f} ms  {result.server_us:7.1f} us of server CPU, "
                        f"{result.generator_us:.1f} of the generator's",
                        file=sys.stderr,
                        flush=True,
                    )
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write. 1 where a figure cannot be trusted: failed requests, or an answer before its sync."""
    options = parse(arguments)
    try:
        workloads = chosen(options.only)
        build_reference("etcd")
        build_reference("benchmark")
        h2load_binary()
        rounds = options.rounds or (1 if options.quick else 3)
        options.data_root.mkdir(parents=True, exist_ok=True)
        names = labels(options.sides)
        print(f"etcdpy here: {report.build_of_etcdpy()}", file=sys.stderr, flush=True)
        checks = [
            sync_check.check(name, kind, options.data_root) for name, kind in zip(names, options.sides, strict=True)
        ]
        results = measure(workloads, options.sides, rounds, quick=options.quick, data_root=options.data_root)
    except (LoadError, BenchError, ReferenceMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    comparisons = report.compare(workloads, results, names)
    report.print_table(comparisons, checks, rounds)
    publish = not options.quick and not options.only and options.sides == list(KINDS)
    if json_path := options.json or (DOCS / "results.json" if publish else None):
        report.write_json(json_path, comparisons, checks, rounds)
    if chart_path := options.chart or (DOCS / "results.png" if publish else None):
        report.draw_chart(chart_path, comparisons)
    return 0 if all(check.held for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
