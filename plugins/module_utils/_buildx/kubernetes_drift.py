# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a deployment differs from what its node declares (docker/buildx: driver/kubernetes/manifest).

Labels and annotations that others add are no drift; what a node declares has to be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from .kubernetes_syntax import pairs, quantity, tolerations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .node import Running
    from .store import Node

IMAGE, ROOTLESS_IMAGE = "moby/buildkit:buildx-stable-1", "moby/buildkit:buildx-stable-1-rootless"
QEMU_IMAGE = "tonistiigi/binfmt:latest"
ROOTLESS_FLAG = "--oci-worker-no-process-sandbox"
PLATFORMS = "buildx.docker.com/platform"


def image_of(node: Node) -> str:
    """Return the image that a node declares."""
    return node.driver_opts.get("image") or (ROOTLESS_IMAGE if "rootless" in node.driver_opts else IMAGE)


def containers(workload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the containers of a deployment's pods: BuildKit's is the first."""
    return list(workload["spec"]["template"]["spec"]["containers"])


def drift(node: Node, config: Mapping[str, Any], now: Running) -> list[str]:
    """Return where a node's deployment differs from what the node declares; for each, what it is and what it should be."""
    return [*_pod_drift(node, now.workload), *_scheduling_drift(node, now.workload), *_config_drift(node, config, now)]


def _pod_drift(node: Node, workload: Mapping[str, Any]) -> Iterator[str]:
    opts, buildkit = node.driver_opts, containers(workload)[0]
    replicas, wanted = int(workload["spec"].get("replicas", 1)), int(opts.get("replicas") or 1)
    if replicas != wanted:
        yield f"replicas: {replicas}, declared {wanted}"
    if buildkit.get("image") != image_of(node):
        yield f"image: runs {buildkit.get('image')}, declared {image_of(node)}"
    rootless = opts.get("rootless") == "true"
    if bool((buildkit.get("securityContext") or {}).get("privileged")) == rootless:
        yield f"rootless: {str(not rootless).lower()}, declared {str(rootless).lower()}"
    args, flags = list(buildkit.get("args") or []), [*node.flags, *([ROOTLESS_FLAG] if rootless else [])]
    if args != flags:
        yield f"command: {' '.join(args) or 'none'}, declared {' '.join(flags) or 'none'}"
    yield from _environment_drift(node, buildkit)
    yield from _resource_drift(opts, buildkit)
    qemu = [item for item in workload["spec"]["template"]["spec"].get("initContainers") or [] if item["name"] == "qemu"]
    if bool(qemu) != (opts.get("qemu.install") == "true"):
        yield f"qemu.install: {str(bool(qemu)).lower()}, declared {opts.get('qemu.install', 'false')}"
    elif qemu and opts.get("qemu.image") and qemu[0].get("image") != opts["qemu.image"]:
        yield f"qemu.image: {qemu[0].get('image')}, declared {opts['qemu.image']}"


def _environment_drift(node: Node, buildkit: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of variables that differ; never their values, which may be tokens."""
    have = {item["name"]: item.get("value") or "" for item in buildkit.get("env") or []}
    want = {name[len("env.") :]: value for name, value in node.driver_opts.items() if name.startswith("env.")}
    differing = sorted(name for name, value in want.items() if have.get(name) != value)
    if differing:
        yield f"environment: {', '.join(differing)} as declared is not set"
    if set(have) - set(want):
        yield f"environment: {', '.join(sorted(set(have) - set(want)))} is set, not declared"


def _resource_drift(opts: Mapping[str, str], buildkit: Mapping[str, Any]) -> Iterator[str]:
    resources = buildkit.get("resources") or {}
    wanted = {option: opts[option] for option in opts if option.startswith(("requests.", "limits."))}
    if "requests.ephemeral-storage" in wanted:
        # buildx writes this request as the limit, where there is no other.
        wanted.setdefault("limits.ephemeral-storage", wanted.pop("requests.ephemeral-storage"))
        wanted.pop("requests.ephemeral-storage", None)
    found = {
        f"{side}.{what}": str(value)
        for side in ("requests", "limits")
        for what, value in (resources.get(side) or {}).items()
    }
    for option in sorted({*found, *wanted}):
        have, want = found.get(option), wanted.get(option)
        if (quantity(have) if have else None) != (quantity(want) if want else None):
            yield f"{option}: {have or 'none'}, declared {want or 'none'}"


def _scheduling_drift(node: Node, workload: Mapping[str, Any]) -> Iterator[str]:
    opts, template = node.driver_opts, workload["spec"]["template"]
    pod, meta = template["spec"], template.get("metadata") or {}
    selector = dict(pod.get("nodeSelector") or {})
    wanted = pairs(opts["nodeselector"]) if "nodeselector" in opts else {}
    if selector != wanted:
        yield f"nodeselector: {_shown(selector)}, declared {_shown(wanted)}"
    have = [_toleration(one) for one in pod.get("tolerations") or []]
    want = [_toleration(one) for one in tolerations(opts["tolerations"])] if "tolerations" in opts else []
    if have != want:
        yield f"tolerations: {'; '.join(map(_shown, have)) or 'none'}, declared {'; '.join(map(_shown, want)) or 'none'}"
    for option, key, default in (
        ("serviceaccount", "serviceAccountName", "default"),
        ("schedulername", "schedulerName", "default-scheduler"),
    ):
        value = str(pod.get(key) or default)
        if value != opts.get(option, default):
            yield f"{option}: {value}, declared {opts.get(option, default)}"
    for option in ("labels", "annotations"):
        found, declared = meta.get(option) or {}, pairs(opts[option]) if option in opts else {}
        if option == "annotations" and node.platforms:
            declared[PLATFORMS] = ",".join(node.platforms)
            found = {**found, PLATFORMS: _platforms(str(found.get(PLATFORMS) or ""))}
            declared[PLATFORMS] = _platforms(declared[PLATFORMS])
        differing = {name: found.get(name) for name, value in declared.items() if found.get(name) != value}
        for name, other in differing.items():
            yield f"{option}: {name} is {other or 'not there'}, declared {declared[name]}"


def _config_drift(node: Node, config: Mapping[str, Any], now: Running) -> Iterator[str]:
    have = now.config or {}
    if have != config:
        differing = sorted(name for name in {**have, **config} if have.get(name) != config.get(name))
        yield f"config in the cluster: differs in {', '.join(differing)}"


def _toleration(one: Mapping[str, Any]) -> dict[str, str]:
    found = {name: str(value) for name, value in one.items() if value not in ("", None)}
    if found.get("operator") == "Equal":
        del found["operator"]
    return found


def _platforms(text: str) -> str:
    from .store import platform_name

    names = (item.split("/") for item in text.split(",") if item)
    return ",".join(sorted(platform_name(dict(zip(("os", "architecture", "variant"), parts))) for parts in names))


def _shown(found: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(found.items())) or "none"
