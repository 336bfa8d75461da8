# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pipeline in a template of the Drone server: one change for every repository that loads it."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from .._change import Plan, Step, carry_out
from .._drone.client import route
from .._drone.items import Item, Place, delete, update
from .._drone.templates import make
from .._problem import Problem
from .checks import NEED_HOSTS, Server, check_hosts
from .wish import as_result, wish_of
from .yaml_dump import dump_all

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def to_template(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Put the pipeline into a template: one change for every repository that loads it."""
    options = module.params["template"]
    namespace, name = options["namespace"], options["name"]
    if server is None:
        raise Problem("a template is the Drone server's, and drone_url is not set", "set drone_url and drone_token")
    if not re.fullmatch(r"[\w.-]+\.ya?ml", name, re.ASCII):
        raise Problem(
            f"{name!r} is not a valid name for a template in YAML",
            "end it in .yaml; Drone ignores other endings silently",
        )
    wish = wish_of(module, server, {}, "")
    if wish.pipeline.strategy == "cross":
        wish.skipped.add("dockerfile")
    wish.skipped.update(("trust", "secrets"))
    if wish.platforms is None:
        wish.skipped.add("platforms")
    elif wish.pipeline.strategy in NEED_HOSTS:
        check_hosts(wish.pipeline, wish.platforms)
    drone = server.drone
    after = None if wish.absent else dump_all(wish.documents)

    def find() -> dict[str, Any]:
        row = drone.find(route("templates", namespace, name))
        return {"text": row["data"] if row else None}

    before = find()

    item = Item(Place(namespace), name)
    steps = []
    if before["text"] != after:
        if after is None:
            verb, how = "delete", partial(delete, drone, item, "templates")
        elif before["text"] is None:
            verb, how = "create", partial(make, drone, item, after, ())
        else:
            verb, how = "change", partial(update, drone, item, "templates", {"data": after})
        steps = [Step(f"{verb} template {namespace}/{name}", how)]
    result = carry_out(Plan(before, {"text": after}, steps), check_mode=module.check_mode, reread=find)
    diffs = {f"template {namespace}/{name}": result["diff"]} if steps else {}
    return as_result(module, {**result, "text": after or ""}, [wish], diffs)
