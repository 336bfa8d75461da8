# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner as it is declared: which files make it, what they say, and what is refused. Without I/O.

What the runner itself would refuse at its start (drone-runner-docker, command/daemon/config.go, read with envconfig) is
refused here: at start it would only crash in a loop, and Drone would show builds that stay `pending`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from ._docker import without_passwords
from ._drone_http import Server
from ._files import File
from ._platform import Platform
from ._problem import Problem, near
from ._reference import Reference

CONTAINER = "drone-runner"
UNIT = "drone-runner.service"
PRUNE = "drone-runner-prune.service"
TIMER = "drone-runner-prune.timer"
CONFIG = "/etc/drone-runner"
ENVIRONMENT = f"{CONFIG}/environment"
BUILDS = f"{CONFIG}/builds.env"
PROGRAMS = "/usr/local/lib/drone-runner"
RUN = f"{PROGRAMS}/run"
PRUNER = f"{PROGRAMS}/prune.py"
UNITS = "/etc/systemd/system"
HEAD = "# Managed by multiarch.drone.drone_runner\n"
# A running container carries what it was started with: only so can a later run tell whether it is what is declared.
LABEL = "multiarch.drone.runner"
# systemd kills what has not stopped by then; Docker's own limit comes first.
GRACE = 30

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
# Where Docker puts the network of each build, unless default-address-pools says otherwise (libnetwork's first pool: a host
# must have fifteen networks before it takes from 192.168.0.0/16).
POOLS = ("172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/14", "172.24.0.0/14", "172.28.0.0/14")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
SECRET = re.compile(r"SECRET|TOKEN|PASS|PWD|CREDENTIAL|KEY|AUTH", re.IGNORECASE)
SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

SERVICE = """\
[Unit]
Description=Drone runner for Docker pipelines
Documentation=https://docs.drone.io/runner/docker/overview/
# Whatever stops or restarts Docker, apt included, stops this first, and to stop it is to drain it.
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={run}
# One SIGTERM, which `docker run` hands on: the runner takes no more builds, and leaves when its own have ended. A second
# one would end it at once, and its builds with it.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={timeout}
# Having drained, the runner leaves with 1.
SuccessExitStatus=1
# Where the time was up, only `docker run` is dead, and not yet the container.
ExecStopPost=-/bin/sh -c '[ "$$SERVICE_RESULT" != timeout ] || {docker} rm --force {container}'
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target docker.service
"""

# A lost connection to Docker ends `docker run`, and with live-restore not the container: it is taken up again, since its
# builds go on. A container of another declaration is drained; Docker waits as long as its --stop-timeout says.
RUN_SCRIPT = """\
#!/bin/sh
{head}# What drone-runner.service runs, as a person would type it.
docker={docker}
if [ -n "$($docker ps --quiet --filter 'name=^{container}$' --filter label={label}={mark})" ]; then
    exec $docker attach --no-stdin {container}
fi
$docker stop {container} >/dev/null 2>&1
$docker rm --force {container} >/dev/null 2>&1
exec {command}
"""

