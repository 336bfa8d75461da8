# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""BuildKit daemons of a host as they are declared: which files make one, what they say, and what is refused. Without I/O.

One daemon is one trust domain: BuildKit knows no users, so whoever may connect shares its cache, its cache mounts, its
history and `prune`. So nothing is shared between two daemons: directory, socket, certificates, containerd's namespace.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from .. import _toml
from .._files import File
from .._problem import Problem
from .._values import check_values

CONFIG = "/etc/buildkit"
STATE = "/var/lib/buildkit"
RUNTIME = "/run/buildkit"
UNITS = "/etc/systemd/system"
HEAD = "# Managed by multiarch.drone.buildkitd_instances\n"
# A running daemon carries in its environment what it was started with: only so can a later run tell whether it is what
# is declared, even where a run ended between the writing and the restart.
MARK = "MULTIARCH_DECLARED"
NAME = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
)  # with "buildkit-" before it, the name of a user: 32 characters
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Settings that follow from an option, which says what they may be: setting => option.
OURS = {
    ("root",): "root",
    ("insecure-entitlements",): "insecure_entitlements",
    ("grpc",): "port, address, group and tls",
    ("worker", "oci", "rootless"): "rootless",
    ("worker", "containerd"): "nothing: containerd's worker would share one namespace between all daemons",
}

# The daemons of a host as a person declares them, as an argument spec.
INSTANCE: Mapping[str, Mapping[str, Any]] = {
    "name": {"type": "str", "required": True},
    "port": {"type": "int"},
    "address": {"type": "str", "default": "0.0.0.0"},
    "group": {"type": "str"},
    "tls": {
        "type": "dict",
        "options": {
            "ca": {"type": "str"},
            "cert": {"type": "str"},
            "key": {"type": "str", "no_log": True},
            "server_name": {"type": "str", "default": "localhost"},
            "probe_cert": {"type": "str"},
            "probe_key": {"type": "str", "no_log": True},
        },
    },
    "config": {"type": "dict", "default": {}},
    "gc": {"type": "dict", "default": {}},
    "root": {"type": "path"},
    "rootless": {"type": "bool", "default": False},
    "user": {"type": "str"},
    "insecure_entitlements": {
        "type": "list",
        "elements": "str",
        "choices": ["network.host", "security.insecure", "device"],
        "default": [],
    },
    "environment": {"type": "dict", "default": {}},
}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "instances": {"type": "list", "elements": "dict", "default": [], "options": INSTANCE},
    "programs": {"type": "path", "default": "/usr/bin"},
    "versions": {"type": "path"},
    "exclusive": {"type": "bool", "default": False},
    "keep_cache": {"type": "bool", "default": True},
}


def environments(given: Mapping[str, Any]) -> list[str]:
    """Return the values of all daemons' environments, as they were given: any of them may be a secret."""
    return [
        str(value)
        for instance in given.get("instances") or ()
        for value in (instance.get("environment") or {}).values()
    ]


UNIT = """\
[Unit]
Description=BuildKit daemon {name}
Documentation=https://github.com/moby/buildkit
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
{run}
Environment=PATH={programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile={config}/environment
RuntimeDirectory=buildkit/{name}
RuntimeDirectoryMode=0755
Restart=on-failure
RestartSec=2
# A build that still runs gets this long to hear that it is over.
TimeoutStopSec=30
KillMode=mixed
OOMPolicy=continue
LimitNOFILE=1048576
TasksMax=infinity
Delegate=yes
{harden}
[Install]
WantedBy=multi-user.target
"""

# What is set here holds for build steps too. So nothing that changes what a step may do: NoNewPrivileges and RestrictSUIDSGID
# would break sudo in a Dockerfile, SystemCallArchitectures linux/386 and QEMU, MemoryDenyWriteExecute every JIT,
# ProtectControlGroups and ProtectKernelTunables runc itself.
ROOTFUL = """\
StateDirectory=buildkit/{name}
StateDirectoryMode=0700
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYSLOG CAP_WAKE_ALARM CAP_MAC_ADMIN
"""
# newuidmap is a set-uid program and needs what root may do, in a user namespace of its own: only the outside is hardened.
ROOTLESS = """\
NotifyAccess=all
User={user}
Group={group}
Environment=HOME={root} XDG_RUNTIME_DIR=%t/buildkit/{name}
ProtectSystem=full
ProtectHome=yes
"""


@dataclass(frozen=True)
class Programs:
    """Where buildkitd lies, and which build of it."""

    directory: str
    build: str  # changes with the program: its size and time

    @property
    def buildkitd(self) -> str:
        """The daemon's program."""
        return f"{self.directory}/buildkitd"

    @property
    def buildctl(self) -> str:
        """The client's program."""
        return f"{self.directory}/buildctl"


