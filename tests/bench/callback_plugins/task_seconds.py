# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Note how long each task of a play took: a line `NAME SECONDS` each, in the file that TASK_SECONDS names."""

from __future__ import annotations

import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: task_seconds
type: aggregate
short_description: Note the seconds of each task
description: Notes the seconds of each task, from its start on the controller to its result.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        self.name, self.started = task.name, time.perf_counter()

    def v2_runner_on_ok(self, result) -> None:
        took = time.perf_counter() - self.started
        with open(os.environ["TASK_SECONDS"], "a") as report:
            report.write(f"{self.name} {took:.4f}\n")