PRUNE_SERVICE = """\
[Unit]
Description=What interrupted builds of Drone have left behind
Requisite=docker.service
After=docker.service

[Service]
Type=oneshot
ExecStart={python} -I {program} --container {container} --age {age} --size {size}{builders}
Nice=10
"""
PRUNE_TIMER = """\
[Unit]
Description=What interrupted builds of Drone have left behind, {schedule}

[Timer]
OnCalendar={schedule}
RandomizedDelaySec=10m
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True)
class Runner:
    """A declared runner: what makes it."""

    name: str
    server: str
    secret: str
    image: str
    platform: str
    environment: Mapping[str, str]
    builds: Mapping[str, str]
    files: Mapping[str, File]
    mark: str
    run: tuple[str, ...]  # the `docker run` of the service
    rehearse: tuple[str, ...]  # the same without Docker's socket and without a network: it can only read its settings
    prunes: bool
    own_network: bool  # it may reach a server that the host does not

    @property
    def privileged_images(self) -> list[str]:
        """The images whose steps have the host, in whichever repository they are."""
        return [name for name in self.environment.get("DRONE_RUNNER_PRIVILEGED_IMAGES", "").split(",") if name]


@dataclass(frozen=True)
class Tools:
    """What of the host goes into the files."""

    docker: str
    python: str
    pruner: str  # the text of the program that prunes
    texts: Mapping[str, str]  # what the files that are mounted hold: docker_config, ca_path


def declare(wish: Mapping[str, Any], tools: Tools, machine: Platform) -> Runner:
    """Return the runner that is declared on a host; raise a Problem for what cannot be, before anything is changed."""
    server = Server.parse(wish["drone_url"] or "")
    secret = _secret(wish["rpc_secret"])
    name = (wish["name"] or "").strip()
    if not NAME.fullmatch(name):
        raise Problem(
            f"name {name!r} is no name for a runner", "use letters, digits, ., _ and -, such as the host's name"
        )
    Reference.parse(wish["image"])
    platform = Platform.parse(wish["platform"]) if wish["platform"] else machine
    environment = _environment(wish, server, secret, name, platform)
    builds = _builds(wish)
    if builds:
        environment["DRONE_RUNNER_ENV_FILE"] = BUILDS
    if wish["docker_config"]:
        environment["DRONE_DOCKER_CONFIG"] = f"{CONFIG}/docker.json"
    if wish["ca_path"]:
        environment["SSL_CERT_FILE"] = f"{CONFIG}/ca.pem"
    _limits(wish)
    run = _command(wish, tools, builds)
    files = {
        ENVIRONMENT: File(
            "".join(f"{key}={value}\n" for key, value in sorted(environment.items())), 0o600, secret=True
        ),
    }
    if builds:
        lines = (f"{key}={quoted(key, value)}\n" for key, value in sorted(builds.items()))
        files[BUILDS] = File("".join(lines), 0o600, secret=True)
    seen = "\0".join([*run, *(file.text for file in files.values()), *tools.texts.values()])
    mark = hashlib.sha256(seen.encode()).hexdigest()[:16]
    started = (tools.docker, "run", f"--name={CONTAINER}", f"--label={LABEL}={mark}", *run)
    files[RUN] = File(
        RUN_SCRIPT.format(
            head=HEAD,
            docker=shlex.quote(tools.docker),
            container=CONTAINER,
            label=LABEL,
            mark=mark,
            command=" \\\n    ".join(map(shlex.quote, started)),
        ),
        0o755,
    )
    unit = SERVICE.format(run=RUN, timeout=wish["stop_timeout"] + GRACE, docker=tools.docker, container=CONTAINER)
    files[f"{UNITS}/{UNIT}"] = File(HEAD + unit)
    if wish["prune"]:
        files.update(_prune(wish, tools))
    return Runner(
        name,
        str(server),
        secret,
        wish["image"],
        str(platform),
        environment,
        builds,
        files,
        mark,
        started,
        (tools.docker, "run", "--rm", "--network=none", *(word for word in run if not word.startswith(REAL))),
        bool(wish["prune"]),
        bool(wish["network"]),
    )


# What of `docker run` gives the runner Docker, a network, a port and a time to stop: a rehearsal has none of these.
REAL = ("--volume=/var/run/docker.sock:", "--network=", "--publish=", "--stop-timeout=", "--log-", "--rm")


def paths() -> list[str]:
    """Return every file that a runner may have on its host."""
    units = [f"{UNITS}/{name}" for name in (UNIT, PRUNE, TIMER)]
    return [ENVIRONMENT, BUILDS, RUN, PRUNER, *units]


def bridges(wish: Mapping[str, Any]) -> list[str]:
    """Return the ranges that the builds' own Docker daemons take on this runner."""
    found = [(wish["plugin_defaults"] or {}).get("bip"), (wish["build_environment"] or {}).get("PLUGIN_BIP")]
    return [str(bip) for bip in found if bip]


def hidden(bip: str, networks: Mapping[str, str], registries: Mapping[str, Iterable[str]]) -> None:
    """Raise a Problem where the bridge range of builds' daemons hides what they have to reach.

    `networks` are ranges by what they are of ("the host's route to eth0"), `registries` the addresses of each by name.
    """
    try:
        own = ipaddress.ip_interface(bip)
        if "/" not in bip or own.network.num_addresses < 4 or own.ip == own.network.network_address:
            raise ValueError
    except ValueError:
        todo = "write the bridge's own address with the length of its network: 10.231.0.1/24"
        raise Problem(f"bip {bip!r} is no address of a bridge", todo) from None
    todo = "choose a range that nothing here uses, such as 10.231.0.1/24"
    for name, addresses in registries.items():
        for address in addresses:
            if ipaddress.ip_address(address) in own.network:
                what = f"bip {bip} hides {name} ({address}): the plugin's daemon would look for it on its own bridge"
                raise Problem(what, todo)
    for what, network in networks.items():
        other = ipaddress.ip_network(network, strict=False)
        if other.version == own.version and other.prefixlen and own.network.overlaps(other):
            raise Problem(f"bip {bip} overlaps {network}, {what}: builds would not reach what is there", todo)


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


