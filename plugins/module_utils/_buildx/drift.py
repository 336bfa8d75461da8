# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a node's container differs from what the node declares: image, command, limits, environment, configuration, GC policy."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Mapping

from .node import RUNNING, image_of
from .options import size
from .store import CONFIG_DIR, CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .node import Running
    from .store import Node


def drift(node: Node, wished_config: Mapping[str, Any], now: Running) -> list[str]:
    """Return where a node's container differs from what the node declares; for each, what it is and what it should be.

    `node` is the node as buildx has stored it, or will: flags and certificates as they go into the container.
    """
    if not now.container:
        return []
    found = [*_image_drift(node, now), *_settings_drift(node, now)]
    if now.status == RUNNING:
        found += _daemon_drift(node, wished_config, now)
    return found


def _image_drift(node: Node, now: Running) -> Iterator[str]:
    wished = image_of(node)
    runs, reference = str(now.container.get("Image", "")), str(now.container["Config"].get("Image", ""))
    if now.image:
        if now.image["Id"] != runs:
            yield f"image: runs {_short(runs)} ({reference}), {wished} is {_short(str(now.image['Id']))}"
    elif reference.partition("@")[0] != wished.partition("@")[0]:  # buildx may pin the reference's digest
        yield f"image: runs {reference}, declared {wished}"
    # Of BuildKit's own images and their mirrors alone: whoever makes an image of BuildKit may count its versions otherwise.
    tag = re.search(r"(?:^|/)moby/buildkit:(v\d+\.\d+\.\d+)(-rootless)?$", wished)
    if now.version and tag and now.version != tag.group(1):
        yield f"version: runs BuildKit {now.version}, declared {tag.group(1)}"


def _settings_drift(node: Node, now: Running) -> Iterator[str]:
    opts, host, config = node.driver_opts, now.container["HostConfig"], now.container["Config"]
    has_config = CONFIG_FILE in node.files
    command = [*(["--config", f"{CONFIG_DIR}/{CONFIG_FILE}"] if has_config else []), *node.flags]
    if list(config.get("Cmd") or []) != command:
        yield f"command: {' '.join(config.get('Cmd') or []) or 'none'}, declared {' '.join(command) or 'none'}"
    for option, key, read in (
        ("memory", "Memory", size),
        ("memory-swap", "MemorySwap", size),
        ("cpu-period", "CpuPeriod", int),
        ("cpu-quota", "CpuQuota", int),
        ("cpu-shares", "CpuShares", int),
        ("cpuset-cpus", "CpusetCpus", str),
        ("cpuset-mems", "CpusetMems", str),
    ):
        have = host.get(key) or read("0" if read is not str else "")
        if option == "memory-swap" and option not in opts:
            continue  # Docker sets it by itself where memory is limited
        wish = opts.get(option, "" if read is str else "0")
        want = -1 if wish == "-1" else read(wish)
        if have != want:
            yield f"{option}: {have}, declared {want}"
    network = str(host.get("NetworkMode") or "default")
    if network != opts.get("network", network if network in ("default", "bridge") else "default"):
        yield f"network: {network}, declared {opts.get('network', 'default')}"
    # Without cgroupfs Docker takes no parent from buildx, and the option means nothing.
    parent = str(host.get("CgroupParent") or "")
    if parent and parent != opts.get("cgroup-parent", "/docker/buildx"):
        yield f"cgroup-parent: {parent}, declared {opts.get('cgroup-parent', '/docker/buildx')}"
    restart = host.get("RestartPolicy") or {}
    policy = str(restart.get("Name") or "no") + (
        f":{restart['MaximumRetryCount']}" if restart.get("MaximumRetryCount") else ""
    )
    if policy != opts.get("restart-policy", "unless-stopped"):
        yield f"restart-policy: {policy}, declared {opts.get('restart-policy', 'unless-stopped')}"
    yield from _environment_drift(node, now)


def _environment_drift(node: Node, now: Running) -> Iterator[str]:
    """Yield the names of variables that differ; never their values, which may be tokens."""
    have = dict(word.partition("=")[::2] for word in now.container["Config"].get("Env") or [])
    want = {name[len("env.") :]: value for name, value in node.driver_opts.items() if name.startswith("env.")}
    known = set(want) | {"PATH"}
    if now.image:
        known |= {word.partition("=")[0] for word in now.image["Config"].get("Env") or []}
    differing = sorted({name for name, value in want.items() if have.get(name) != value})
    if differing:
        yield f"environment: {', '.join(differing)} as declared is not set"
    if now.image and set(have) - known:
        yield f"environment: {', '.join(sorted(set(have) - known))} is set, not declared"


def _daemon_drift(node: Node, wished: Mapping[str, Any], now: Running) -> Iterator[str]:
    if now.config is not None and now.config != wished:
        differing = sorted(name for name in {**now.config, **wished} if now.config.get(name) != wished.get(name))
        yield f"config in the container: differs in {', '.join(differing)}"
    certificates = {
        name: hashlib.sha256(content).hexdigest() for name, content in node.files.items() if name != CONFIG_FILE
    }
    if dict(now.certificates) != certificates:
        differing = sorted(
            name
            for name in {**now.certificates, **certificates}
            if now.certificates.get(name) != certificates.get(name)
        )
        yield f"certificates in the container: {', '.join(differing)}"
    if not any("gc" in flag for flag in node.flags):
        yield from _gc_drift(wished, now)


def _gc_drift(wished: Mapping[str, Any], now: Running) -> Iterator[str]:
    """Yield where the GC policy in force is not the declared one, as far as it is declared rule by rule (or switched off)."""
    oci = (wished.get("worker") or {}).get("oci") or {}
    if now.gc is None or not isinstance(oci, Mapping):
        return
    if oci.get("gc") is False:
        if now.gc:
            yield f"gc policy: {len(now.gc)} rules in force, declared off"
        return
    rules = oci.get("gcpolicy")
    if not rules:
        return
    if len(rules) != len(now.gc):
        yield f"gc policy: {len(now.gc)} rules in force, declared {len(rules)}"
        return
    for index, (rule, actual) in enumerate(zip(rules, now.gc)):
        for name, have in actual.items():
            want = _gc_value(name, rule)
            if want is not None and want != (have or type(want)()):
                yield f"gc policy: rule {index}: {name} is {have or 0}, declared {want}"


def _gc_value(name: str, rule: Mapping[str, Any]) -> Any:
    """Return what a rule should read as in force; None where only the daemon can tell (a share of its disk)."""
    if name == "all":
        return bool(rule.get("all", False))
    if name == "filter":
        return list(rule.get("filters") or [])
    if name == "keepDuration":
        return _nanoseconds(rule.get("keepDuration", 0))
    if name in ("reservedSpace", "maxUsedSpace", "minFreeSpace"):
        given = rule.get(name, rule.get("keepBytes", 0) if name == "reservedSpace" else 0)
        try:
            return size(str(given))
        except ValueError:
            return None
    return None


def _nanoseconds(given: Any) -> int | None:
    units = {"h": 3600, "m": 60, "s": 1}
    text = str(given)
    if re.fullmatch(r"\d+", text):
        return int(text) * 10**9
    if not re.fullmatch(r"(\d+[hms])+", text):
        return None
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text)) * 10**9


def _short(digest: str) -> str:
    return digest[:19]
