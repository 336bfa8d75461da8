# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Builders that shall be gone, and what they left behind: containers and volumes of no builder."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, Step
from .._problem import Problem, suggest
from .drivers import driver_of
from .steps import forget_builder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._docker.cli import Docker
    from .store import Builder, Store

PREFIX = "buildx_buildkit_"


def builder_steps(
    docker: Docker, store: Store, builder: Builder, *, keep_cache: bool, left: list[str]
) -> Iterable[Step]:
    """Yield the steps after which a user has a builder no more; `left` gets what could not be removed with it.

    What it runs goes first where a failure is likely, so that the builder is still known; else last, since a file can be
    put back and a cache cannot.
    """
    raw = store.read(os.path.join("instances", builder.name))
    driver = driver_of(builder.driver)
    removal = driver.removal(docker, builder.name, builder.nodes, raw or b"", keep_cache=keep_cache, left=left)
    if driver.removes_first:
        yield from removal
    yield forget_builder(store, builder.name, raw)
    if not driver.removes_first:
        yield from removal


def orphans(docker: Docker, store: Store) -> list[dict[str, Any]]:
    """Return the containers and volumes of the user's daemon that have a builder's name and belong to none of this user's.

    Another user's builders look the same: only a person can tell.
    """
    containers = docker.start("ps", "--all", "--filter", f"name=^{PREFIX}", "--format", "json")
    volumes = docker.start("volume", "ls", "--filter", f"name={PREFIX}", "--format", "json")
    owned = {PREFIX + node.name for builder in _readable(store) for node in builder.nodes}
    found = []
    for item in containers.wait().lines():
        if item["Names"] not in owned:
            found.append({"name": item["Names"], "type": "container", "status": item["State"]})
    for item in volumes.wait().lines():
        name = str(item["Name"])
        if name.startswith(PREFIX) and name.endswith("_state") and name[: -len("_state")] not in owned:
            found.append({"name": name, "type": "volume", "status": ""})
    return found


def _readable(store: Store) -> Iterable[Builder]:
    for name in store.names():
        try:
            builder = store.builder(name)
        except Problem as problem:
            # Whose nodes are unknown could lose its cache as an orphan.
            raise Problem(
                problem.what, f"mend it first: what it owns would look like orphans; {problem.hint}"
            ) from problem
        if builder is not None:
            yield builder


def orphan_steps(docker: Docker, there: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Step]:
    """Return the steps that remove these orphans, containers before the volumes that they hold."""
    for name in names:
        if not re.fullmatch(re.escape(PREFIX) + r"[a-z][a-z0-9._-]*", name):
            raise Problem(
                f"{name!r} is not an orphan of buildx",
                suggest(name, [str(item["name"]) for item in there]) if there else "there are none",
            )
    wanted = sorted((item for item in there if item["name"] in names), key=lambda item: str(item["type"]))
    return [_orphan_step(docker, str(item["type"]), str(item["name"])) for item in wanted]


def _orphan_step(docker: Docker, kind: str, name: str) -> Step:
    command = ("rm", "--force") if kind == "container" else ("volume", "rm")
    return Step(f"remove the orphan {kind} {name}", lambda: docker.run(*command, name))


class Beside:
    """What a task changes beside its builder: the user's other builders, and orphans."""

    def __init__(self, docker: Docker, store: Store, params: Mapping[str, Any], left: list[str]) -> None:
        self.docker, self.store, self.params, self.left = docker, store, params, left

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
            keep_cache = bool(self.params["keep_cache"])
            steps = (
                builder_steps(self.docker, self.store, other, keep_cache=keep_cache, left=self.left) if other else ()
            )
            plan = _with_others(plan, f"other builder {name}", "present", "absent", list(steps))
        if there.get("orphans"):
            steps = orphan_steps(self.docker, orphans(self.docker, self.store), there["orphans"])
            plan = _with_others(plan, "orphans", there["orphans"], [], steps)
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


def _with_others(plan: Plan, name: str, before: Any, after: Any, steps: Sequence[Step]) -> Plan:
    """Return a plan that also does something beside the builder, named in the diff."""
    if not steps:
        return Plan({**plan.before, name: after}, {**plan.after, name: after}, plan.steps)
    return Plan({**plan.before, name: before}, {**plan.after, name: after}, [*plan.steps, *steps])
