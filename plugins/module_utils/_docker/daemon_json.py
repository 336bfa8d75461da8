# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json as data, without I/O: merging what is declared into what others wrote, and what the engine makes of it.

Three texts meet: the file as it is, what is declared now, and what was declared last time (the record beside the file).
What was declared and is no longer is taken away, down to one element of a list; what others wrote stays, and comes back
where a declared value stood in its place.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Mapping

from .._passwords import NAME_OF_SECRET, without_passwords

# Options that the engine takes over on SIGHUP (docs.docker.com: dockerd, "configuration reload behavior"); any other
# needs a restart, and so does the feature that changes where images are stored.
RELOADABLE = {
    "allow-nondistributable-artifacts",
    "authorization-plugins",
    "debug",
    "default-runtime",
    "features",
    "insecure-registries",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
}
RESTART_FEATURES = {"containerd-snapshotter"}


NOTHING: Mapping[str, Any] = MappingProxyType({})


def merge(
    theirs: Mapping[str, Any], wish: Mapping[str, Any], ours: Mapping[str, Any], replaced: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Return the file's content with what is declared (`wish`) instead of what was declared before (`ours`).

    `replaced` are the values of others in whose place that was put.
    """
    merged = _add(_take_away(theirs, ours, replaced), wish)
    return _in_order_of(theirs, merged)


def owned(
    theirs: Mapping[str, Any], wish: Mapping[str, Any], ours: Mapping[str, Any], replaced: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Return the part of `wish` that is ours: what others wrote is not, even where it is the same."""
    return _added(_take_away(theirs, ours, replaced), wish)


def replaces(
    theirs: Mapping[str, Any], wish: Mapping[str, Any], ours: Mapping[str, Any], replaced: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Return the values of others that give way to the wish, to be put back when it is gone."""
    return _replaced(_take_away(theirs, ours, replaced), wish)


def declared(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without null, empty lists and empty dictionaries: these declare nothing."""
    plain = {name: declared(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    return {name: value for name, value in plain.items() if value is not None and value not in ([], {})}


def follow(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return what a running engine must do to follow a changed file: "restart", "reload", or "" for nothing."""
    changed = {name for name in {**old, **new} if old.get(name) != new.get(name)}
    if not changed:
        return ""
    before, after = (features(config) for config in (old, new))
    if changed - RELOADABLE or any(before.get(name) != after.get(name) for name in RESTART_FEATURES):
        return "restart"
    return "reload"


def features(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the features that a configuration turns on and off; something else in their place turns none."""
    value = config.get("features")
    return value if isinstance(value, Mapping) else {}


def running(wish: Mapping[str, Any], info: Mapping[str, Any], containerd_store: bool) -> dict[str, Any]:
    """Return how the running engine holds what is declared, for those options that `GET /info` shows.

    An engine that was never restarted after its file was changed shows here: a list has only the elements it knows.
    """
    registries = info.get("RegistryConfig") or {}
    mirrors = {_bare(mirror) for mirror in registries.get("Mirrors") or ()}
    cidrs = set(registries.get("InsecureRegistryCIDRs") or ())
    insecure = {name for name, index in (registries.get("IndexConfigs") or {}).items() if not index.get("Secure", True)}
    labels = set(info.get("Labels") or ())
    shown: dict[str, Any] = {}
    for name, key in _SHOWN.items():
        if name in wish:
            shown[name] = info.get(key)
    for name, known in (
        ("registry-mirrors", mirrors),
        ("insecure-registries", cidrs | insecure),
        ("labels", labels),
    ):
        if isinstance(wish.get(name), list):
            shown[name] = [value for value in wish[name] if _knows(name, known, str(value))]
    if "containerd-snapshotter" in features(wish):
        shown["features"] = {"containerd-snapshotter": containerd_store}
    return shown


def promised(wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `running` returns for an engine that follows the wish."""
    names = {*_SHOWN, "registry-mirrors", "insecure-registries", "labels"}
    promise = {name: value for name, value in wish.items() if name in names}
    if "containerd-snapshotter" in features(wish):
        promise["features"] = {"containerd-snapshotter": features(wish)["containerd-snapshotter"]}
    return promise


def without_secrets(old: Any, new: Any) -> tuple[Any, Any]:
    """Return two values as a person may see them: passwords hidden, yet different where they differ."""
    hidden_old, hidden_new = _hidden(old), _hidden(new)
    if old != new and hidden_old == hidden_new:
        return {"value": hidden_old, "secrets": "as before"}, {"value": hidden_new, "secrets": "changed"}
    return hidden_old, hidden_new


_SHOWN = {
    "debug": "Debug",
    "default-runtime": "DefaultRuntime",
    "experimental": "ExperimentalBuild",
    "live-restore": "LiveRestoreEnabled",
    "log-driver": "LoggingDriver",
}


def _take_away(config: Mapping[str, Any], ours: Mapping[str, Any], replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as it was without what is ours; a value that somebody changed since is no longer ours."""
    left = dict(config)
    for name, value in ours.items():
        if name not in left:
            continue
        theirs = left[name]
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            within = replaced.get(name)
            rest: Any = _take_away(theirs, value, within if isinstance(within, Mapping) else {})
        elif isinstance(value, list) and isinstance(theirs, list):
            rest = [element for element in theirs if element not in value]
        else:
            rest = None if _same(theirs, value) else theirs
        if rest in (None, [], {}):
            del left[name]
            # Of a dictionary that stood beside a dictionary, the values were put back above.
            if name in replaced and not (isinstance(value, Mapping) and isinstance(replaced[name], Mapping)):
                left[name] = replaced[name]
        else:
            left[name] = rest
    return left


def _add(config: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the wish: dictionaries merge, a list's declared elements come first, other values win."""
    result = dict(config)
    for name, value in wish.items():
        theirs = result.get(name)
        if isinstance(value, Mapping):
            result[name] = _add(theirs if isinstance(theirs, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(theirs, list):
            result[name] = [*value, *(element for element in theirs if element not in value)]
        else:
            result[name] = value
    return result


def _added(config: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the wish adds to the config or replaces in it."""
    added: dict[str, Any] = {}
    for name, value in wish.items():
        theirs = config.get(name)
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            rest: Any = _added(theirs, value)
        elif isinstance(value, list) and isinstance(theirs, list):
            rest = [element for element in value if element not in theirs]
        else:
            rest = {} if name in config and _same(theirs, value) else value
        if rest not in ([], {}):
            added[name] = rest
    return added


def _replaced(config: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the config that give way to the wish."""
    found: dict[str, Any] = {}
    for name, value in wish.items():
        if name not in config:
            continue
        theirs = config[name]
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            within = _replaced(theirs, value)
            found.update({name: within} if within else {})
        elif not (isinstance(value, list) and isinstance(theirs, list)) and not _same(theirs, value):
            found[name] = theirs
    return found


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same; to Python, true equals 1."""
    return type(one) is type(other) and bool(one == other)


def _in_order_of(model: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the model's names first, in the model's order, so that a person's diff is small."""
    names = [*(name for name in model if name in config), *(name for name in config if name not in model)]
    return {
        name: _in_order_of(model[name], config[name])
        if isinstance(config[name], Mapping) and isinstance(model.get(name), Mapping)
        else config[name]
        for name in names
    }


def _knows(option: str, known: set[str], value: str) -> bool:
    """Return whether the engine's values of an option have this one; a network, shown in its canonical form, is believed."""
    return value in known or _bare(value) in known or (option == "insecure-registries" and "/" in _bare(value))


def _bare(address: str) -> str:
    """Return a registry's address as the engine compares it: no scheme for hosts, no slash at the end."""
    return re.sub(r"^https?://(?=[^/]*/*$)", "", address).rstrip("/")


def _hidden(value: Any, name: str = "") -> Any:
    """Return a value with its secrets replaced."""
    if isinstance(value, Mapping):
        return {key: _hidden(element, str(key)) for key, element in value.items()}
    if isinstance(value, list):
        return [_hidden(element, name) for element in value]
    if isinstance(value, str):
        return "…" if NAME_OF_SECRET.search(name) else without_passwords(value)
    return value
