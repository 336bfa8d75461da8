# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's variables as several roles would take them, judged in one task that asks no host.

Ansible would take a task for each role. And it loads this file in its main process, so that no worker has to read the
specifications, or compile what knows runners, once more.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase

from ..module_utils._preflight import problems_of, tags_of_nobody, texts

SPECIFICATIONS = {
    path.parents[1].name: yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    for path in Path(__file__).parents[2].glob("roles/*/meta/argument_specs.yml")
}


class ActionModule(ActionBase):
    """What Ansible loads."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Fail, and say why, where the roles would refuse the variables of this host."""
        result = super().run(tmp, task_vars)
        choices = {"roles": {"type": "list", "elements": "str", "required": True, "choices": sorted(SPECIFICATIONS)}}
        roles = self.validate_argument_spec(choices)[1]["roles"]
        told = tags_of_nobody(task_vars.get("ansible_run_tags", ()), self._task.tags)
        if told:
            result["warnings"] = [told]
        declared = {name: option for role in roles for name, option in SPECIFICATIONS[role].items()}
        values = self._templar.template({name: task_vars[name] for name in declared if name in task_vars})
        # A default that is a template: here the role's own defaults need not be known.
        if "drone_runner" in roles:
            values.setdefault("drone_runner_name", task_vars["inventory_hostname"])
        if "buildkitd" in roles:
            values.setdefault("buildkitd_address", task_vars["inventory_hostname"])
            values.setdefault("buildkitd_pki", "~/.config/multiarch.drone/buildkitd")
        problems = texts(declared, values) or problems_of(declared, roles, values, self._names(roles, task_vars))
        if problems:
            # Returned, not raised: ansible-core 2.18 prints "An exception occurred" before the words of what is raised.
            msg = (
                "wrong variables: " + "; ".join(problem.rstrip(".") for problem in problems) + ". Nothing was changed."
            )
            return {**result, "failed": True, "msg": msg}
        return {**result, "changed": False}

    def _names(self, roles: list[str], task_vars: Any) -> dict[str, str]:
        """Return the names of the fleet's runners by host, "" for the host's own."""
        if "drone_runner" not in roles:
            return {}
        # To ask for another host's variables takes a millisecond, and of a thousand hosts each would ask for a thousand: the first
        # asks for all. Each task has a process of its own, so that a file of this run of Ansible is what they have in common.
        with open(Path(constants.DEFAULT_LOCAL_TMP, f"runner-names-{self._task._uuid}.json"), "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = file.read()
            if known:
                return dict(json.loads(known))
            hosts = {*task_vars["ansible_play_hosts_all"], *task_vars["groups"].get("runners", [])}
            names = {str(host): str(task_vars["hostvars"][host].get("drone_runner_name", "") or "") for host in hosts}
            file.write(json.dumps(names))
        return names
