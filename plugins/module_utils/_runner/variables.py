# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a runner and its builds read: variables, as the runner takes them, and what of them is refused.

What the runner itself would refuse at its start (drone-runner-docker, command/daemon/config.go, read with envconfig) is
refused here: at start it would only crash in a loop, and Drone would show builds that stay `pending`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping

from .._image.reference import Reference
from .._passwords import without_passwords
from .._problem import Problem, suggest

if TYPE_CHECKING:
    from .._drone.server import Server
    from .._platform import Platform

# Every variable that the runner reads, and as what (drone-runner-docker 1.8.4). A map is written KEY:VALUE,KEY:VALUE, and
# another colon or comma in it stops the runner at its start.
VARIABLES: Mapping[str, str] = {
    "DRONE_DEBUG": "bool", "DRONE_TRACE": "bool",
    "DRONE_RPC_PROTO": "str", "DRONE_RPC_HOST": "str", "DRONE_RPC_SECRET": "str", "DRONE_RPC_SKIP_VERIFY": "bool",
    "DRONE_RPC_DUMP_HTTP": "bool", "DRONE_RPC_DUMP_HTTP_BODY": "bool",
    "DRONE_UI_DISABLE": "bool", "DRONE_UI_USERNAME": "str", "DRONE_UI_PASSWORD": "str", "DRONE_UI_REALM": "str",
    "DRONE_HTTP_BIND": "str", "DRONE_HTTP_PROTO": "str", "DRONE_HTTP_HOST": "str", "DRONE_HTTP_ACME": "bool",
    "DRONE_RUNNER_NAME": "str", "DRONE_RUNNER_CAPACITY": "int", "DRONE_RUNNER_MAX_PROCS": "int",
    "DRONE_RUNNER_ENVIRON": "map", "DRONE_RUNNER_ENV_FILE": "str", "DRONE_RUNNER_SECRETS": "map",
    "DRONE_RUNNER_LABELS": "map", "DRONE_RUNNER_VOLUMES": "map", "DRONE_RUNNER_DEVICES": "list",
    "DRONE_RUNNER_NETWORKS": "list", "DRONE_RUNNER_NETWORK_OPTS": "map", "DRONE_RUNNER_PRIVILEGED_IMAGES": "list",
    "DRONE_RUNNER_CLONE_IMAGE": "str",
    "DRONE_PLATFORM_OS": "str", "DRONE_PLATFORM_ARCH": "str", "DRONE_PLATFORM_KERNEL": "str",
    "DRONE_PLATFORM_VARIANT": "str",
    "DRONE_LIMIT_REPOS": "list", "DRONE_LIMIT_EVENTS": "list", "DRONE_LIMIT_TRUSTED": "bool",
    "DRONE_MEMORY_LIMIT": "int", "DRONE_MEMORY_SWAP_LIMIT": "int", "DRONE_CPU_QUOTA": "int", "DRONE_CPU_PERIOD": "int",
    "DRONE_CPU_SHARES": "int", "DRONE_CPU_SET": "list", "DRONE_SHM_SIZE": "int",
    "DRONE_ENV_PLUGIN_ENDPOINT": "str", "DRONE_ENV_PLUGIN_TOKEN": "str", "DRONE_ENV_PLUGIN_SKIP_VERIFY": "bool",
    "DRONE_SECRET_PLUGIN_ENDPOINT": "str", "DRONE_SECRET_PLUGIN_TOKEN": "str", "DRONE_SECRET_PLUGIN_SKIP_VERIFY": "bool",
    "DRONE_REGISTRY_PLUGIN_ENDPOINT": "str", "DRONE_REGISTRY_PLUGIN_TOKEN": "str",
    "DRONE_REGISTRY_PLUGIN_SKIP_VERIFY": "bool",
    "DRONE_NETRC_CLONE_ONLY": "bool", "DRONE_DOCKER_CONFIG": "str", "DRONE_DOCKER_STREAM_PULL": "bool",
    "DRONE_DEFER_TAIL_LOG": "str",
    "DRONE_TMATE_ENABLED": "bool", "DRONE_TMATE_IMAGE": "str", "DRONE_TMATE_HOST": "str", "DRONE_TMATE_PORT": "str",
    "DRONE_TMATE_FINGERPRINT_RSA": "str", "DRONE_TMATE_FINGERPRINT_ED25519": "str",
    "DRONE_TMATE_AUTHORIZED_KEYS": "str",
}  # fmt: skip
# Which option sets which variable.
OPTIONS: Mapping[str, str] = {
    "drone_url": "DRONE_RPC_HOST",
    "rpc_secret": "DRONE_RPC_SECRET",
    "name": "DRONE_RUNNER_NAME",
    "capacity": "DRONE_RUNNER_CAPACITY",
    "max_procs": "DRONE_RUNNER_MAX_PROCS",
    "labels": "DRONE_RUNNER_LABELS",
    "privileged_images": "DRONE_RUNNER_PRIVILEGED_IMAGES",
    "volumes": "DRONE_RUNNER_VOLUMES",
    "devices": "DRONE_RUNNER_DEVICES",
    "networks": "DRONE_RUNNER_NETWORKS",
    "secrets": "DRONE_RUNNER_SECRETS",
    "clone_image": "DRONE_RUNNER_CLONE_IMAGE",
    "limit_repos": "DRONE_LIMIT_REPOS",
    "limit_events": "DRONE_LIMIT_EVENTS",
    "limit_trusted": "DRONE_LIMIT_TRUSTED",
    "memory": "DRONE_MEMORY_LIMIT",
    "memory_swap": "DRONE_MEMORY_SWAP_LIMIT",
    "cpu_quota": "DRONE_CPU_QUOTA",
    "cpu_period": "DRONE_CPU_PERIOD",
    "cpu_shares": "DRONE_CPU_SHARES",
    "cpu_set": "DRONE_CPU_SET",
    "shm_size": "DRONE_SHM_SIZE",
    "ui_username": "DRONE_UI_USERNAME",
    "ui_password": "DRONE_UI_PASSWORD",
}
# Variables of the runner that follow from other options: variable => option.
FOLLOW: Mapping[str, str] = {
    **{variable: option for option, variable in OPTIONS.items()},
    "DRONE_RPC_PROTO": "drone_url",
    "DRONE_RPC_SKIP_VERIFY": "validate_certs",
    "DRONE_HTTP_BIND": "ui_bind",
    "DRONE_RUNNER_ENVIRON": "build_environment",
    "DRONE_RUNNER_ENV_FILE": "build_environment",
    "DRONE_PLATFORM_OS": "platform",
    "DRONE_PLATFORM_ARCH": "platform",
    "DRONE_PLATFORM_VARIANT": "platform",
    "DRONE_DOCKER_CONFIG": "docker_config",
}
EVENTS = ("cron", "custom", "promote", "pull_request", "push", "rollback", "tag")
# What a step may not set is no default for it either; they would break every build.
NOT_FOR_BUILDS = ("PATH", "HOME", "DOCKER_HOST")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = re.compile(r"SECRET|TOKEN|PASS|PWD|CREDENTIAL|KEY|AUTH", re.IGNORECASE)
SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def environment_of(
    wish: Mapping[str, Any], server: Server, secret: str, name: str, platform: Platform
) -> dict[str, str]:
    environment = {
        "DRONE_RPC_PROTO": server.scheme,
        "DRONE_RPC_HOST": f"{server.authority}{server.path}",
        "DRONE_RPC_SECRET": secret,
        "DRONE_RUNNER_NAME": name,
        "DRONE_RUNNER_CAPACITY": str(wish["capacity"]),
        "DRONE_PLATFORM_OS": platform.os,
        # amd64 unless told: builds would wait for a runner of the right architecture for ever.
        "DRONE_PLATFORM_ARCH": platform.architecture,
        # A pipeline that names none gets any; one that says arm64/v8 would wait for a runner that says so too.
        "DRONE_PLATFORM_VARIANT": platform.variant or {"arm64": "v8"}.get(platform.architecture, ""),
    }
    if wish["capacity"] < 1:
        raise Problem(f"capacity is {wish['capacity']}", "let the runner take at least one build")
    if not wish["validate_certs"]:
        environment["DRONE_RPC_SKIP_VERIFY"] = "true"
    for option, variable in OPTIONS.items():
        if variable in environment or not wish.get(option):
            continue
        value: Any = wish[option]
        if option in ("memory", "memory_swap", "shm_size"):
            value = size(option, value)
        environment[variable] = _written(option, VARIABLES[variable], value)
    for event in wish["limit_events"] or ():
        if event not in EVENTS:
            raise Problem(f"limit_events: {event!r} is not an event of Drone", suggest(str(event), EVENTS))
    for image in wish["privileged_images"] or ():
        try:
            Reference.parse(str(image))
        except Problem as problem:
            raise Problem(f"privileged_images: {problem.what}", problem.hint) from problem
    for key, value in (wish["env"] or {}).items():
        _check_variable(str(key))
        environment[str(key)] = _written(f"env: {key}", VARIABLES.get(str(key), "str"), value)
    lines = [key for key, value in environment.items() if re.search(r"[\n\r\0]", value)]
    if lines:
        raise Problem(
            f"{', '.join(FOLLOW.get(key, f'env: {key}') for key in lines)}: a value of several lines, which Docker's env files cannot hold",
            "shorten it",
        )
    return {key: value for key, value in environment.items() if value}


