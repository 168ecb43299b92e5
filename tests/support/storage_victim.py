"""A process that writes until it is killed, and says after each sync what is durable. See test_storage_kill.

With `install` as third argument it also receives a state from time to time, and says so once that is in place.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.support.storage import check_prefix, install, new_engine, write_batch


def main() -> None:
    seed = int(sys.argv[2])
    draw = random.Random(seed)
    installs = sys.argv[3:] == ["install"]
    engine = new_engine(Path(sys.argv[1]), snapshot_count=60, catchup_entries=20)
    print("open", *check_prefix(engine), flush=True)
    while True:
        if installs and draw.random() < 0.5:
            install(engine, engine.log.last_index() + draw.choice([1, 7, 200]))
        else:
            write_batch(engine, draw.choice([1, 1, 2, 5, 20]), apply=draw.random() < 0.9)
        print(engine.log.last_index(), flush=True)


if __name__ == "__main__":
    main()