def variables(text: str) -> dict[str, str]:
    """Return the variables of a file that we wrote, as they stand there."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value for key, _unused, value in pairs}


def size(option: str, value: object) -> int:
    """Return the bytes that "2g" or 2147483648 means."""
    match = re.fullmatch(r"(\d+)([kmgt]?)(?:i?b)?", str(value).strip().lower())
    if not match:
        raise Problem(f"{option} {value!r} is no size", "write it as 512m, 2g, or a number of bytes")
    return int(match.group(1)) * SIZES[match.group(2)]


def _secret(text: str | None) -> str:
    secret = (text or "").strip()
    todo = "give the server's own DRONE_RPC_SECRET, from a vault"
    if not secret:
        raise Problem("rpc_secret is empty, and without it the server hands out no build", todo)
    if any(character.isspace() for character in secret):
        raise Problem("rpc_secret has a space or a new line within", todo)
    if secret.startswith("$ANSIBLE_VAULT"):
        raise Problem("rpc_secret is still encrypted", "decrypt it with --ask-vault-pass or --vault-password-file")
    return secret


def _environment(wish: Mapping[str, Any], server: Server, secret: str, name: str, platform: Platform) -> dict[str, str]:
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
            raise Problem(f"limit_events: {event!r} is no event of Drone", near(str(event), EVENTS))
    for image in wish["privileged_images"] or ():
        Reference.parse(str(image))
    for key, value in (wish["env"] or {}).items():
        _check_variable(str(key))
        environment[str(key)] = _written(f"env: {key}", VARIABLES.get(str(key), "str"), value)
    lines = [key for key, value in environment.items() if re.search(r"[\n\r\0]", value)]
    if lines:
        raise Problem(
            f"{', '.join(lines)}: a value of several lines, which Docker's env files cannot hold", "shorten it"
        )
    return {key: value for key, value in environment.items() if value}


def _check_variable(key: str) -> None:
    if not VARIABLE.fullmatch(key):
        raise Problem(f"env: {key!r} is no name of a variable", "use letters, digits and _")
    if key in FOLLOW:
        raise Problem(f"env: {key} is set by an option", f"use {FOLLOW[key]}")
    if key.startswith("DRONE_") and key not in VARIABLES:
        raise Problem(f"env: the runner knows no {key}, and would ignore it", near(key, VARIABLES))


def _written(option: str, kind: str, value: Any) -> str:
    """Return a value as the runner reads it; raise a Problem for what it would refuse, or read as something else."""
    if kind == "map":
        if not isinstance(value, Mapping):
            raise Problem(f"{option} is no dictionary", "write it as {key: value}")
        for key, item in value.items():
            _check_pair(option, str(key), str(item))
        return ",".join(f"{key}:{item}" for key, item in sorted(value.items()))
    if kind == "list":
        entries = [str(entry).strip() for entry in (value if isinstance(value, (list, tuple)) else [value])]
        for entry in entries:
            if "," in entry or not entry:
                raise Problem(f"{option}: {entry!r} is no entry of a list", "give each entry by itself, without commas")
        return ",".join(entries)
    if kind == "bool":
        if isinstance(value, bool):
            return str(value).lower()
        if str(value).lower() not in ("true", "false", "1", "0", "t", "f"):
            raise Problem(f"{option}: {value!r} is neither true nor false", "the runner would not start with it")
        return str(value).lower()
    if kind == "int" and not re.fullmatch(r"-?\d+", str(value)):
        raise Problem(f"{option}: {value!r} is no number", "the runner would not start with it")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_pair(option: str, key: str, item: str) -> None:
    # Never with the value: it may be a secret.
    said = f"{key}:{item}" if option == "volumes" else key
    if not re.search("[:,]", key + item):
        if not key or not item:
            raise Problem(f"{option}: {said!r} lacks its half", "write it as {key: value}")
        return
    todo = "leave out the colons and commas, or give it in build_environment, which has no such limits"
    if option == "volumes":
        todo = "write {HOST PATH: CONTAINER PATH}; a runner's volumes are never read-only, mount it in the pipeline instead"
    if option == "secrets":
        todo = "keep it as a secret of the repository or organisation (module drone_secret)"
    raise Problem(
        f"{option}: {said!r} has more colons or commas than a map of the runner takes: it would not start", todo
    )


def _builds(wish: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of every build: the plugins' settings by their names, and what is given as it is."""
    builds = {}
    for key, value in (wish["plugin_defaults"] or {}).items():
        setting = str(key).upper()
        if not VARIABLE.fullmatch(setting):
            raise Problem(f"plugin_defaults: {key!r} is no setting of a plugin", "use letters, digits and _")
        # The Docker plugins read both names; other plugins have a `mirror` of their own.
        name = "DOCKER_PLUGIN_MIRROR" if setting == "MIRROR" else f"PLUGIN_{setting}"
        builds[name] = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _plain(value)
    for key, value in (wish["build_environment"] or {}).items():
        if not VARIABLE.fullmatch(str(key)):
            raise Problem(f"build_environment: {key!r} is no name of a variable", "use letters, digits and _")
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


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _limits(wish: Mapping[str, Any]) -> None:
    if not 0 < wish["drain_timeout"] <= wish["stop_timeout"]:
        raise Problem(
            f"drain_timeout is {wish['drain_timeout']} s and stop_timeout {wish['stop_timeout']} s",
            "wait for builds at least a second, and no longer than systemd does (stop_timeout)",
        )
    if wish["on_drain_timeout"] == "cancel" and not wish["drone_token"]:
        raise Problem("on_drain_timeout=cancel cancels through the server's API", "give an administrator's drone_token")
    bind = wish["ui_bind"]
    if bind and not re.fullmatch(r"(?:(?:[\d.]+|\[[\da-fA-F:]+\]):)?\d{1,5}", bind):
        raise Problem(f"ui_bind {bind!r} is no address of this host", "write ADDRESS:PORT, such as 127.0.0.1:3000")
    if bool(wish["ui_username"]) != bool(wish["ui_password"]):
        raise Problem("the dashboard has one of ui_username and ui_password", "give both or none")
    if wish["ui_password"] and not bind:
        raise Problem(
            "the dashboard has a password and no address", "say with ui_bind where it listens: 127.0.0.1:3000"
        )
    if wish["prune"] and wish["prune_age"] * 3600 < wish["stop_timeout"]:
        raise Problem(
            f"prune_age {wish['prune_age']} h is less than stop_timeout {wish['stop_timeout']} s: a build may run longer",
            "raise prune_age",
        )


