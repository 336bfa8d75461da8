# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The builders of a user, who runs each platform for them, how much their caches take, and what looks like left behind."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any, Mapping

from .._binfmt.kernel import read
from .._binfmt.qemu import Programs
from .._docker.cli import Docker
from .._platform import ARCHITECTURES
from .._problem import Problem
from .drivers import driver_of
from .facts import entry
from .node import RUNNING, Running
from .remove import orphans
from .store import Builder, Node, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._binfmt.kernel import Kernel

# What such a CPU executes beside its own architecture, without QEMU.
COMPATIBLE = {"amd64": ("386",), "arm64": ("arm",), "ppc64le": (), "s390x": ()}
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


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
    _programs().save()
    result: dict[str, Any] = {"changed": False, "builders": found, "orphans": [], "problems": problems}
    if params["orphans"]:
        try:
            result["orphans"] = orphans(docker, store)
        except Problem as problem:
            problems.append(f"orphans: {problem}")
    return result


def _described(docker: Docker, builder: Builder, raw: bytes | None, current: str, cache: bool) -> dict[str, Any]:
    try:
        now = driver_of(builder.driver).look(docker, builder, raw)()
    except Problem as problem:
        now = {node.name: Running("error", error=str(problem)) for node in builder.nodes}
    told = entry(builder, now, current)
    for node, facts in zip(builder.nodes, told["nodes"]):
        local = is_local(builder, node)
        facts["platforms_native"] = native = _native(facts["platforms"], local=local)
        facts["platforms_emulated"] = _emulated(facts["platforms"], native, local=local)
        # buildx sums up over the nodes: only of a single one it is known which.
        if cache and len(builder.nodes) == 1 and facts["status"] == RUNNING:
            facts["cache_bytes"] = _cache_bytes(docker, builder.name)
    return told


def _native(platforms: Sequence[str], *, local: bool) -> list[str]:
    """Return the platforms that a node's CPU runs: BuildKit tells its own first, and the rest by what it could execute."""
    if not platforms:
        return []
    own = platforms[0].split("/")[1]
    # A handler of this kernel would be asked before the CPU is; of another machine's nobody knows.
    family = (own, *(other for other in COMPATIBLE.get(own, ()) if not (local and _kernel_handler(other))))
    return [platform for platform in platforms if platform.split("/")[1] in family]


def _emulated(platforms: Iterable[str], native: Iterable[str], *, local: bool) -> list[dict[str, Any]]:
    """Return the other platforms, each with who emulates it; of a node elsewhere only that it is emulated."""
    found = []
    for platform in platforms:
        if platform in native:
            continue
        handler = _kernel_handler(platform.split("/")[1]) if local else None
        by = None if not local else "kernel" if handler else "buildkit"
        found.append({"platform": platform, "by": by, "qemu": handler and handler["version"]})
    return found


def is_local(builder: Builder, node: Node) -> bool:
    """Return whether a node runs on this host's kernel."""
    return driver_of(builder.driver).is_local(node)


def _kernel_handler(architecture: str) -> dict[str, Any] | None:
    """Return the interpreter that this host's kernel has for an architecture, with its version."""
    if architecture not in ARCHITECTURES:
        return None
    handlers = _kernel().of(ARCHITECTURES[architecture])
    if not handlers:
        return None
    path = handlers[0].interpreter
    return {"interpreter": path, "version": _programs().version(path)}


@functools.lru_cache(maxsize=None)
def _kernel() -> Kernel:
    return read()


@functools.lru_cache(maxsize=None)
def _programs() -> Programs:
    return Programs()


def _cache_bytes(docker: Docker, builder: str) -> int | None:
    """Return the disk space that a builder's cache takes, as `docker buildx du` sums it up (to four digits)."""
    try:
        told = docker.run("buildx", "du", "--builder", builder, timeout=60, check=False)
    except Problem:
        return None  # a builder that hangs tells its problem already
    return None if told.rc else cache_total(told.out)


def cache_total(text: str) -> int | None:
    """Return the sum at the end of what `docker buildx du` prints; None where there is none."""
    total = re.search(r"^Total:\s+([\d.]+)\s*([kMGT]?)B", text, re.MULTILINE)
    return int(float(total.group(1)) * UNITS[total.group(2).lower()]) if total else None
