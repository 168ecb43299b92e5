"""Play hostile inputs.

python -m tests.fuzz --surface NAME --seed N      one seed again
python -m tests.fuzz --soak SECONDS [--surface NAME]   random seeds for that long, all surfaces in turn
python -m tests.fuzz --soak SECONDS --inputs 1000000   the same, over as soon as that many inputs were played
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.fuzz.harness import again, run
from tests.fuzz.surfaces import BY_NAME, SURFACES

if TYPE_CHECKING:
    from tests.fuzz.harness import Surface

PROGRESS_SECONDS = 30.0
SHARE_SECONDS = 1.0
"""How long one surface has its turn."""


def quiet() -> None:
    """What the product logs about hostile inputs is no news."""
    logger = logging.getLogger("etcdpy")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def soak(seconds: float, inputs_max: float, surfaces: list[Surface]) -> int:
    """Random seeds, until the time is over or that many inputs were played; the number of seeds that fail."""
    draw = random.SystemRandom()
    begin = said = time.monotonic()
    inputs: Counter[str] = Counter()
    failed: list[str] = []
    turn = 0
    while time.monotonic() - begin < seconds and inputs.total() < inputs_max:
        surface = surfaces[turn % len(surfaces)]
        turn += 1
        until = min(time.monotonic() + SHARE_SECONDS, begin + seconds)
        while time.monotonic() < until:
            seed = draw.getrandbits(40)
            result = run(surface, seed)
            inputs[surface.name] += result.inputs
            if result.finding is not None:
                failed.append(again(surface, seed))
                print(f"FAILED {failed[-1]}\n  {result.finding}", flush=True)
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"{said - begin:.0f} s: {inputs.total()} inputs, {len(failed)} failed", flush=True)
    print(f"{time.monotonic() - begin:.0f} s: {inputs.total()} inputs, {len(failed)} failed", *failed, sep="\n  ")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(inputs.items())))
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--surface", choices=sorted(BY_NAME))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    parser.add_argument("--inputs", type=int, default=math.inf, metavar="N", help="end a soak after so many")
    options = parser.parse_args()
    quiet()
    if options.soak is not None:
        chosen = [BY_NAME[options.surface]] if options.surface else [surface for surface, _ in SURFACES]
        return 1 if soak(options.soak, options.inputs, chosen) else 0
    if options.seed is None or options.surface is None:
        parser.error("say which --surface and --seed, or how long to --soak")
    result = run(BY_NAME[options.surface], options.seed)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print(f"{options.surface} {options.seed} at {commit.strip() or 'no commit'}: {result.inputs} inputs, ", end="")
    print(f"slowest turn {result.slowest_seconds * 1000:.1f} ms: {result.finding or 'sound'}")
    return 1 if result.finding else 0


if __name__ == "__main__":
    sys.exit(main())