@dataclass(frozen=True)
class Daemon:
    """One declared daemon: what makes it."""

    name: str
    root: str
    user: str  # "" unless it is rootless
    port: int  # 0: none
    server_name: str
    files: Mapping[str, File]
    probe: Mapping[str, str]  # the certificate (ca, cert, key) with which its port is tried; {} for none

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories of its configuration, which a rootless daemon has to read, and others must not write into."""
        return (CONFIG, f"{CONFIG}/{self.name}")

    @property
    def unit(self) -> str:
        """Its systemd unit."""
        return unit_of(self.name)

    @property
    def socket(self) -> str:
        """The address of its socket, for buildctl and buildx on this host."""
        return f"unix://{RUNTIME}/{self.name}/buildkitd.sock"

    @property
    def mark(self) -> str:
        """What its process carries where it runs what is declared."""
        text = self.files[f"{CONFIG}/{self.name}/environment"].text
        return text.partition(f"{MARK}=")[2].partition("\n")[0]


def own_user(name: str) -> str:
    """Return the user of a rootless daemon that has none declared."""
    return f"buildkit-{name}"


def unit_of(name: str) -> str:
    """Return the name of a daemon's systemd unit."""
    return f"buildkitd@{name}.service"


def declare(instances: Iterable[Mapping[str, Any]], programs: Programs, *, may_lack: bool = False) -> list[Daemon]:
    """Return the daemons that are declared; raise a Problem for what cannot be, before anything is changed.

    In check mode certificates may be empty (`may_lack`): those that the run would make are not there yet.
    """
    daemons = []
    _check_path("programs", programs.directory)
    for instance in instances:
        wish = _normalised(instance)
        _check(wish, may_lack)
        daemons.append(_daemon(wish, programs))
    uses: dict[str, list[object]] = {
        "name": [daemon.name for daemon in daemons],
        "port": [daemon.port for daemon in daemons if daemon.port],
        "root": [daemon.root for daemon in daemons],
    }
    for what, values in uses.items():
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise Problem(f"two instances have the {what} {', '.join(twice)}", "give each its own")
    return daemons


def _normalised(instance: Mapping[str, Any]) -> dict[str, Any]:
    """Return an instance with every option, and what follows where one is left out."""
    check_values(INSTANCE, instance, "instances.")
    name, rootless = instance["name"], bool(instance.get("rootless"))
    user = (instance.get("user") or own_user(name)) if rootless else ""
    return {
        **instance,
        "port": instance.get("port") or 0,
        "address": instance.get("address") or "0.0.0.0",
        "tls": instance.get("tls") or {},
        "config": instance.get("config") or {},
        "gc": instance.get("gc") or {},
        "root": instance.get("root") or f"{STATE}/{name}",
        "rootless": rootless,
        "user": user,
        "insecure_entitlements": list(instance.get("insecure_entitlements") or ()),
        "environment": instance.get("environment") or {},
    }


def _daemon(wish: Mapping[str, Any], programs: Programs) -> Daemon:
    name, user, tls = wish["name"], wish["user"], wish["tls"]
    config = f"{CONFIG}/{name}"
    files = {
        f"{config}/buildkitd.toml": File(HEAD + _toml.dump(settings(wish))),
        f"{UNITS}/{unit_of(name)}": File(HEAD + _unit(wish, programs)),
    }
    if wish["port"]:
        files[f"{config}/ca.pem"] = File(_pem(tls.get("ca")))
        files[f"{config}/cert.pem"] = File(_pem(tls.get("cert")))
        files[f"{config}/key.pem"] = File(_pem(tls.get("key")), 0o600, user or "root", secret=True)
    environment = "".join(f'{key}="{value}"\n' for key, value in sorted(wish["environment"].items()))
    seen = "\0".join([programs.build, environment, *(f"{path}\0{file.text}" for path, file in sorted(files.items()))])
    mark = f"{MARK}={hashlib.sha256(seen.encode()).hexdigest()[:16]}\n"
    files[f"{config}/environment"] = File(HEAD + mark + environment, 0o600, secret=True)
    probe = {
        part: _pem(tls.get(option)) for part, option in (("ca", "ca"), ("cert", "probe_cert"), ("key", "probe_key"))
    }
    return Daemon(
        name,
        wish["root"],
        user,
        wish["port"],
        tls.get("server_name") or "localhost",
        files,
        probe if all(probe.values()) else {},
    )


