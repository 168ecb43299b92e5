"""For Ansible, which finds it by its file's name: ends a run at the place that `Site.interrupted` names.

INTERRUPT_PLACE: a task's name, or a number N: the first task from the Nth on before which something was done since the
one before it, since otherwise the hosts are as they were there. INTERRUPT_TOLD: the file that says where it ended.
INTERRUPT_CUT_AFTER: so many seconds into that task all processes of the run are killed; without it, it ends as by
Ctrl-C before the task.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]

LOOKS: Final = frozenset(
    ("assert", "debug", "fail", "find", "group_by", "include_tasks", "meta", "ping", "set_fact", "slurp", "stat")
)
"""Modules and actions that change nothing."""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Under this name Ansible looks for it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "interrupt"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._place = os.environ["INTERRUPT_PLACE"]
        self._told = Path(os.environ["INTERRUPT_TOLD"])
        self._cut_after = os.environ.get("INTERRUPT_CUT_AFTER")
        self._task: Any = None
        self._begun = 0
        self._did = 0
        self._cutting = False

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count, and end the run where it is time."""
        self._task = task
        self._begun += 1
        if self._cutting or not self._is_there():
            return
        if self._cut_after is None:
            self._tell()
            raise KeyboardInterrupt
        self._cutting = True
        timer = threading.Timer(float(self._cut_after), self._cut)
        timer.daemon = True
        timer.start()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Take down that something was done. What runs in check mode too only asks, unless it says otherwise."""
        asked = result.task.check_mode is False and not result.result.get("changed")
        if not asked and not _only_looks(result.task):
            self._did = self._begun

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Half of it may have been done."""
        if not _only_looks(result.task):
            self._did = self._begun

    def _is_there(self) -> bool:
        if not self._place.isdecimal():
            return bool(self._task.name == self._place)
        if self._begun < int(self._place):
            return False
        # Nobody knows yet what a task does that is to be cut off in its middle.
        return not _only_looks(self._task) if self._cut_after else self._did >= int(self._place) - 1

    def _tell(self) -> None:
        self._told.write_text(f"{self._begun} {self._task.get_name()}")

    def _cut(self) -> None:
        self._tell()
        for process in (*_descendants(os.getpid()), os.getpid()):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process, signal.SIGKILL)


def _only_looks(task: Any) -> bool:
    return task.action.rpartition(".")[2] in LOOKS


def _descendants(process: int) -> list[int]:
    """Whose sessions are their own, so that no signal to a group comes to all."""
    children = Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    return [each for child in found for each in (child, *_descendants(child))]
