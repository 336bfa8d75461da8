# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a cluster says of a builder, through kubectl where the host has it; and buildx's own start and removal in it.

What is asked for needs these rights in the namespace: get deployments (stateful sets, config maps), list pods and events.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple

from .._change import Step
from .._docker.cli import Docker, last_words
from .._files import make_directory, temporary_directory, write_atomically
from .._problem import Problem
from .kubernetes_names import VOLUME, deployment, kubeconfig
from .node import MISSING, RUNNING, STOPPED, Running, inspected
from .store import CONFIG_FILE, read_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._docker.cli import Output
    from .store import Node

PATIENCE = 20  # seconds, for one request
UNREACHABLE = re.compile(
    r"connection refused|no such host|no route to host|i/o timeout|network is unreachable|context deadline exceeded"
    r"|Client\.Timeout|was refused|Unable to connect|invalid configuration|context .* does not exist|context was not found"
    r"|requires kubernetes API access|no configuration has been provided|EOF$",
    re.IGNORECASE,
)
REFUSED = re.compile(r"Unauthorized|must be logged in|forbidden|x509|certificate", re.IGNORECASE)


def kubectl() -> str:
    """Return the path of kubectl; "" where the host has none."""
    return shutil.which("kubectl") or ""


class Objects(NamedTuple):
    """What a cluster has under a builder's names."""

    items: Mapping[tuple[str, str], Mapping[str, Any]]  # by kind and name

    @property
    def names(self) -> set[str]:
        """Return the names of the deployments and stateful sets."""
        return {name for kind, name in self.items if kind in ("Deployment", "StatefulSet")}

    def running(self, node: Node, now: Running) -> Running:
        """Return what runs for a node: as buildx tells it, and as the API does."""
        name = deployment(node.name)
        workload = self.items.get(("Deployment", name)) or self.items.get(("StatefulSet", name))
        if workload is None:
            return Running(MISSING)
        ready = int((workload.get("status") or {}).get("readyReplicas") or 0)
        status = RUNNING if ready and now.status in (RUNNING, MISSING) else STOPPED if not ready else now.status
        config = self.items.get(("ConfigMap", f"{name}-config"))
        text = str(((config or {}).get("data") or {}).get(CONFIG_FILE) or "")
        return now._replace(status=status, workload=workload, config=read_config(text))


def ask(nodes: Sequence[Node], names: Iterable[str]) -> Callable[[], Objects | None]:
    """Start to ask for the objects of nodes, and for deployments of these names; without kubectl the answer is None."""
    program = kubectl()
    if not program:
        return lambda: None
    kind = "statefulsets" if any(VOLUME in node.driver_opts for node in nodes) else "deployments"
    wanted = {f"{kind}/{deployment(name)}" for name in names}
    for node in nodes:
        wanted.add(f"{'statefulsets' if VOLUME in node.driver_opts else 'deployments'}/{deployment(node.name)}")
        if CONFIG_FILE in node.files:
            wanted.add(f"configmaps/{deployment(node.name)}-config")
    call = _kubectl(nodes[0]).start(
        *_where(nodes[0]), "get", "--ignore-not-found", "--output=json", *sorted(wanted), timeout=2 * PATIENCE
    )

    def answer() -> Objects:
        told = call.wait(check=False)
        if told.rc:
            raise api_problem(told)
        found = told.json() if told.out.strip() else {"items": []}
        items = found.get("items", [found])
        return Objects({(str(item["kind"]), str(item["metadata"]["name"])): item for item in items})

    return answer


def api_problem(told: Output) -> Problem:
    """Return the Problem that a failed request to the API is."""
    text = _cause(told.err)
    if UNREACHABLE.search(text):
        return Problem(
            f"the Kubernetes API cannot be reached: {text}", "look at the cluster, and at KUBECONFIG", unreachable=True
        )
    if REFUSED.search(text):
        return Problem(
            f"the Kubernetes API refuses this user: {text}",
            "look at the user of KUBECONFIG, and at the role in docs/kubernetes.md",
        )
    return Problem(f"the Kubernetes API: {text}", "look at the cluster, and at KUBECONFIG")