def builds_of(wish: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of every build: the plugins' settings by their names, and what is given as it is."""
    builds = {}
    for key, value in (wish["plugin_defaults"] or {}).items():
        setting = str(key).upper()
        if not VARIABLE.fullmatch(setting):
            raise Problem(f"plugin_defaults: {key!r} is not a setting of a plugin", "use letters, digits and _")
        # The Docker plugins read both names; other plugins have a `mirror` of their own.
        name = "DOCKER_PLUGIN_MIRROR" if setting == "MIRROR" else f"PLUGIN_{setting}"
        builds[name] = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _plain(value)
    for key, value in (wish["build_environment"] or {}).items():
        if not VARIABLE.fullmatch(str(key)):
            raise Problem(f"build_environment: {key!r} is not a valid name for a variable", "use letters, digits and _")
        if str(key) in NOT_FOR_BUILDS:
            raise Problem(
                f"build_environment: {key} in every step would break builds", "set it in the step that needs it"
            )
        if str(key) in builds:
            raise Problem(f"{key} is set by plugin_defaults and by build_environment", "leave one of them out")
        builds[str(key)] = _plain(value)
    mirror = builds.get("DOCKER_PLUGIN_MIRROR", "")
    if mirror and not re.match(r"https?://[^/\s]+", mirror):
        raise Problem(f"plugin_defaults: mirror {mirror!r} has no scheme", f"did you mean https://{mirror}?")
    for key, value in builds.items():
        if re.search(r"[\r\0]", value):
            raise Problem(f"build_environment: {key} has a character that no variable has", "leave it out")
    return builds


def quoted(name: str, value: str) -> str:
    """Return a value as the runner's ENV_FILE takes it (godotenv 1.3): read back, it is the same."""
    if "#" in value and re.search("[\"']", value):
        # Its parser counts quotes between hashes, and cuts off what it takes for a comment.
        raise Problem(
            f"build_environment: {name} has both # and quotes, which the runner's parser cuts off", "use a secret"
        )
    if "\n" not in value:
        return f"'{value}'"
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'"{value}"'


def variables(text: str) -> dict[str, str]:
    """Return the variables of a file that we wrote, as they stand there."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value for key, _unused, value in pairs}


def secret_values(wish: Mapping[str, Any]) -> list[str]:
    """Return what of a declaration may not be shown, by the names that it has there."""
    found = [str(value) for value in (wish.get("secrets") or {}).values()]
    for option in ("env", "build_environment", "plugin_defaults"):
        values = wish.get(option) or {}
        found += [str(value) for name, value in values.items() if SECRET.search(str(name)) and str(value)]
    return found


def shown(name: str, value: str, wanted: str | None) -> str:
    """Return a variable's value as a diff shows it: of a secret only whether it is the declared one."""
    if SECRET.search(name):
        return "a secret, as declared" if value == wanted else "another secret"
    return without_passwords(value)


def size(option: str, value: object) -> int:
    """Return the bytes that "2g" or 2147483648 means."""
    match = re.fullmatch(r"(\d+)([kmgt]?)(?:i?b)?", str(value).strip().lower())
    if not match:
        raise Problem(f"{option} {value!r} is not a valid size", "write it as 512m, 2g, or a number of bytes")
    return int(match.group(1)) * SIZES[match.group(2)]


def _check_variable(key: str) -> None:
    if not VARIABLE.fullmatch(key):
        raise Problem(f"env: {key!r} is not a valid name for a variable", "use letters, digits and _")
    if key in FOLLOW:
        raise Problem(f"env: {key} is set by an option", f"use {FOLLOW[key]}")
    if key.startswith("DRONE_") and key not in VARIABLES:
        raise Problem(f"env: the runner knows no {key}, and would ignore it", suggest(key, VARIABLES))


def _written(option: str, kind: str, value: Any) -> str:
    """Return a value as the runner reads it; raise a Problem for what it would refuse, or read as something else."""
    if value is None:
        raise Problem(f"{option} has no value", 'write "" for an empty one, or leave it out')
    if kind == "map":
        if not isinstance(value, Mapping):
            raise Problem(f"{option} is not a dictionary", "write it as {key: value}")
        for key, item in value.items():
            _check_pair(option, str(key), str(item))
        return ",".join(f"{key}:{item}" for key, item in sorted(value.items()))
    if kind == "list":
        entries = [str(entry).strip() for entry in (value if isinstance(value, (list, tuple)) else [value])]
        for entry in entries:
            if "," in entry or not entry:
                raise Problem(
                    f"{option}: {entry!r} is not an entry of a list", "give each entry by itself, without commas"
                )
        return ",".join(entries)
    if kind == "bool":
        if isinstance(value, bool):
            return str(value).lower()
        if str(value).lower() not in ("true", "false", "1", "0", "t", "f"):
            raise Problem(f"{option}: {value!r} is neither true nor false", "the runner would not start with it")
        return str(value).lower()
    if kind == "int" and not re.fullmatch(r"-?\d+", str(value)):
        raise Problem(f"{option}: {value!r} is not a number", "the runner would not start with it")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_pair(option: str, key: str, item: str) -> None:
    # Never with the value: it may be a secret.
    said = f"{key}:{item}" if option == "volumes" else key
    if not re.search("[:,]", key + item):
        if not key or not item:
            raise Problem(f"{option}: {said!r} lacks its half", "write it as {key: value}")
        return
    hint = "leave out the colons and commas, or give it in build_environment, which has no such limits"
    if option == "volumes":
        hint = "write {HOST PATH: CONTAINER PATH}; a runner's volumes are never read-only, mount it in the pipeline instead"
    if option == "secrets":
        hint = "keep it as a secret of the repository or organisation (module drone_secret)"
    raise Problem(
        f"{option}: {said!r} has more colons or commas than a map of the runner takes: it would not start", hint
    )


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
