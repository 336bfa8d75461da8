# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's daemon.json, from the module's options to its result: wish, world, plan, and the world again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._change import carry_out
from .._problem import Problem
from .._values import check_values
from . import daemon_json
from .plan import as_diff, plan
from .steps import validate
from .wish import ARGUMENTS, STORE, Store, compare, store, with_defaults
from .world import read

if TYPE_CHECKING:
    from .._arguments import Module


def work(module: Module) -> dict[str, Any]:
    """Return the result of docker_engine_config."""
    wanted = module.params
    check_values(ARGUMENTS, wanted)
    world = read(wanted["path"])
    options: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    image_store = Store(None, "nothing is declared")
    if not isinstance(wanted["options"].get("features") or {}, dict):
        raise Problem("options: features is not a dictionary", "declare it as {name: true}")
    if wanted["state"] == "present":
        image_store = store(world, wanted["containerd_store"], wanted["engine_version"])
        options, left_out = with_defaults(world, wanted["options"], wanted["defaults"])
        for name, reason in left_out.items():
            module.warn(f"the default {name} is left out: {reason}")
        if image_store.value is not None:
            options["features"] = {**daemon_json.features(options), STORE: image_store.value}
    wish = compare(world, options)
    if wanted["state"] == "present":
        validate(world, wish)
    result = carry_out(
        plan(world, wish),
        check_mode=module.check_mode,
        reread=lambda: as_diff(read(wanted["path"]), world, wish),
    )
    engine = world.engine
    return {
        **result,
        "follow": wish.follow,
        "config": daemon_json.without_secrets({}, wish.config)[1],
        "declared": daemon_json.without_secrets({}, wish.ours)[1],
        "left_out": left_out,
        "containerd_store": {"declared": image_store.value, "reason": image_store.reason},
        "engine": {
            "running": world.unit.active,
            "version": engine.version if engine else "",
            "images": engine.images if engine else 0,
            "containers": engine.containers if engine else 0,
            "containers_running": engine.running if engine else 0,
            "containerd_store": engine.containerd_store if engine else False,
        },
    }
