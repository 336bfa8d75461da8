# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The builder that a task declares: looked at before anything runs, and turned into what buildx will store for it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._docker.cli import DOCKER_CLI_OPTIONS, context_host
from .._platform import parse_all
from .._problem import Problem, suggest
from .drivers import driver_of
from .store import CONFIG_DIR, NETWORK_HOST, Builder, Node, Store, check_name, read_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .driver import Driver

# buildkitd reads its settings without a word about those that it does not know (moby/buildkit: cmd/buildkitd/config).
SETTINGS = (
    "debug", "trace", "root", "insecure-entitlements", "proxyNetwork", "log", "grpc", "otel", "cdi", "worker", "registry",
    "dns", "history", "frontend", "system", "provenanceEnvDir", "cache", "compaction",
)  # fmt: skip
REGISTRY_SETTINGS = ("mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir")

# A builder as a person declares it, as an argument spec.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    **DOCKER_CLI_OPTIONS,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "driver": {
        "type": "str",
        "choices": ["docker-container", "remote", "kubernetes", "docker"],
        "default": "docker-container",
    },
    "nodes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str"},
            "endpoint": {"type": "str"},
            "platforms": {"type": "list", "elements": "str", "default": []},
            "driver_opts": {"type": "dict", "default": {}},
            "flags": {"type": "list", "elements": "str", "default": []},
        },
    },
    "buildkitd_config": {"type": "dict"},
    "default": {"type": "bool"},
    "bootstrap": {"type": "bool", "default": True},
    "recreate": {"type": "str", "choices": ["auto", "never", "always"], "default": "auto"},
    "keep_cache": {"type": "bool"},
    "exclusive": {"type": "list", "elements": "str"},
    "remove_orphans": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 300},
}


class Wish(NamedTuple):
    """A declared builder. The nodes' files are the certificates alone; `config` is what buildkitd.toml shall say in the container."""

    builder: Builder
    config: Mapping[str, Any]
    source: Mapping[str, Any]  # the same with the paths on the host, as buildx wants to read it
    warnings: tuple[str, ...]


def wish_of(params: Mapping[str, Any], store: Store) -> Wish:
    """Return the builder that a module's parameters declare; raise a Problem where buildx could not make it."""
    name, driver = check_name(params["name"]), driver_of(params["driver"])
    if name == "default" or context_host(store.env, name):
        raise Problem(
            f"{name!r} is the name of a Docker context, whose builder is the daemon's own",
            "take another name, or driver: docker",
        )
    given = params["buildkitd_config"]
    if given and not driver.daemon:
        raise Problem(f"buildkitd_config with the {driver.name} driver, which starts no BuildKit", driver.elsewhere)
    source = given or {}
    if given is None and driver.daemon:
        # What buildx itself takes without a word when no file is named.
        source = read_config((store.read("buildkitd.default.toml") or b"").decode("utf-8", "replace"))
    config, files = in_container(source)
    nodes = tuple(_node(index, node, name, driver, store) for index, node in enumerate(params["nodes"] or [{}]))
    _check_together(nodes)
    nodes = tuple(node._replace(files=files) for node in nodes)
    builder = Builder(name, driver.name, nodes)
    driver.check_nodes(builder, _others(store, name))
    driver.check_config(builder, config)
    return Wish(builder, config, source, tuple(_doubts(source)))


def _node(index: int, given: Mapping[str, Any], builder: str, driver: Driver, store: Store) -> Node:
    name = check_name(given.get("name") or f"{builder}{index}", "node")
    where = f"node {name}"
    try:
        flags = tuple(word for flag in given.get("flags") or [] for word in shlex.split(flag))
    except ValueError as error:
        raise Problem(f"{where}: flags: {error}", "quote them as for a shell") from error
    if flags and not driver.daemon:
        raise Problem(
            f"{where}: flags with the {driver.name} driver, which starts no BuildKit",
            "set them where that daemon is started",
        )
    opts = driver.driver_opts(where, given.get("driver_opts") or {})
    place = driver.endpoint(where, given.get("endpoint") or "", builder, name, store)
    platforms = given.get("platforms") or []
    return Node(
        name, place, tuple(str(platform) for platform in parse_all(platforms)) if platforms else (), opts, flags
    )


