"""The examples of docs/gateway.md do what the page says, on real etcd and on etcdpy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.members import Member

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"


def test_every_example_is_answered(member: Member) -> None:
    """Where the deadline of etcd's gateway and that of its server pass together, its watch may end as cancelled."""
    examples = [line for line in PAGE.read_text().splitlines() if line.startswith("curl ")]
    assert len(examples) > 10
    for example in examples:
        command = example.replace("http://127.0.0.1:2379", member.client_url)
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=20, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert answers, example
        if "/v3/watch" in example:
            events = [event for answer in answers[1:-1] for event in answer["result"]["events"]]
            assert [event["kv"]["value"] for event in events] == ["aGVsbG8="]
            late = {"error": {"code": 4, "message": "context deadline exceeded"}}
            assert answers[-1] == late or (member.kind == "etcd" and "CANCEL" in answers[-1]["error"]["message"])
        else:
            assert all("error" not in answer and "code" not in answer for answer in answers), (example, answers)
