# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the engine takes now, on a reload or while it does not run, and refuses at its next start. Without I/O.

`dockerd --validate` (23.0 and later) finds none of it but conflicts with flags, and only where it is given them.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, NamedTuple

# Flags of dockerd whose option in daemon.json has another name (moby: cmd/dockerd, opts.NamedOption).
OPTIONS = {
    "-H": "hosts",
    "-D": "debug",
    "-G": "group",
    "-l": "log-level",
    "-b": "bridge",
    "-p": "pidfile",
    "-s": "storage-driver",
    "host": "hosts",
    "add-runtime": "runtimes",
    "graph": "data-root",
}
SINGULAR = {
    "allow-nondistributable-artifact": "allow-nondistributable-artifacts",
    "authorization-plugin": "authorization-plugins",
    "cdi-spec-dir": "cdi-spec-dirs",
    "default-address-pool": "default-address-pools",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
# The states of a node that dockerd starts as a member of a swarm (moby: api/types/swarm, LocalNodeState).
SWARM = ("active", "pending", "error", "locked")


class Refusal(NamedTuple):
    """Why the next start fails, and what to do about it."""

    what: str
    hint: str


def refusals(
    config: Mapping[str, Any], info: Mapping[str, Any], flags: Iterable[str], plugins: Iterable[str] = ()
) -> dict[str, Refusal]:
    """Return why an engine would not start with a daemon.json, by the option; `info` is {} where none runs.

    `flags` are those of its unit, `plugins` the authorization plugins that the host has.
    """
    found: dict[str, Refusal] = {}
    twice = [option for option in options_of(flags) if option in config]
    for option in twice:
        found[option] = Refusal(
            f"{option} is set in daemon.json and by a flag of the engine's unit, with which the engine does not start",
            "set it in one place: `systemctl cat docker.service` shows the flags",
        )
    node = str((info.get("Swarm") or {}).get("LocalNodeState") or "")
    if config.get("live-restore") is True and node in SWARM:
        found["live-restore"] = Refusal(
            f"this engine is a node of a swarm ({node}), and with live-restore it would not start again",
            "leave out live-restore, or leave the swarm first: docker swarm leave",
        )
    features = config.get("features")
    if features is not None and not isinstance(features, Mapping):
        found["features"] = Refusal("features is not a dictionary", "write it as {name: true}")
    for name, value in features.items() if isinstance(features, Mapping) else ():
        if not isinstance(value, bool):
            found["features"] = Refusal(f"features: {name} is neither true nor false", "write true or false")
    root = config.get("data-root")
    if root is not None and not str(root).startswith("/"):
        found["data-root"] = Refusal(f"data-root {root!r} is not an absolute path", "write the whole path")
    known = {*plugins, *((info.get("Plugins") or {}).get("Authorization") or ())}
    listed = config.get("authorization-plugins")
    for name in listed if isinstance(listed, list) else ():
        # One with a colon or a slash is managed by the engine, and not a file.
        if isinstance(name, str) and name not in known and not set(name) & set(":/"):
            found["authorization-plugins"] = Refusal(
                f"the host has no authorization plugin {name}, without which the engine does not start",
                "install and start it first",
            )
    return found


def options_of(flags: Iterable[str]) -> list[str]:
    """Return the options of daemon.json that flags of dockerd stand for."""
    found = []
    for flag in flags:
        name = flag.partition("=")[0]
        if name[:2] != "--" and name[:2] in OPTIONS:
            found.append(OPTIONS[name[:2]])
        elif name.startswith("--"):
            name = name[2:]
            found.append(OPTIONS.get(name) or SINGULAR.get(name) or name)
    return list(dict.fromkeys(found))
