# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Builders that shall be gone, and what they left behind: containers and volumes of no builder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, Step
from .._docker.cli import last_words
from .._problem import Problem, suggest
from .node import aside, daemon_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._docker.cli import Docker
    from .store import Builder, Node, Store

PREFIX = "buildx_buildkit_"


def builder_steps(docker: Docker, store: Store, builder: Builder, *, keep_cache: bool) -> Iterable[Step]:
    """Yield the steps after which a user has a builder no more: its file first, which can be put back, then what it runs."""
    relative = os.path.join("instances", builder.name)
    raw = store.read(relative)
    kept: dict[str, bytes | None] = {}

    def forget() -> None:
        with store.lock():
            if store.read(relative) != raw:
                raise Problem(
                    f"{store.path(builder.name)} was changed by something else meanwhile", "run the task again"
                )
            if store.current() == builder.name:
                kept.update(store.default_files())
                store.set_default("")
            store.write(relative, None)
            store.write(os.path.join("activity", builder.name), None)
            store.let_go(relative)

    def remember() -> None:
        with store.lock():
            store.write(relative, raw)
            for name, data in kept.items():
                store.write(name, data)

    if builder.driver == "kubernetes":
        yield Step(
            f"remove the deployments of {builder.name}",
            lambda: remove_deployments(docker, builder.name, raw or b"", keep_cache=keep_cache),
        )
    yield Step(f"remove the builder {builder.name}", forget, remember)
    yield from removal(docker, builder.driver, builder.nodes, keep_cache=keep_cache)


def remove_deployments(docker: Docker, name: str, raw: bytes, *, keep_cache: bool) -> None:
    """Let buildx remove what it made in a cluster for a builder, of which `raw` is the file.

    It works on a copy: should it fail, the builder is still known.
    """
    directory = tempfile.mkdtemp(prefix="multiarch.drone-")
    try:
        os.mkdir(os.path.join(directory, "instances"), 0o700)
        with open(os.path.join(directory, "instances", name), "wb") as file:
            file.write(raw)
        keep = ["--keep-state"] if keep_cache else []
        told = docker.run("buildx", "rm", *keep, name, env={"BUILDX_CONFIG": directory}, check=False)
        if told.rc:
            # Its last words are that it failed; the line before says why.
            lines = [line for line in told.err.splitlines() if line.strip() and "one or more builders" not in line]
            why = lines[-1].strip() if lines else last_words(told.err)
            raise Problem(
                f"the deployments of {name} cannot be removed: {why}", "look at the cluster, and at KUBECONFIG"
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def removal(docker: Docker, driver: str, nodes: Iterable[Node], *, keep_cache: bool) -> Iterable[Step]:
    """Yield the steps that remove the containers of nodes that are gone from the user's files, and the volumes with their cache."""
    if driver != "docker-container":
        return
    for node in nodes:

        def remove(node: Node = node) -> None:
            reach = daemon_options(node)
            # With what a task that was killed has set aside: it would hold the volume.
            gone = docker.run(*reach, "rm", "--force", node.container, aside(node.container), check=False)
            if gone.rc and re.sub(r"(?im)^error.*no such container.*$", "", gone.err).strip():
                raise gone.problem()
            if not keep_cache:
                gone = docker.run(*reach, "volume", "rm", node.volume, check=False)
                if gone.rc and not re.search("no such volume", gone.err, re.IGNORECASE):
                    raise gone.problem()

        yield Step(f"remove {node.container}{'' if keep_cache else ' and its cache'}", remove)


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
                f"{name!r} is no orphan of buildx",
                suggest(name, [str(item["name"]) for item in there]) if there else "there are none",
            )
    wanted = sorted((item for item in there if item["name"] in names), key=lambda item: str(item["type"]))
    return [_orphan_step(docker, str(item["type"]), str(item["name"])) for item in wanted]


def _orphan_step(docker: Docker, kind: str, name: str) -> Step:
    command = ("rm", "--force") if kind == "container" else ("volume", "rm")
    return Step(f"remove the orphan {kind} {name}", lambda: docker.run(*command, name))


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