def _cause(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # kubectl logs its attempts first; the last words of buildx are that it failed, and the line before says why.
    lines = [
        line for line in lines if not re.match(r"[EWI]\d{4} ", line) and "one or more builders" not in line
    ] or lines
    return re.sub(r"^(error|ERROR|Error from server)[^:]*:\s*", "", lines[-1]) if lines else last_words(text)


def _kubectl(node: Node) -> Docker:
    config = kubeconfig(node)
    return Docker(kubectl(), {"KUBECONFIG": config} if config else None)


def _where(node: Node) -> list[str]:
    namespace = node.driver_opts.get("namespace")
    return [f"--request-timeout={PATIENCE}s", *([f"--namespace={namespace}"] if namespace else [])]


def reasons(nodes: Sequence[Node]) -> list[str]:
    """Return why pods of these nodes do not start, as pods, deployments and events say it; nothing without kubectl."""
    if not kubectl():
        return []
    found: list[str] = []
    for node in nodes:
        name, api, where = deployment(node.name), _kubectl(node), _where(node)
        kind = "statefulset" if VOLUME in node.driver_opts else "deployment"
        for item in _items(api.run(*where, "get", kind, name, "--ignore-not-found", "--output=json", check=False)):
            for condition in (item.get("status") or {}).get("conditions") or []:
                if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                    found.append(f"{kind} {name}: {condition.get('reason')}: {condition.get('message')}")
        pods = _items(api.run(*where, "get", "pods", f"--selector=app={name}", "--output=json", check=False))
        for pod in pods:
            found += [f"pod {pod['metadata']['name']}: {why}" for why in _pod_reasons(pod)]
        if not found:
            objects = {name, *(str(pod["metadata"]["name"]) for pod in pods)}
            found += _warnings(api.run(*where, "get", "events", "--output=json", check=False), objects)
    return list(dict.fromkeys(found))


def _items(told: Output) -> list[dict[str, Any]]:
    if told.rc or not told.out.strip():
        return []
    found = told.json()
    return list(found.get("items", [found]))


def _pod_reasons(pod: Mapping[str, Any]) -> Iterable[str]:
    status = pod.get("status") or {}
    if status.get("reason"):
        yield f"{status['reason']}: {status.get('message') or 'no message'}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{condition.get('reason')}: {condition.get('message')}"
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        waiting = state.get("waiting") or {}
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            yield f"{container['name']}: {waiting.get('reason')}: {waiting.get('message') or 'no message'}"
        for ended in (state.get("terminated"), last.get("terminated")):
            if ended and ended.get("exitCode"):
                yield f"{container['name']} ended with {ended['exitCode']} ({ended.get('reason')})"


def _warnings(told: Output, names: set[str]) -> Iterable[str]:
    for event in _items(told):
        of = event.get("involvedObject") or {}
        # A replica set is called as its deployment and a hash.
        if event.get("type") == "Warning" and any(str(of.get("name")).startswith(name) for name in names):
            yield f"{str(of.get('kind')).lower()} {of.get('name')}: {event.get('reason')}: {event.get('message')}"


def start(docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float) -> dict[str, Running]:
    """Let buildx start the deployments of a builder, and return what answers."""
    return inspected(docker, name, "--bootstrap", raw=raw, timeout=timeout)


def only(raw: bytes, nodes: Iterable[Node]) -> bytes:
    """Return a builder's file with these nodes alone."""
    builder, names = json.loads(raw), {node.name for node in nodes}
    builder["Nodes"] = [node for node in builder["Nodes"] if node["Name"] in names]
    return json.dumps(builder).encode()


def remove(docker: Docker, name: str, nodes: Iterable[Node], raw: bytes, *, keep_cache: bool) -> None:
    """Let buildx remove what it made in a cluster for some nodes of a builder, of which `raw` is the file.

    It works on a copy: should it fail, the builder is still known.
    """
    with temporary_directory() as directory:
        make_directory(os.path.join(directory, "instances"), 0o700)
        write_atomically(os.path.join(directory, "instances", name), only(raw, nodes), mode=0o600)
        keep = ["--keep-state"] if keep_cache else []
        told = docker.run("buildx", "rm", *keep, name, env={"BUILDX_CONFIG": directory}, check=False)
        if told.rc:
            problem = api_problem(told)
            raise Problem(f"the deployments of {name} cannot be removed: {problem.what}", problem.hint, **problem.facts)


def removal_step(
    docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, *, keep_cache: bool, left: list[str] | None
) -> Step:
    """Return the step that removes the deployments of nodes; nobody can put them back as they were."""
    names = ", ".join(deployment(node.name) for node in nodes)

    def apply() -> None:
        try:
            remove(docker, name, nodes, raw, keep_cache=keep_cache)
        except Problem as problem:
            if left is None or not problem.facts.get("unreachable"):
                raise
            space = nodes[0].driver_opts.get("namespace") if nodes else None
            command = f"kubectl {f'--namespace={space} ' if space else ''}delete"
            objects = " ".join(
                f"{'statefulset' if VOLUME in node.driver_opts else 'deployment'}/{deployment(node.name)}"
                for node in nodes
            )
            left.append(
                f"{problem.what}; if the cluster is still there, remove what is left in it: {command} {objects}"
            )

    return Step(f"remove the deployments of {name} ({names})", apply)
