# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules buildx_builder and buildx_builder_info do, from parameters to result."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Mapping

from ._buildx import Builder, Node, Store, check_name
from ._buildx_change import Change, Options
from ._buildx_facts import cache_bytes, entry
from ._buildx_node import RUNNING, Running, image_of, inspected, running
from ._buildx_remove import builder_steps, orphan_steps, orphans, with_others
from ._buildx_wish import wish_of
from ._change import Plan, Step, carry_out
from ._docker import Docker, context_host, current_context
from ._platform import parse_all
from ._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable


def declare(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make a builder what the parameters say, and return the module's result."""
    docker, store = Docker(params["docker_cli"]), Store(dict(os.environ))
    check_name(params["name"])
    exclusive = params["exclusive"]
    if exclusive is not None and params["state"] == "present" and params["name"] not in exclusive:
        raise Problem(f"exclusive leaves out {params['name']}, which shall be present", "add it")
    # One play at a time for each user. buildx's own lock is taken only for moments, so that builds go on meanwhile.
    with contextlib.nullcontext() if check_mode else store.lock(".multiarch.drone.lock"):
        if params["state"] == "absent":
            result = _absent(docker, store, params, check_mode)
        elif params["driver"] == "docker":
            result = _engine(docker, store, params, check_mode)
        else:
            result = _present(docker, store, params, check_mode)
    return result


class Beside:
    """What a task changes beside its builder: the user's other builders, and orphans."""

    def __init__(self, docker: Docker, store: Store, params: Mapping[str, Any]) -> None:
        self.docker, self.store, self.params = docker, store, params

    def read(self) -> dict[str, list[str]]:
        """Return what is there of it."""
        found = {}
        if self.params["exclusive"] is not None:
            keep = {*self.params["exclusive"], self.params["name"]}
            found["other builders"] = [name for name in self.store.names() if name not in keep]
        if self.params["remove_orphans"]:
            names = self.params["remove_orphans"]
            there = orphans(self.docker, self.store)
            orphan_steps(self.docker, there, names)  # their names are looked at before anything is done
            found["orphans"] = sorted(str(item["name"]) for item in there if item["name"] in names)
        return found

    def add(self, plan: Plan) -> Plan:
        """Return the plan with these changes after its own."""
        there = self.read()
        for name in there.get("other builders", []):
            other = self.store.builder(name)
            steps = (
                builder_steps(self.docker, self.store, other, keep_cache=bool(self.params["keep_cache"]))
                if other
                else []
            )
            plan = with_others(plan, f"other builder {name}", "present", "absent", list(steps))
        if there.get("orphans"):
            steps = orphan_steps(self.docker, orphans(self.docker, self.store), there["orphans"])
            plan = with_others(plan, "orphans", there["orphans"], [], steps)
        return plan

    def state(self, plan: Plan) -> dict[str, Any]:
        """Return what is there of it in the shape of a plan's state."""
        there = self.read()
        state: dict[str, Any] = {}
        for key in plan.after:
            if key.startswith("other builder "):
                state[key] = "present" if key[len("other builder ") :] in there["other builders"] else "absent"
        if "orphans" in plan.after:
            state["orphans"] = there["orphans"]
        return state


def _present(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    wish = wish_of(params, store)
    keep_cache = params["keep_cache"] is not False
    options = Options(params["recreate"], params["bootstrap"], keep_cache, params["default"], params["timeout"])
    change, beside = Change(docker, store, wish, options), Beside(docker, store, params)
    try:
        world = change.read()
        plan = change.plan(world)
        rest = beside.add(change.clearance(world))

        def reread() -> dict[str, Any]:
            nonlocal world
            world = change.read()
            return change.state(world)

        result = carry_out(plan, check_mode=check_mode, reread=reread)
        if result["changed"] and not check_mode:
            change.discard()
        result = _both(
            result, carry_out(rest, check_mode=check_mode, reread=lambda: {**rest.after, **beside.state(rest)})
        )
    finally:
        change.close()
    result["builder"] = entry(world.stored, world.running, store.current(), {}) if world.stored else None
    result["drift"] = [f"{node}: {text}" for node, texts in change.found.items() for text in texts]
    result["warnings"] = list(wish.warnings)
    return result


def _absent(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name = params["name"]
    if name == "default" or context_host(store.env, name):
        raise Problem(f"{name!r} is a Docker context's own builder", "it goes with its context")
    beside = Beside(docker, store, params)
    stored = store.builder(name)
    steps: Iterable[Step] = ()
    if stored is not None:
        steps = builder_steps(docker, store, stored, keep_cache=bool(params["keep_cache"]))
    before = {"builder": "absent" if stored is None else "present"}
    plan = Plan(before, {"builder": "absent"}, list(steps))
    rest = beside.add(Plan({}, {}))

    def reread() -> dict[str, Any]:
        return {"builder": "absent" if store.builder(name) is None else "present"}

    result = carry_out(plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=lambda: beside.state(rest)))
    return {**result, "builder": None, "drift": [], "warnings": []}


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of two plans, of which the second cannot be taken back and so came after the first was proven."""
    return {
        "changed": first["changed"] or second["changed"],
        "steps": [*first["steps"], *second["steps"]],
        "diff": {side: {**first["diff"][side], **second["diff"][side]} for side in ("before", "after")},
    }


def _engine(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The docker driver: there is nothing to create; whether that engine builds what is declared is looked at, and it may be the default."""
    name, context = params["name"], current_context(store.env)
    if name != "default" and not context_host(store.env, name):
        raise Problem(
            f"{name!r} is no Docker context, and the docker driver is a context's own builder",
            f"declare it by the context's name ({context}), or use the driver docker-container",
        )
    if params["default"] and name != context:
        raise Problem(
            f"{name} cannot be the default while {context} is the Docker context",
            f"run `docker context use {name}` first",
        )
    given = params["nodes"] or [{}]
    if (
        len(given) > 1
        or any(given[0].get(key) for key in ("name", "endpoint", "driver_opts", "flags"))
        or params["buildkitd_config"]
    ):
        raise Problem(
            "the docker driver has one node, and takes its platforms alone",
            "configure the engine: role multiarch.drone.docker_engine",
        )
    platforms = [str(platform) for platform in parse_all(given[0]["platforms"])] if given[0].get("platforms") else []
    beside = Beside(docker, store, params)
    info = docker.start("--context", name, "info", "--format", "json")
    nodes = inspected(docker, name)
    storage = [list(pair) for pair in info.wait().json().get("DriverStatus") or []]
    _check_engine(name, platforms, nodes, ["driver-type", "io.containerd.snapshotter.v1"] in storage)
    before: dict[str, Any] = {"builder": "present"}
    after: dict[str, Any] = {"builder": "present"}
    steps = []
    kept = store.default_files()
    if params["default"] is not None:
        before["default"], after["default"] = store.current() == "", bool(params["default"])
        if before["default"] and not after["default"]:
            raise Problem(f"{name} is the default because no other builder is", "make another one the default instead")
        if before != after:
            steps = [Step(f"make {name} the default builder", lambda: _default(store), lambda: _put_back(store, kept))]
    plan, rest = Plan(before, after, steps), beside.add(Plan({}, {}))

    def reread() -> dict[str, Any]:
        return before if params["default"] is None else {**before, "default": store.current() == ""}

    result = carry_out(plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=lambda: beside.state(rest)))
    builder = Builder(name, "docker", (Node(name, name, tuple(platforms)),))
    result["builder"] = {**entry(builder, nodes, name, {}), "default": store.current() == ""}
    return {**result, "drift": [], "warnings": []}


def _check_engine(name: str, platforms: list[str], nodes: Mapping[str, Running], containerd: bool) -> None:
    for node in nodes.values():
        if node.status != RUNNING:
            raise Problem(f"the engine of {name} does not answer: {node.error or node.status}", "start it")
        missing = [platform for platform in platforms if platform not in node.platforms]
        if missing:
            raise Problem(
                f"{', '.join(missing)} cannot be executed by the engine of {name}, which has {', '.join(node.platforms)}",
                "register QEMU there: multiarch.drone.binfmt_qemu",
            )
    if len(platforms) > 1 and not containerd:
        raise Problem(
            f"the engine of {name} keeps images in its classic store, which holds one platform an image",
            "switch it to containerd's (docker_engine_containerd_store), or use the driver docker-container",
        )


def _default(store: Store) -> None:
    with store.lock():
        store.set_default("")


def _put_back(store: Store, files: Mapping[str, bytes | None]) -> None:
    with store.lock():
        for name, data in files.items():
            store.write(name, data)


def describe(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's builders, as files and daemons tell of them, and what looks like left behind."""
    docker, store = Docker(params["docker_cli"]), Store(dict(os.environ))
    names = params["names"] if params["names"] is not None else store.names()
    found, problems = [], []
    current = store.current()
    for name in names:
        try:
            builder = store.builder(name)
        except Problem as problem:
            problems.append(f"{name}: {problem}")
            continue
        if builder is None:
            continue
        raw = store.read(f"instances/{name}")
        found.append(_described(docker, builder, raw, current, params["cache"]))
    result: dict[str, Any] = {"changed": False, "builders": found, "orphans": [], "problems": problems}
    if params["orphans"]:
        try:
            result["orphans"] = orphans(docker, store)
        except Problem as problem:
            problems.append(f"orphans: {problem}")
    return result


def _described(docker: Docker, builder: Builder, raw: bytes | None, current: str, cache: bool) -> dict[str, Any]:
    images = {node.name: image_of(node) for node in builder.nodes}
    try:
        now = running(docker, builder, builder.nodes, images, raw)
    except Problem as problem:
        now = {node.name: Running("error", error=str(problem)) for node in builder.nodes}
    caches: dict[str, int | None] = {}
    if cache and any(node.status == RUNNING for node in now.values()):
        total = cache_bytes(docker, builder.name)
        # buildx sums up over the nodes: only of a single one it is known which.
        caches = {node.name: total for node in builder.nodes} if len(builder.nodes) == 1 else {}
    return entry(builder, now, current, caches)
