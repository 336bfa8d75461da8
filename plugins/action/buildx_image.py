# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what a module does while it takes long: every ten seconds one line, over whatever connection the task has.

meta/runtime.yml has it run buildx_image and the other modules that may take minutes. A module writes what it does into a file on
its host (module_utils/_progress.py). A thread here reads that file through a copy of the task's connection; a module that ends
before the first ten seconds are over costs nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import os
import threading
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action.normal import ActionModule as Normal
from ansible.utils.display import Display

from ..module_utils._progress import ARGUMENT, LONGEST, OTHERS, RUN, duration

# The variable of a host or a play that turns it off: false, or how many seconds lie between two lines.
SETTING = "multiarch_progress"
SECONDS = 10.0
# Lines of one moment come in the order of the hosts: each waits for its turn, after the time that the question takes.
ANSWER = 0.2
TURN = 0.01
# A connection that fails so often is not asked again.
FAILURES = 3
# Only the file of the module's own user: a name that somebody else has seen is no way to have another file read.
READ = (
    f'd={OTHERS}; [ "$(id -u)" = 0 ] && d={RUN}; for f in $d/multiarch.drone.*.%s; do '
    '[ ! -L "$f" ] && [ -f "$f" ] && [ -O "$f" ] && cat "$f"; done; true'
)


class ActionModule(Normal):
    """What Ansible loads: its own way to run a module, with a thread beside it."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run the module, and show what it says of its progress."""
        seconds = self._seconds(task_vars or {})
        if not seconds or self._task.check_mode or self._task.no_log or self._task.async_val:
            return super().run(tmp, task_vars)
        name = os.urandom(8).hex()
        self._task.args = {**self._task.args, ARGUMENT: name}
        ended = threading.Event()
        watcher = Watcher(self, name, seconds, ended, task_vars)
        # ansible-core from 2.19 on keeps the task that it is about in the context.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(watcher.watch,), daemon=True)
        thread.start()
        try:
            return super().run(tmp, task_vars)
        finally:
            ended.set()
            thread.join(seconds)  # a question that is on its way when the module ends

    def _seconds(self, task_vars: dict[str, Any]) -> float:
        value = self._templar.template(task_vars.get(SETTING, True))
        text = str(value).strip().lower()
        if text in ("true", "yes", "on"):
            return SECONDS
        if text in ("false", "no", "off", ""):
            return 0
        with contextlib.suppress(ValueError):
            if 0 <= float(text) < float("inf"):
                return float(text)
        raise AnsibleActionFail(f"{SETTING} is {value!r}; it is true, false, or a number of seconds")


class Watcher:
    """Reads what a module says, and shows it."""

    def __init__(self, action: Any, name: str, seconds: float, ended: threading.Event, task_vars: Any) -> None:
        # What asks has a connection and a way to become of its own: they remember what they are about.
        self._action = copy.copy(action)
        self._action._connection = connection = copy.copy(action._connection)
        connection.become = copy.copy(connection.become)
        self._command = READ % name
        self._seconds = seconds
        self._ended = ended
        self._host = task_vars["inventory_hostname"]
        self._what = action._task.get_name()
        hosts = list(task_vars.get("ansible_play_batch", ()))
        self._turn = hosts.index(self._host) if self._host in hosts else len(hosts)

    def watch(self) -> None:
        """Show a line at each multiple of the interval, until the module ends."""
        begun = time.time()
        said, since, failures = "", begun, 0
        moment = (begun // self._seconds + 2) * self._seconds
        while failures < FAILURES and not self._ended.wait(max(0.0, moment - time.time())):
            try:
                text = self._ask()
                failures = 0
            except Exception:  # whatever a connection raises: the module's own use of it says what is wrong
                text = ""
                failures += 1
            if text != said:
                said, since = text, moment
            if self._ended.wait(max(0.0, moment + ANSWER * self._seconds + TURN * self._turn - time.time())):
                return
            if text:
                lasting = f", for {duration(moment - since)}" if moment > since and ", for " not in text else ""
                Display().display(f"[{self._host}] {text}{lasting}")
            elif not failures:
                Display().display(f"[{self._host}] {self._what}, for {duration(moment - begun)}")
            moment = max(moment + self._seconds, time.time() // self._seconds * self._seconds)

    def _ask(self) -> str:
        answer = self._action._low_level_execute_command(self._command, sudoable=True)
        lines = str(answer["stdout"]).split("\n") if answer["rc"] == 0 else []
        text = next((line for line in reversed(lines) if line.strip()), "")
        return "".join(char for char in text if char.isprintable())[:LONGEST].strip()
