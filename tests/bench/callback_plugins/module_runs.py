# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Count what costs time: the runs of a module on a host. Written to the file that MODULE_RUNS names, host by host.

`raw`, which needs no Python there, is one, and counted beside as well.
"""

from __future__ import annotations

import json
import os
from collections import Counter

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: module_runs
type: aggregate
short_description: Count module runs
description: Counts the module runs of each host.
"""

# Actions that the controller does alone: no host is asked.
CONTROLLERS_OWN = {
    "add_host",
    "assert",
    "debug",
    "fail",
    "group_by",
    "import_role",
    "import_tasks",
    "include_role",
    "include_tasks",
    "include_vars",
    "meta",
    "preflight",
    "set_fact",
    "validate_argument_spec",
}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_runs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.runs: Counter[str] = Counter()
        self.raw: Counter[str] = Counter()

    def _count(self, result) -> None:
        action = result._task.action.rpartition(".")[2]
        if action not in CONTROLLERS_OWN:
            items = [item for item in result._result.get("results", [None]) if not (item or {}).get("skipped")]
            runs = len(items) if result._task.loop else 1
            self.runs[result._host.get_name()] += runs
            self.raw[result._host.get_name()] += runs if action == "raw" else 0

    v2_runner_on_ok = v2_runner_on_failed = _count

    def v2_playbook_on_stats(self, stats) -> None:
        with open(os.environ["MODULE_RUNS"], "w") as report:
            json.dump({"runs": self.runs, "raw": self.raw}, report)
