"""Has a text file on a host be as it is given, as ansible.builtin.copy does with `content`, by the host's shell alone
(etcdpy_command.py says why)."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

LOOK = "if [ -f {path} ]; then stat -L -c %a -- {path} && cat -- {path}; fi"
WRITE = """{{ umask 077 && printf %s {content} > {path}.new && chmod -- {mode} {path}.new && mv -T -- {path}.new {path}
}}"""


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `content`, `path` and `mode`, three octal digits; with --check and --diff says what would change."""

    _VALID_ARGS = frozenset(("content", "path", "mode"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """As of every action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        content, path, mode = (str(self._task.args[name]) for name in ("content", "path", "mode"))
        words = {"content": shlex.quote(content), "path": shlex.quote(path), "mode": mode}
        looked = self._shell(LOOK, words)
        had, _, before = looked["stdout"].partition("\n")
        result |= {"path": path, "changed": (had, before) != (mode, content)}
        if self._task.diff:
            result["diff"] = {"before_header": path, "before": before, "after_header": path, "after": content}
        done = self._shell(WRITE, words) if result["changed"] and not self._task.check_mode else looked
        if done["rc"] != 0:
            result |= {"failed": True, "msg": done["stderr"].strip() or done["stdout"].strip()}
        return result

    def _shell(self, script: str, words: dict[str, str]) -> dict[str, Any]:
        done: dict[str, Any] = self._low_level_execute_command(
            "/bin/sh", in_data=f"{script.format(**words)}\n".encode()
        )
        return done
