"""Boot four hosts, make a cluster of three of them, and keep both until Enter is pressed.

For work on playbooks: `python -m tests.hosts DIRECTORY` (a short path) in one terminal, and in another
`HOSTLAB=DIRECTORY pytest tests/hosts/test_...`, which runs on these hosts instead of booting its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hosts.lab import Lab
from tests.hosts.site import ADDRESSES, Site, make_wheels


def main() -> None:
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    wheels = place / "wheels"
    if not wheels.exists():
        make_wheels(wheels)
    with Lab(f"{place}/l", ADDRESSES, {"/wheels": wheels}) as lab:
        print(Site(lab, wheels, place / "site").play("site.yml"))
        input(f"HOSTLAB={place} pytest tests/hosts/...   (Enter: end) ")


if __name__ == "__main__":
    main()
