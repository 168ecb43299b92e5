"""make-mirror leaves nothing behind that goes on reporting."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.ctl import mirror
from etcdpy.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS: dict[str, Any] = {"prefix": "", "no_dest_prefix": False, "dest_prefix": "", "rev": 0, "max_txn_ops": 128}


class Refusing:
    """A client that may read nothing, and says so late enough for a report."""

    def pages(self, *_: object, **__: object) -> Iterator[Any]:
        time.sleep(0.05)
        raise PermissionDenied
        yield


def test_its_reports_end_with_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mirror, "REPORT_SECONDS", 0.01)
    before = set(threading.enumerate())
    client: Any = Refusing()
    with pytest.raises(PermissionDenied):
        mirror.Mirror(client, client, FLAGS).run()
    assert capsys.readouterr().out.startswith("0\n0\n")
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
