"""Members of etcd's own raft library (go.etcd.io/raft) in a process beside, played like those of raft_network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

MODULE: Final = Path(__file__).resolve().parents[1] / "reference" / "raft"


@cache
def go_raft_binary() -> Path:
    """The program, built on first use; where that cannot be the test is skipped, and in CI it fails."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(MODULE.iterdir())))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = base / "etcdpy" / f"go-raft-{digest.hexdigest()[:16]}"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        aside = binary.with_name(f".{binary.name}-{os.getpid()}")
        command = [shutil.which("go") or "go", "build", "-trimpath", "-buildvcs=false", "-o", str(aside), "."]
        try:
            subprocess.run(command, cwd=MODULE, capture_output=True, text=True, timeout=600, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            text = f"etcd's raft cannot be built: {error} {getattr(error, 'stderr', '')}"
            if os.environ.get("CI") == "true":
                pytest.fail(text)
            pytest.skip(text)
        aside.rename(binary)
    return binary


class GoRaft:
    """The process, with any number of members in it. What it does when it panics is to end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(go_raft_binary())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, *words: object) -> dict[str, Any]:
        """One line there, one answer back; see tests/reference/raft/main.go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"etcd's raft panicked at {words}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