def settings(wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole buildkitd.toml of an instance: what was asked for, and what follows from its options."""
    name = wish["name"]
    address = [f"unix://{RUNTIME}/{name}/buildkitd.sock"]
    grpc: dict[str, Any] = {"address": address}
    if wish["port"]:
        host = wish["address"]
        address.append(f"tcp://[{host}]:{wish['port']}" if ":" in host else f"tcp://{host}:{wish['port']}")
        grpc["tls"] = {part: f"{CONFIG}/{name}/{part}.pem" for part in ("cert", "key", "ca")}
    if not wish["rootless"]:
        grpc["uid"] = 0
        grpc["gid"] = wish.get("gid") or 0
    result: dict[str, Any] = _copy(wish["config"])
    result.update({"root": wish["root"], "grpc": grpc})
    if wish["insecure_entitlements"]:
        result["insecure-entitlements"] = wish["insecure_entitlements"]
    workers = result.setdefault("worker", {})
    oci = {"enabled": True, "gc": True, **wish["gc"], **workers.get("oci", {})}
    if wish["rootless"]:
        oci["rootless"] = True
    # One socket for the traces of all daemons is BuildKit's default, and it is mounted into build steps.
    result.setdefault("otel", {}).setdefault("socketPath", f"{RUNTIME}/{name}/otel-grpc.sock")
    # Where containerd runs (every Docker host), buildkitd would offer it as a second worker, whose namespace "buildkit" is
    # one for all daemons of the host.
    result["worker"] = {**workers, "oci": oci, "containerd": {"enabled": False}}
    return result


def _check(wish: Mapping[str, Any], may_lack: bool) -> None:
    """Raise a Problem for what cannot be, with the name of the instance."""
    if not NAME.fullmatch(wish["name"]):
        raise Problem(
            f"{wish['name']!r} is not a valid name for an instance",
            "use up to 22 of a-z, 0-9 and -, with no - at either end",
        )
    try:
        _check_config(wish["config"])
        _check_port(wish["port"], wish["address"])
        _check_tls(wish["tls"], wish["port"], may_lack)
        _check_words(wish)
        _check_environment(wish["environment"])
    except Problem as problem:
        raise Problem(f"instance {wish['name']}: {problem.what}", problem.hint) from None


def _check_config(config: Mapping[str, Any]) -> None:
    for path, option in OURS.items():
        found: Any = config
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            raise Problem(f"config sets {'.'.join(path)}, which the module sets", f"use {option}")
    for table in ("worker", "registry", "otel"):
        if not isinstance(config.get(table, {}), Mapping):
            raise Problem(f"config.{table} is not a dictionary", f"write {table}: {{…: {{…}}}}")
        # What stands below is a table for each worker and each registry; of otel, it is the settings themselves.
        for name, value in config.get(table, {}).items() if table != "otel" else ():
            if not isinstance(value, Mapping):
                raise Problem(f"config.{table}.{name} is not a dictionary", f"write {table}: {{{name}: {{…}}}}")


def _check_port(port: int, address: str) -> None:
    if not 0 <= port <= 65535:
        raise Problem(f"{port} is not a valid port", "name one of 1 to 65535")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise Problem(
            f"address {address!r} is not an IP address", "name one of this host, or 0.0.0.0 for all"
        ) from None


def _check_tls(tls: Mapping[str, Any], port: int, may_lack: bool) -> None:
    lacks = [part for part in ("ca", "cert", "key") if not tls.get(part)]
    if port and lacks and not may_lack:
        raise Problem(
            f"a port needs certificates, and tls lacks {', '.join(lacks)}",
            "a port without them would give the machine to whoever reaches it; give them, or leave out the port",
        )
    for part in ("ca", "cert", "key", "probe_cert", "probe_key"):
        text = tls.get(part)
        if text and "-----BEGIN" not in text:
            raise Problem(f"tls.{part} holds no PEM", "give the content of the file, not its path")
    if bool(tls.get("probe_cert")) != bool(tls.get("probe_key")):
        raise Problem("tls has one of probe_cert and probe_key", "give both or none")


def _check_words(wish: Mapping[str, Any]) -> None:
    """Check what becomes a word of the unit, where spaces, quotes and % mean something."""
    _check_path("root", wish["root"])
    for option in ("user", "group"):
        name = wish.get(option) or ""
        if name and not ACCOUNT.fullmatch(name):
            raise Problem(f"{option} {name!r} is not a valid name", "use up to 32 of a-z, 0-9, _ and -")


def _check_path(option: str, path: str) -> None:
    if not re.fullmatch(r"/[\w./+@-]*", path):
        raise Problem(
            f"{option} {path!r} is not a path that systemd takes as it is",
            "write an absolute path of letters, digits and . _ - + @ /",
        )


def _check_environment(environment: Mapping[str, Any]) -> None:
    for key, value in environment.items():
        if value is None:
            raise Problem(f"the variable {key!r} has no value", 'write "" for an empty one, or leave it out')
        if not VARIABLE.fullmatch(str(key)) or key == MARK or re.search(r'["\\\r\n`$]', str(value)):
            raise Problem(
                f"the variable {key!r} cannot be written for systemd",
                "use letters, digits and _ in its name, and no quotes, backslashes, $ or lines in its value",
            )


def _unit(wish: Mapping[str, Any], programs: Programs) -> str:
    name, user = wish["name"], wish["user"]
    config = f"{CONFIG}/{name}"
    run = f"ExecStart={programs.buildkitd} --config {config}/buildkitd.toml"
    harden = ROOTFUL
    if user:
        port = (
            f"--port-driver=builtin --publish={wish['address']}:{wish['port']}:{wish['port']}/tcp "
            if wish["port"]
            else ""
        )
        run = (
            f"ExecStart=rootlesskit --net=slirp4netns --disable-host-loopback --copy-up=/etc {port}"
            f"{programs.buildkitd} --config {config}/buildkitd.toml"
        )
        harden = ROOTLESS
    return UNIT.format(
        name=name,
        run=run,
        programs=programs.directory,
        config=config,
        harden=harden.format(name=name, user=user, group=wish.get("group") or user, root=wish["root"]),
    )


def _pem(text: str | None) -> str:
    return text.strip() + "\n" if text else ""


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
