# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's BuildKit daemons, from the module's options to its result: wish, world, plan, and the world again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._change_each import carry_out_each
from .._platform import by_machine
from .._values import check_values
from .plan import as_diff, as_diff_absent, as_result, plan, plan_absent, plan_old_programs
from .wish import ARGUMENTS, declare
from .world import declared_before, group_id, old_programs, programs, read, read_left

if TYPE_CHECKING:
    from .._arguments import Module


def work(module: Module) -> dict[str, Any]:
    """Return the result of buildkitd_instances."""
    wanted = module.params
    check_values(ARGUMENTS, wanted)
    present = wanted["state"] == "present"
    tools = programs(wanted["programs"], may_lack=module.check_mode or not (present and wanted["instances"]))
    instances = [{**instance, "gid": group_id(instance)} for instance in wanted["instances"]] if present else []
    daemons = {daemon.name: daemon for daemon in declare(instances, tools, may_lack=module.check_mode)}
    gone = [] if present else [instance["name"] for instance in wanted["instances"]]
    if wanted["exclusive"]:
        gone += [name for name in declared_before() if name not in (*daemons, *gone)]
    keep = wanted["keep_cache"]
    found = {name: read(daemon, tools) for name, daemon in daemons.items()}
    plans = {name: plan(daemon, found[name], tools) for name, daemon in daemons.items()}
    plans.update({name: plan_absent(name, read_left(name), keep_cache=keep) for name in gone})
    old = old_programs(wanted["versions"], tools, [*daemons, *gone]) if wanted["versions"] else []
    if old:
        plans["old programs"] = plan_old_programs(old)

    def reread() -> dict[str, Any]:
        found.update({name: read(daemon, tools) for name, daemon in daemons.items()})
        shapes = {name: as_diff(daemon, found[name]) for name, daemon in daemons.items()}
        shapes.update({name: as_diff_absent(read_left(name), keep_cache=keep) for name in gone})
        shapes["old programs"] = {"directories": [path for path in old if os.path.isdir(path)]}
        return shapes

    result = carry_out_each(plans, check_mode=module.check_mode, reread=reread)
    return {
        **result,
        "native": [str(by_machine(os.uname().machine))],
        "daemons": [as_result(daemon, found[name]) for name, daemon in daemons.items()],
    }
