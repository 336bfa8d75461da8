# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person wants to know of a builder: platforms and who runs them, versions, cache, problems."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping

from ._buildx import CONFIG_FILE, Node
from ._buildx_node import DEFAULT_IMAGE, RUNNING, cannot_build, drift, image_of
from ._platform import ARCHITECTURES
from ._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._buildx import Builder
    from ._buildx_node import Running
    from ._docker import Docker

# What such a CPU executes beside its own architecture, without QEMU.
COMPATIBLE = {"amd64": ("386",), "arm64": ("arm",), "ppc64le": (), "s390x": ()}
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def entry(
    builder: Builder, now: Mapping[str, Running], current: str, caches: Mapping[str, int | None]
) -> dict[str, Any]:
    """Return one builder as both modules return it."""
    return {
        "name": builder.name,
        "driver": builder.driver,
        "default": current == builder.name,
        "nodes": [_node(builder, node, now.get(node.name), caches.get(node.name)) for node in builder.nodes],
    }


def _node(builder: Builder, node: Node, now: Running | None, cache: int | None) -> dict[str, Any]:
    container = dict(now.container) if now else {}
    native = _native(now.platforms) if now else []
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "status": now.status if now else "unknown",
        "platforms_declared": list(node.platforms),
        "platforms_native": native,
        "platforms_emulated": _emulated(builder, node, now, native) if now else [],
        "driver_opts": {
            name: "hidden" if name.startswith("env.") else value for name, value in node.driver_opts.items()
        },
        "flags": list(node.flags),
        "buildkit_version": (now.version if now else "") or None,
        "image": _image(builder, node, container),
        "cache_bytes": cache,
        "problems": list(_problems(builder, node, now)) if now else [],
    }


def _image(builder: Builder, node: Node, container: Mapping[str, Any]) -> dict[str, Any] | None:
    if builder.driver != "docker-container":
        return None
    config = container.get("Config") or {}
    return {"declared": image_of(node) or DEFAULT_IMAGE, "runs": config.get("Image"), "id": container.get("Image")}


def _native(platforms: Iterable[str]) -> list[str]:
    """Return the platforms that a node's CPU runs: BuildKit tells its own first, and the rest by what it could execute."""
    known = list(platforms)
    if not known:
        return []
    own = known[0].split("/")[1]
    family = (own, *(other for other in COMPATIBLE.get(own, ()) if not _kernel_handler(other)))
    return [platform for platform in known if platform.split("/")[1] in family]


def _emulated(builder: Builder, node: Node, now: Running, native: Iterable[str]) -> list[dict[str, Any]]:
    """Return the other platforms, each with who emulates it; of a node elsewhere only that it is emulated."""
    local = is_local(builder, node)
    found = []
    for platform in now.platforms:
        if platform in native:
            continue
        handler = _kernel_handler(platform.split("/")[1]) if local else None
        by = None if not local else "kernel" if handler else "buildkit"
        found.append({"platform": platform, "by": by, "qemu": handler and handler["version"]})
    return found


def is_local(builder: Builder, node: Node) -> bool:
    """Return whether a node runs on this host's kernel."""
    schemes = ("unix://", "docker-container://") if builder.driver == "remote" else ("unix://", "default")
    return builder.driver != "kubernetes" and node.endpoint.startswith(schemes)


_handlers: dict[str, dict[str, Any] | None] = {}


def _kernel_handler(architecture: str) -> dict[str, Any] | None:
    """Return the interpreter that this host's kernel has for an architecture, with its version."""
    if architecture not in ARCHITECTURES:
        return None
    if architecture not in _handlers:
        from ._binfmt import read as read_kernel
        from ._qemu import Programs

        handlers = read_kernel().of(ARCHITECTURES[architecture])
        _handlers[architecture] = None
        if handlers:
            path = handlers[0].interpreter
            _handlers[architecture] = {"interpreter": path, "version": Programs().version(path)}
    return _handlers[architecture]


def _problems(builder: Builder, node: Node, now: Running) -> Iterable[str]:
    if now.error:
        yield now.error
    elif now.status != RUNNING:
        yield f"it is {now.status}: " + (
            "buildx starts it with the next build"
            if builder.driver == "docker-container"
            else f"nothing answers at {node.endpoint}"
        )
    for platform in cannot_build(node, now):
        yield f"declares {platform}, which its BuildKit cannot execute"
    if len(builder.nodes) > 1 and not node.platforms:
        yield "declares no platforms: buildx prefers an emulating node that does"
    if builder.driver == "docker-container":
        yield from drift(node, node.config() if CONFIG_FILE in node.files else {}, now)


def cache_bytes(docker: Docker, builder: str) -> int | None:
    """Return the disk space that a builder's cache takes, as `docker buildx du` sums it up (to four digits)."""
    try:
        told = docker.run("buildx", "du", "--builder", builder, timeout=60, check=False)
    except Problem:
        return None  # a builder that hangs tells its problem already
    total = re.search(r"^Total:\s+([\d.]+)\s*([kMGT]?)B", told.out, re.MULTILINE)
    if told.rc or not total:
        return None
    return int(float(total.group(1)) * UNITS[total.group(2).lower()])