def _check_together(nodes: tuple[Node, ...]) -> None:
    """Raise a Problem where the nodes are fine one by one and not together."""
    for what in ("name", "endpoint"):
        values = [getattr(node, what) for node in nodes]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            hint = "give each node an endpoint of its own" if what == "endpoint" else "give each node a name of its own"
            raise Problem(f"two nodes have the {what} {twice}", hint)
    owner: dict[str, str] = {}
    for node in nodes:
        if len(nodes) > 1 and not node.platforms:
            raise Problem(
                f"node {node.name} of several declares no platforms",
                "declare those that it runs natively: buildx prefers an emulating node that declares them to a native one that does not",
            )
        for platform in node.platforms:
            if platform in owner:
                raise Problem(
                    f"{platform} is declared on the nodes {owner[platform]} and {node.name}",
                    "declare it on one: buildx gives a platform to one node and takes it from the others",
                )
            owner[platform] = node.name


def _others(store: Store, name: str) -> Iterator[Builder]:
    for other in store.names():
        if other != name:
            try:
                builder = store.builder(other)
            except Problem:
                continue  # a corrupt neighbour is its own task's error, not this one's
            if builder:
                yield builder


def _check_shapes(source: Mapping[str, Any]) -> None:
    """Raise a Problem where a setting that is looked into here has another shape than buildkitd's."""

    def listed(value: object, kind: type) -> bool:
        return value is None or (isinstance(value, list) and all(isinstance(item, kind) for item in value))

    for name, example in (("registry", "{HOST: {mirrors: [...]}}"), ("worker", "{oci: {gc: true}}")):
        tables = source.get(name)
        if tables is None:
            continue
        if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
            raise Problem(f"buildkitd_config: {name} is not a dictionary of dictionaries", f"write {name}: {example}")
        for key, table in tables.items():
            for setting, kind, form in (
                ("ca", str, "[PATH]"),
                ("keypair", Mapping, "[{key: PATH, cert: PATH}]"),
                ("gcpolicy", Mapping, "[{all: true, maxUsedSpace: 20GB}]"),
            ):
                if not listed(table.get(setting), kind):
                    raise Problem(
                        f"buildkitd_config: {name} {key}: {setting} is not a list of its kind",
                        f"write {setting}: {form}",
                    )
            for pair in table.get("keypair") or ():
                if set(pair) != {"key", "cert"}:
                    raise Problem(f"buildkitd_config: {name} {key}: a keypair is a key and a cert", "name both files")


