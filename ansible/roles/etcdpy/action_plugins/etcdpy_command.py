"""Runs a command, or a few lines of shell, as ansible.builtin.command and .shell do, but by the host's shell alone.

Those send a module, and Python needs a third of a second on each host to begin with it: more than most of what is asked
here takes. What is to be run comes by standard input, so none of it stands in an argument that others could see.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_NEEDED = "etcdpy_command: that is so already"


def script_of(given: Mapping[str, Any], *, check_mode: bool) -> str:
    """What the shell reads. The whole is one compound command, so that half of it, cut off on its way, does nothing."""
    words = given.get("argv")
    command = given["cmd"] if words is None else shlex.join(map(str, words))
    lines = ["{"]
    if "chdir" in given:
        lines.append(f"cd -- {shlex.quote(given['chdir'])} || exit")
    for name, there in (("creates", "-e"), ("removes", "! -e")):
        if name in given:
            lines.append(f"if [ {there} {shlex.quote(given[name])} ]; then echo {shlex.quote(NOT_NEEDED)}; exit 0; fi")
    if not check_mode:
        lines += [f"printf %s {shlex.quote(given.get('stdin', ''))} | {{", command, "}"]
    return "\n".join([*lines, "}", ""])


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `cmd` or `argv`, `stdin`, `chdir`, `creates` and `removes`; answers as a module does.

    With `sent`, a file of the control machine, the command finds a copy of that at $sent, for as long as it runs.
    """

    _VALID_ARGS = frozenset(("cmd", "argv", "stdin", "chdir", "creates", "removes", "sent"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """As of every action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        check_mode = bool(self._task.check_mode)
        if check_mode and not {"creates", "removes"} & given.keys():
            return {**result, "changed": False, "skipped": True}
        done = self._shell(script_of(given, check_mode=check_mode), "" if check_mode else given.get("sent", ""))
        said = {name: done[name].rstrip("\r\n") for name in ("stdout", "stderr")}
        result |= {"rc": done["rc"], "changed": said["stdout"] != NOT_NEEDED, **said}
        result |= {f"{name}_lines": text.splitlines() for name, text in said.items()}
        if done["rc"] != 0:
            result |= {"failed": True, "msg": "non-zero return code"}
        return result

    def _shell(self, script: str, sent: str) -> dict[str, Any]:
        shell = f"{self._compute_environment_string()} /bin/sh".strip()
        if not sent:
            return dict(self._low_level_execute_command(shell, in_data=script.encode()))
        place = self._make_tmp_path()
        try:
            copy = self._transfer_file(sent, self._connection._shell.join_path(place, "sent"))
            return dict(self._low_level_execute_command(shell, in_data=f"sent={shlex.quote(copy)}\n{script}".encode()))
        finally:
            self._remove_tmp_path(place)