def _command(wish: Mapping[str, Any], tools: Tools, builds: Mapping[str, str]) -> list[str]:
    """Return the arguments of `docker run`, without the name and the label."""
    mounts = {"/var/run/docker.sock": "/var/run/docker.sock"}
    if builds:
        mounts[BUILDS] = f"{BUILDS}:ro"
    if wish["docker_config"]:
        mounts[wish["docker_config"]] = f"{CONFIG}/docker.json:ro"
    if wish["ca_path"]:
        mounts[wish["ca_path"]] = f"{CONFIG}/ca.pem:ro"
    return [
        "--rm",
        "--pull=never",
        # For whoever types `docker stop`: its 10 s would kill the runner, and leave its builds running for ever.
        f"--stop-timeout={wish['stop_timeout']}",
        # The journal has the log; what `docker logs` shows is bounded.
        "--log-driver=local",
        "--log-opt=max-size=10m",
        f"--env-file={ENVIRONMENT}",
        *(f"--volume={source}:{target}" for source, target in mounts.items()),
        *([f"--publish={wish['ui_bind']}:3000"] if wish["ui_bind"] else []),
        *([f"--network={wish['network']}"] if wish["network"] else []),
        wish["image"],
    ]


def _prune(wish: Mapping[str, Any], tools: Tools) -> dict[str, File]:
    service = PRUNE_SERVICE.format(
        python=tools.python,
        program=PRUNER,
        container=CONTAINER,
        age=wish["prune_age"] * 3600,
        size=size("prune_size", wish["prune_size"]),
        builders=" --builders" if wish["prune_builders"] else "",
    )
    return {
        PRUNER: File(tools.pruner, 0o755),
        f"{UNITS}/{PRUNE}": File(HEAD + service),
        f"{UNITS}/{TIMER}": File(HEAD + PRUNE_TIMER.format(schedule=wish["prune_schedule"])),
    }
