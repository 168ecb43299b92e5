"""The client that Python programs use with etcd works on etcdpy as on etcd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.members import Member


def test_every_call(member: Member) -> None:
    script = Path(__file__).with_name("python_etcd3_calls.py")
    done = subprocess.run(
        [sys.executable, str(script), member.endpoint],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # The package's generated code is older than what the compiled protobuf runtime accepts.
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("passed") == 7
