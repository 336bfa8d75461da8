# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs for a builder's node: its container, and the BuildKit that answers in it.

For a container two processes tell all of it, beside each other: `docker inspect` (the container and the declared image)
and `docker exec` (workers, configuration, certificates). Every other node is asked through `docker buildx inspect`.
Asking and hearing are apart: what a task needs for the answers is imported meanwhile. Python compiles a module's files in
each task, and that takes as long as the answers do.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple

from .._files import make_directory, make_temporary_directory, remove_temporary_directory, write_atomically
from .._platform import Platform
from .._problem import Problem
from .store import CONFIG_DIR, CONFIG_FILE, Builder, Node, platform_name, read_config

if TYPE_CHECKING:
    from .._docker.cli import Call, Docker, Output

DEFAULT_IMAGE = "moby/buildkit:buildx-stable-1"  # docker/buildx: driver/bkimage
MARK = "--multiarch.drone--"
ASK = f"""
buildctl debug workers --format '{{{{json .}}}}'; echo; echo {MARK}
cat {CONFIG_DIR}/{CONFIG_FILE} 2>/dev/null; echo; echo {MARK}
cd {CONFIG_DIR} && sha256sum certs/*/* 2>/dev/null; true
"""
RUNNING, STOPPED, MISSING = "running", "stopped", "missing"


class Running(NamedTuple):
    """What is there of a node now."""

    status: str  # running, stopped, missing; what buildx says of others: inactive …; "silent": runs and does not answer
    version: str = ""
    platforms: tuple[str, ...] = ()  # detected, the native one first
    gc: tuple[Mapping[str, Any], ...] | None = None  # None: not told
    config: Mapping[str, Any] | None = None
    certificates: Mapping[str, str] = {}
    container: Mapping[str, Any] = {}  # as `docker inspect` gives it
    image: Mapping[str, Any] = {}  # the declared image, where this daemon has it
    error: str = ""
    workload: Mapping[str, Any] = {}  # the deployment of a node in a cluster, as the API gives it


def daemon_options(node: Node) -> tuple[str, ...]:
    """Return the options by which the CLI reaches the daemon of a docker-container node."""
    return ("--host" if "://" in node.endpoint else "--context", node.endpoint)


def aside(container: str) -> str:
    """Return the name that a container has while its successor is tried."""
    return f"{container}.replaced"


def image_of(node: Node) -> str:
    """Return the reference of the image that a docker-container node shall run."""
    return node.driver_opts.get("image") or DEFAULT_IMAGE


def ask_containers(docker: Docker, builder: Builder) -> Callable[[], dict[str, Running]]:
    """Start to ask for the container of each node; the result waits for the answers."""
    asked: list[tuple[Node, Call, Call]] = []
    for node in builder.nodes:
        reach = daemon_options(node)
        # The slower one first.
        execute = docker.start(*reach, "exec", node.container, "sh", "-c", ASK)
        asked.append((node, docker.start(*reach, "inspect", node.container, image_of(node)), execute))
    return lambda: {node.name: _container(inspect, execute) for node, inspect, execute in asked}


def _container(inspect: Call, execute: Call) -> Running:
    told = inspect.wait(check=False)
    said = execute.wait(check=False)
    if told.rc and not re.search(r"no such (object|container|image)", told.err, re.IGNORECASE):
        raise told.problem()
    found = told.json() if told.out.strip() else []
    container: dict[str, Any] = next((item for item in found if "HostConfig" in item), {})
    image: dict[str, Any] = next((item for item in found if "HostConfig" not in item and "RootFS" in item), {})
    if not container:
        return Running(MISSING, image=image)
    if not container["State"]["Running"]:
        return Running(STOPPED, container=container, image=image)
    workers, config, sums = [*said.out.split(MARK), "", ""][:3]
    try:
        worker = json.loads(workers)[0]
    except (ValueError, IndexError):
        return Running("silent", container=container, image=image, error=(said.err or said.out).strip()[-500:])
    return Running(
        RUNNING,
        version=str((worker.get("buildkitVersion") or {}).get("version") or ""),
        platforms=tuple(dict.fromkeys(platform_name(item) for item in worker.get("platforms") or [])),
        gc=tuple(worker.get("gcPolicy") or ()),
        config=read_config(config.strip("\n")),
        certificates={name: digest for digest, name in (line.split(None, 1) for line in sums.strip().splitlines())},
        container=container,
        image=image,
    )


def inspected(
    docker: Docker, name: str, *options: str, raw: bytes | None = None, timeout: float = 120
) -> dict[str, Running]:
    """Return the nodes of a builder as `docker buildx inspect` tells of them."""
    return ask_buildx(docker, name, *options, raw=raw, timeout=timeout)()


def ask_buildx(
    docker: Docker, name: str, *options: str, raw: bytes | None = None, timeout: float = 120
) -> Callable[[], dict[str, Running]]:
    """Start `docker buildx inspect`, and return what waits for its answer (it has no format for programs).

    `raw` is the builder's file, from which buildx works on a copy: it would list the declared platforms among those
    that it found, and nobody could tell which BuildKit really has.
    """
    if raw is None:
        call = docker.start_buildx("inspect", *options, name, timeout=timeout)
        return lambda: _nodes(name, call.wait())
    directory = make_temporary_directory()

    def answer() -> dict[str, Running]:
        try:
            return _nodes(name, call.wait())
        finally:
            remove_temporary_directory(directory)

    try:
        make_directory(os.path.join(directory, "instances"), 0o700)
        write_atomically(os.path.join(directory, "instances", name), _undeclared(raw), mode=0o600)
        call = docker.start_buildx("inspect", *options, name, env={"BUILDX_CONFIG": directory}, timeout=timeout)
    except BaseException:
        remove_temporary_directory(directory)
        raise
    return answer


def _nodes(name: str, output: Output) -> dict[str, Running]:
    """Return the nodes that `docker buildx inspect` has told of."""
    nodes: dict[str, Running] = {}
    for block in re.split(r"\n\s*\n", output.out.partition("\nNodes:\n")[2]):
        facts = dict(re.findall(r"^([A-Z][A-Za-z ]*):[ \t]+(.*?)\s*$", block, re.MULTILINE))
        if not facts.get("Name"):
            continue
        platforms = (word.strip(" *") for word in facts.get("Platforms", "").split(","))
        nodes[facts["Name"]] = Running(
            facts.get("Status", "error").lower(),
            version=facts.get("BuildKit version", ""),
            platforms=tuple(dict.fromkeys(_normal(platform) for platform in platforms if platform)),
            error=facts.get("Error", ""),
        )
    error = re.search(r"^Error:\s+(.*)$", output.out.partition("\nNodes:\n")[0], re.MULTILINE)
    if error:
        raise Problem(f"docker buildx inspect {name}: {error.group(1)}")
    return nodes


def _undeclared(raw: bytes) -> bytes:
    """Return a builder's file without declared platforms; in a cluster they are what buildx starts the daemons with."""
    builder = json.loads(raw)
    if builder["Driver"] != "kubernetes":
        builder["Nodes"] = [{**node, "Platforms": None} for node in builder["Nodes"]]
    return json.dumps(builder).encode()


def _normal(platform: str) -> str:
    try:
        return str(Platform.parse(platform))
    except Problem:
        return platform


def cannot_build(node: Node, now: Running) -> list[str]:
    """Return the declared platforms that the BuildKit which answers neither runs nor emulates."""
    return [platform for platform in node.platforms if now.platforms and platform not in now.platforms]
