"""`python -m pki`: the same commands as `etcdpy pki`."""

from __future__ import annotations

from pki.cli import pki

if __name__ == "__main__":
    pki(prog_name="python -m pki")
