# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The driver `docker`: the builder that each Docker context has by itself, in the engine; there is nothing to create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._change import Plan
from .._docker.cli import context_host, current_context
from .._platform import parse_all
from .._problem import Problem
from .driver import Driver
from .node import RUNNING, Running, ask_buildx
from .store import Builder, Node

if TYPE_CHECKING:
    from .._docker.cli import Docker
    from .store import Store


class DockerDriver(Driver):
    """The engine's own builder: it takes no option, and there is nothing to start."""

    name = "docker"


class Engine(NamedTuple):
    """The engine's builder: the way to what is declared of it, and what it is."""

    plan: Plan
    builder: Builder
    running: Mapping[str, Running]


def engine(docker: Docker, store: Store, params: Mapping[str, Any]) -> Engine:
    """Look at the builder of a Docker context, and whether it builds what is declared; it may be made the default."""
    name, context = params["name"], current_context(store.env)
    if name != "default" and not context_host(store.env, name):
        raise Problem(
            f"{name!r} is not a Docker context, and the docker driver is a context's own builder",
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
    answers = ask_buildx(docker, name)
    # One platform needs no store that holds several.
    containerd = len(platforms) < 2 or containerd_store(docker, store, name)
    nodes = answers()
    _check_engine(name, platforms, nodes, containerd)
    before: dict[str, Any] = {"builder": "present"}
    after: dict[str, Any] = {"builder": "present"}
    steps = []
    if params["default"] is not None:
        before["default"], after["default"] = store.current() == "", bool(params["default"])
        if before["default"] and not after["default"]:
            raise Problem(f"{name} is the default because no other builder is", "make another one the default instead")
        if before != after:
            from .steps import set_default

            steps = [set_default(store, "", name)]
    return Engine(Plan(before, after, steps), Builder(name, "docker", (Node(name, name, tuple(platforms)),)), nodes)


def containerd_store(docker: Docker, store: Store, context: str) -> bool:
    """Return whether the engine of a context keeps its images in containerd's store, which holds several platforms of one."""
    host = context_host(store.env, context)
    if host.startswith("unix://"):
        # The CLI would ask each of its plugins as well.
        from .._docker.engine import engine_of, get

        return engine_of(get("/info", path=host[len("unix://") :])).containerd_store
    told = docker.run("--context", context, "info", "--format", "json").json()
    return ["driver-type", "io.containerd.snapshotter.v1"] in [list(pair) for pair in told.get("DriverStatus") or []]


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