def in_container(source: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a configuration as buildx puts it into the container, and the files that it carries along (LoadConfigFiles)."""
    files: dict[str, bytes] = {}
    origin: dict[str, str] = {}

    def carry(registry: str, path: object) -> str:
        directory = re.sub(r"[^a-zA-Z0-9.-]+", "_", registry)
        inside = f"certs/{directory}/{os.path.basename(str(path))}"
        if origin.setdefault(inside, str(path)) != str(path):
            raise Problem(
                f"{origin[inside]} and {path} of the registry {registry} have one name in the container",
                "rename one of them",
            )
        try:
            if not os.path.isfile(str(path)) and os.path.exists(str(path)):
                raise OSError(errno.EINVAL, "it is not a regular file")
            with open(str(path), "rb") as file:
                files[inside] = file.read()
        except OSError as error:
            raise Problem(
                f"buildkitd_config: registry {registry}: {path}: {error.strerror}",
                "the file is read on the host, by the user of the task",
            ) from error
        return f"{CONFIG_DIR}/{inside}"

    _check_shapes(source)
    config = dict(source)
    if source.get("registry") is not None:
        config["registry"] = {}
        for registry, settings in source["registry"].items():
            rewritten = dict(settings)
            if settings.get("ca"):
                rewritten["ca"] = [carry(registry, path) for path in settings["ca"]]
            if settings.get("keypair"):
                rewritten["keypair"] = [
                    {side: carry(registry, path) for side, path in pair.items()} for pair in settings["keypair"]
                ]
            config["registry"][registry] = rewritten
    return config, files


def _doubts(config: Mapping[str, Any]) -> Iterable[str]:
    """Yield a warning for what buildkitd would ignore without a word, or take otherwise than most people think."""
    for name in config:
        if name not in SETTINGS:
            yield f"buildkitd_config: {name!r} is not a setting of buildkitd; {suggest(name, SETTINGS)}"
    for registry, settings in (config.get("registry") or {}).items():
        for name in settings:
            if name not in REGISTRY_SETTINGS:
                yield f"buildkitd_config: registry {registry}: {name!r} is not a setting of buildkitd; {suggest(name, REGISTRY_SETTINGS)}"
    worker = config.get("worker")
    for kind, settings in worker.items() if isinstance(worker, Mapping) else ():
        if not isinstance(settings, Mapping):
            continue
        rules = [settings, *(rule for rule in settings.get("gcpolicy") or [] if isinstance(rule, Mapping))]
        for rule in rules:
            for name in {"gckeepstorage", "keepBytes", "reservedSpace"} & set(rule):
                if "maxUsedSpace" not in rule:
                    yield f"buildkitd_config: worker {kind}: {name} is what the cache always keeps, not its limit; set maxUsedSpace too"


def implied_flags(wish: Node, driver: Driver) -> bool:
    """Return whether buildx may append the entitlement network.host to a node's flags, which then is no difference."""
    explicit = any(flag.startswith("--allow-insecure-entitlement") for flag in wish.flags)
    return driver.daemon and (not explicit or driver.forces_network_host(wish)) and NETWORK_HOST not in wish.flags


def aspects(node: Node, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a node, in the form in which a person may see it."""
    certificates = {name: content for name, content in node.files.items() if name.startswith("certs/")}
    told = {
        "endpoint": node.endpoint,
        "platforms": sorted(node.platforms),
        "driver_opts": {name: _seen(name, value) for name, value in sorted(node.driver_opts.items())},
        "flags": list(node.flags),
        "buildkitd_config": config,
        "certificates": {
            name: hashlib.sha256(content).hexdigest()[:16] for name, content in sorted(certificates.items())
        },
    }
    return {name: value for name, value in told.items() if value}


def stored_aspects(node: Node, wish: Node | None, driver: Driver) -> dict[str, Any]:
    """Return what is compared of a node that buildx has stored, what buildx adds by itself left out."""
    flags = node.flags
    if wish is not None and implied_flags(wish, driver) and flags[-1:] == (NETWORK_HOST,):
        flags = flags[:-1]
    return aspects(node._replace(flags=flags), node.config())


def wished_state(wish: Wish) -> dict[str, Any]:
    """Return a declared builder in the form in which it is compared and shown."""
    state: dict[str, Any] = {"builder": "present", "driver": wish.builder.driver}
    state["nodes"] = [node.name for node in wish.builder.nodes]
    for node in wish.builder.nodes:
        state.update({f"{node.name} {name}": value for name, value in aspects(node, wish.config).items()})
    return state


def stored_state(wish: Wish, stored: Builder | None) -> dict[str, Any]:
    """Return a builder as buildx has stored it, or none, in the form in which it is compared with a declared one."""
    if stored is None:
        return {"builder": "absent"}
    driver = driver_of(stored.driver)
    stored = driver.as_declared(stored, wish.builder)
    wished = {node.name: node for node in wish.builder.nodes}
    state: dict[str, Any] = {"builder": "present", "driver": stored.driver}
    state["nodes"] = [node.name for node in stored.nodes]
    for node in stored.nodes:
        if node.name in wished:
            told = stored_aspects(node, wished[node.name], driver)
            state.update({f"{node.name} {name}": value for name, value in told.items()})
    return state


def differs(wish: Wish, stored: Builder | None) -> bool:
    """Return whether buildx has stored another builder than the declared one."""
    return stored_state(wish, stored) != wished_state(wish)


def _seen(option: str, value: str) -> str:
    """Return a driver option's value as a person may see it: of an environment variable, which may be a token, a fingerprint.

    It is the same in check mode and in the run, and worth nothing on another machine.
    """
    if not option.startswith("env."):
        return value
    try:
        with open("/etc/machine-id", "rb") as file:
            salt = file.read()
    except OSError:
        salt = b""
    return "hidden:" + hashlib.sha256(salt + option.encode() + value.encode()).hexdigest()[:8]
