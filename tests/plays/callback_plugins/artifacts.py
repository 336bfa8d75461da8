# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write every event of a play to files, as ansible-runner and AWX keep them: one JSON file an event, items of loops included."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: artifacts
type: aggregate
short_description: Every event as a JSON file
description: For the tests; the directory is in the environment variable ARTIFACTS.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "artifacts"

    count = 0

    def _keep(self, event, result):
        self.count += 1
        kept = {"event": event, "res": result._result, "task": result._task.get_name()}
        with open(f"{os.environ['ARTIFACTS']}/{self.count}-{event}.json", "w", encoding="utf-8") as file:
            json.dump(kept, file, default=repr)


def _keeper(event):
    def keep(self, result, *_args, **_options):
        self._keep(event, result)

    return keep


for name in ("ok", "failed", "skipped", "unreachable", "item_on_ok", "item_on_failed", "item_on_skipped", "retry"):
    event = f"v2_runner_{name}" if name.startswith("item") or name == "retry" else f"v2_runner_on_{name}"
    setattr(CallbackModule, event, _keeper(event))
