# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner as it is declared: which files make it, what they say, and what is refused. Without I/O."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from .._drone.server import Server
from .._files import File
from .._image.reference import Reference
from .._platform import Platform
from .._problem import Problem
from .._values import check_values
from .variables import builds_of, environment_of, quoted, size

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
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
# A runner as a person declares it, as an argument spec: for the module, and for the checks that need no host.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "drained", "absent"], "default": "present"},
    "drone_url": {"type": "str"},
    "rpc_secret": {"type": "str", "no_log": True},
    "drone_token": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
    "connections": {"type": "int", "default": 4},
    "image": {"type": "str", "default": "drone/drone-runner-docker:1.8.4"},
    "name": {"type": "str"},
    "capacity": {"type": "int", "default": 2},
    "max_procs": {"type": "int", "default": 0},
    "labels": {"type": "dict", "default": {}},
    "platform": {"type": "str"},
    "privileged_images": {"type": "list", "elements": "str", "default": []},
    "volumes": {"type": "dict", "default": {}},
    "devices": {"type": "list", "elements": "str", "default": []},
    "networks": {"type": "list", "elements": "str", "default": []},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "clone_image": {"type": "str"},
    "limit_repos": {"type": "list", "elements": "str", "default": []},
    "limit_events": {"type": "list", "elements": "str", "default": []},
    "limit_trusted": {"type": "bool", "default": False},
    "memory": {"type": "str"},
    "memory_swap": {"type": "str"},
    "cpu_quota": {"type": "int"},
    "cpu_period": {"type": "int"},
    "cpu_shares": {"type": "int"},
    "cpu_set": {"type": "list", "elements": "str", "default": []},
    "shm_size": {"type": "str"},
    "docker_config": {"type": "path"},
    "ui_bind": {"type": "str"},
    "ui_username": {"type": "str"},
    "ui_password": {"type": "str", "no_log": True},
    "env": {"type": "dict", "default": {}},
    "network": {"type": "str"},
    "plugin_defaults": {"type": "dict", "default": {}},
    "build_environment": {"type": "dict", "default": {}},
    "registries": {"type": "list", "elements": "str", "default": []},
    "stop_timeout": {"type": "int", "default": 7200},
    "drain_timeout": {"type": "int", "default": 3600},
    "on_drain_timeout": {"type": "str", "choices": ["fail", "cancel", "kill"], "default": "fail"},
    "ready_timeout": {"type": "int", "default": 60},
    "prune": {"type": "bool", "default": True},
    "prune_schedule": {"type": "str", "default": "hourly"},
    "prune_age": {"type": "int", "default": 24},
    "prune_size": {"type": "str", "default": "10g"},
    "prune_builders": {"type": "bool", "default": True},
}

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
ExecStart={python} -I {program} --container {container} --image {image} --age {age} --size {size}{builders}
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


def _of_option(option: str, parse: Callable[[str], Any], text: str) -> Any:
    """Return an option's value as it is read; a Problem names the option."""
    try:
        return parse(text)
    except Problem as problem:
        raise Problem(f"{option}: {problem.what}", problem.hint, **problem.facts) from problem


def declare(wish: Mapping[str, Any], tools: Tools, machine: Platform) -> Runner:
    """Return the runner that is declared on a host; raise a Problem for what cannot be, before anything is changed."""
    check_values(ARGUMENTS, wish)
    server = Server.parse(wish["drone_url"] or "")
    secret = _secret(wish["rpc_secret"])
    name = (wish["name"] or "").strip()
    if not NAME.fullmatch(name):
        raise Problem(
            f"name {name!r} is not a valid name for a runner",
            "use letters, digits, ., _ and -, such as the host's name",
        )
    _of_option("image", Reference.parse, wish["image"])
    platform = _of_option("platform", Platform.parse, wish["platform"]) if wish["platform"] else machine
    environment = environment_of(wish, server, secret, name, platform)
    builds = builds_of(wish)
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


def bips(wish: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the bridges that the builds' own Docker daemons make on this runner."""
    found = [(wish["plugin_defaults"] or {}).get("bip"), (wish["build_environment"] or {}).get("PLUGIN_BIP")]
    return [str(bip) for bip in found if bip]


def _secret(text: str | None) -> str:
    secret = (text or "").strip()
    hint = "give the server's own DRONE_RPC_SECRET, from a vault"
    if not secret:
        raise Problem("rpc_secret is empty, and without it the server hands out no build", hint)
    if any(character.isspace() for character in secret):
        raise Problem("rpc_secret has a space or a new line within", hint)
    if secret.startswith("$ANSIBLE_VAULT"):
        raise Problem("rpc_secret is still encrypted", "decrypt it with --ask-vault-pass or --vault-password-file")
    return secret


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
        raise Problem(
            f"ui_bind {bind!r} is not a valid address of this host", "write ADDRESS:PORT, such as 127.0.0.1:3000"
        )
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
        image=wish["image"],
        age=wish["prune_age"] * 3600,
        size=size("prune_size", wish["prune_size"]),
        builders=" --builders" if wish["prune_builders"] else "",
    )
    return {
        PRUNER: File(tools.pruner, 0o755),
        f"{UNITS}/{PRUNE}": File(HEAD + service),
        f"{UNITS}/{TIMER}": File(HEAD + PRUNE_TIMER.format(schedule=wish["prune_schedule"])),
    }
