# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a runner host is made of, and what it lacks: kernel, rights, capabilities, disk, distribution, packages."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from .._problem import Problem
from . import engine as _engine
from . import packages as _packages

if TYPE_CHECKING:
    from collections.abc import Iterable

# Capability bits by number (linux/capability.h), as far as the first kernel that the collection supports has them.
CAPABILITIES = re.findall(
    r"\w+",
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE",
)
# Flag F of binfmt_misc, without which emulation does not reach containers (kernel: commit 948b701a607f).
KERNEL_WITH_F = (4, 8)
# Until 23.0 the engine gave a privileged container every capability the kernel has, its own or not (moby 42933).
ENGINE_WITH_BOUNDED_PRIVILEGES = (23, 0)
# The first engine whose containerd image store builds for several platforms.
ENGINE_WITH_STORE = (24, 0)
# The engines that distributions bring, as far as they cannot do something that we ask for.
OLD_ENGINES = {("debian", "12"): "20.10"}
WITHOUT_BUILDX = {("debian", "12")}


@dataclass(frozen=True)
class Host:
    """A host as read at one moment."""

    distribution: Mapping[str, str]  # os-release: id, version, codename, name, like
    kernel: str
    architecture: str  # as `uname -m` says
    python: str
    uid: int
    systemd: bool
    binfmt_misc: bool  # the kernel has it, or a module of it
    missing_capabilities: tuple[str, ...]  # of process 1, which starts the engine
    disk_path: str
    disk_free: int  # bytes
    packages: Mapping[str, str]  # version, or "" where it is not installed
    engine_source: str  # where the installed engine came from: distribution, docker, moby, or "" where there is none
    engine_foreign: str  # what stands where an engine belongs, and is none that the roles can take
    unit: _engine.Unit
    engine: _engine.Engine | None
    images: tuple[str, ...] = ()  # what the containerd image store would hide, by name

    @property
    def release(self) -> tuple[str, str]:
        return _packages.release(self.distribution)


def read(
    *,
    packages: Iterable[str] = (),
    disk_path: str = "/var/lib/docker",
    root: str = "/",
    silent: list[Problem] | None = None,
) -> Host:
    """Return this host; `root` is where another one's files lie in tests.

    `silent` gets the Problem of an engine that does not answer, which else is raised.
    """
    uname = os.uname()
    state = _engine.unit()
    path = os.path.join(root, disk_path.lstrip("/"))
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    space = os.statvfs(path)
    status = _text(root, "var/lib/dpkg/status")
    engine: _engine.Engine | None = None
    names: tuple[str, ...] = ()
    try:
        if os.geteuid() == 0:
            engine = _engine.read(state)
            names = _engine.image_names() if engine and engine.images and not engine.containerd_store else ()
    except Problem as problem:
        if silent is None:
            raise
        silent.append(problem)
    return Host(
        distribution=distribution(_text(root, "etc/os-release") or _text(root, "usr/lib/os-release")),
        kernel=uname.release,
        architecture=uname.machine,
        python=".".join(map(str, sys.version_info[:3])),
        uid=os.geteuid(),
        systemd=os.path.isdir(os.path.join(root, "run/systemd/system")),
        binfmt_misc=_has_binfmt_misc(root, uname.release),
        missing_capabilities=missing_capabilities(
            _text(root, "proc/1/status"), _text(root, "proc/sys/kernel/cap_last_cap")
        ),
        disk_path=path,
        disk_free=space.f_bavail * space.f_frsize,
        packages=_packages.installed(status, packages),
        engine_source=_packages.source(status),
        engine_foreign=_packages.foreign(status, os.path.lexists(os.path.join(root, "snap/docker/current"))),
        unit=state,
        engine=engine,
        images=names,
    )


def distribution(os_release: str) -> dict[str, str]:
    """Return the id, version, codename and name that a text of os-release tells."""
    found = dict(re.findall(r"^([A-Z_]+)=[\"']?(.*?)[\"']?$", os_release, re.MULTILINE))
    return {
        "id": found.get("ID", ""),
        "version": found.get("VERSION_ID", ""),
        "codename": found.get("VERSION_CODENAME", ""),
        "name": found.get("PRETTY_NAME", "an unknown distribution"),
        "like": found.get("ID_LIKE", ""),
    }


def missing_capabilities(status: str, last: str) -> tuple[str, ...]:
    """Return the capabilities that a process's bounding set (in /proc/PID/status) lacks of those the kernel has."""
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)", status, re.MULTILINE)
    if not match:
        return ()
    bounding = int(match.group(1), 16)
    count = int(last) + 1 if last.strip().isdigit() else len(CAPABILITIES)
    names = [*CAPABILITIES, *(str(number) for number in range(len(CAPABILITIES), count))]
    return tuple(f"CAP_{names[number]}" for number in range(count) if not bounding >> number & 1)


def chosen(host: Host, wanted: str) -> str:
    """Return whose packages a host's engine is of, or will be; `auto` takes what is installed."""
    return (host.engine_source or "distribution") if wanted == "auto" else wanted


def packages_of(host: Host, source: str) -> _packages.Packages | None:
    """Return the packages of an engine, or None where the distribution is not known."""
    if source in _packages.MAKERS:
        return _packages.MAKERS[source]
    return _packages.RELEASES.get(host.release)


def problems(host: Host, *, min_free_gib: float, engine_source: str) -> dict[str, str]:
    """Return what the host lacks, each by the name of the check that found it: what, where, what to do."""
    found: dict[str, Problem] = {}
    known = ", ".join(f"{name.capitalize()} {version}" for name, version in sorted(_packages.RELEASES))
    source = chosen(host, engine_source)
    packages = packages_of(host, source)
    if host.release not in _packages.RELEASES:
        found["distribution"] = _unknown(host.distribution, known)
    if host.uid != 0:
        found["rights"] = Problem(f"the task runs as user id {host.uid}, not as root", "connect as root or set become")
    if not host.systemd:
        found["systemd"] = Problem(
            "systemd does not run this host (/run/systemd/system is missing)", "use a host that systemd has booted"
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", host.kernel)[:2])
    if numbers < KERNEL_WITH_F:
        found["kernel"] = Problem(
            f"kernel {host.kernel} has no flag F of binfmt_misc, so that emulation does not reach containers",
            "upgrade the kernel to 4.8 or later",
        )
    elif not host.binfmt_misc:
        found["kernel"] = Problem(
            f"kernel {host.kernel} has no binfmt_misc, nor a module of it in /lib/modules",
            "load the module on the machine that owns the kernel, or install the distribution's full kernel package",
        )
    if host.disk_free < min_free_gib * 2**30:
        found["disk"] = Problem(
            f"{host.disk_free / 2**30:.1f} GiB are free at {host.disk_path}, less than {min_free_gib:g}",
            "free some space, mount a bigger disk there, or lower the limit",
        )
    if host.engine_foreign:
        found["engine"] = Problem(
            f"the host has {host.engine_foreign}", "remove it, and run this again: the role then installs an engine"
        )
    elif host.engine_source and host.engine_source != source:
        found["engine"] = Problem(
            f"{_packages.WORDS[host.engine_source]} is installed, and docker_engine_source={source} wants another",
            "leave docker_engine_source at auto to keep it, or remove it first: no task replaces an engine",
        )
    if packages and not packages.buildx:
        found["buildx"] = Problem(
            f"{host.distribution['name']} has no package of buildx",
            "take Docker's own packages (docker_engine_source=docker), bring the plugin (docker_engine_buildx=url or path), or do "
            "without (docker_engine_buildx=none)",
        )
    if packages and packages.version:
        found["containerd_store"] = Problem(
            f"{host.distribution['name']} brings Docker {packages.version}, which has no containerd image store and so "
            "cannot build for several platforms by itself",
            "take Docker's own packages (docker_engine_source=docker), or leave the store to the engine "
            "(docker_engine_containerd_store=auto) and give builder_builders one with the driver docker-container or remote",
        )
    if host.engine and not host.engine.containerd_store and (host.engine.images or host.engine.containers):
        found["image_store"] = _hidden(host.engine, host.images)
    privileged = _privileged(host, packages.version if packages else "")
    if privileged:
        found["privileged"] = privileged
    return {check: str(problem) for check, problem in found.items()}


def _unknown(distribution: Mapping[str, str], known: str) -> Problem:
    """Return why the roles cannot install packages on a distribution."""
    name = distribution["name"]
    hint = f"use one of {known}, or install Docker and QEMU yourself and use the modules alone"
    family = {distribution["id"], *distribution.get("like", "").split()}
    if family & {"debian", "ubuntu"}:
        return Problem(f"{name} is not a release that the roles know the packages of", hint)
    return Problem(f"{name} is not Debian or Ubuntu, and the roles install packages with apt", hint)


def _hidden(engine: _engine.Engine, images: tuple[str, ...]) -> Problem:
    """Return why an engine that holds something cannot build for several platforms by itself, and both ways out."""
    shown = ", ".join(images[:5]) + (f" and {len(images) - 5} more" if len(images) > 5 else "")
    held = f"{engine.images} images" + (f" ({shown})" if shown else "") + f" and {engine.containers} containers"
    if _engine.version_tuple(engine.version) < ENGINE_WITH_STORE:
        return Problem(
            f"this engine (Docker {engine.version}) has no containerd image store, without which the builder driver docker builds "
            "for one platform only",
            "use Docker 24.0 or later, or give builder_builders one with the driver docker-container",
        )
    return Problem(
        f"this engine holds {held} and has no containerd image store, without which the builder driver docker builds for one "
        "platform only; docker_engine_containerd_store=auto does not turn the store on, since it would hide them",
        "set docker_engine_containerd_store=true where they may be hidden, or give builder_builders one with the driver docker-container",
    )


def as_result(host: Host, engine_source: str = "auto") -> dict[str, Any]:
    """Return the host as the module's result tells it."""
    engine = host.engine
    source = chosen(host, engine_source)
    packages = packages_of(host, source) or _packages.Packages((), "")
    return {
        "distribution": dict(host.distribution),
        "kernel": host.kernel,
        "architecture": host.architecture,
        "python": host.python,
        "uid": host.uid,
        "systemd": host.systemd,
        "binfmt_misc": host.binfmt_misc,
        "missing_capabilities": list(host.missing_capabilities),
        "disk": {"path": host.disk_path, "free": host.disk_free},
        "packages": dict(host.packages),
        "engine_packages": {
            "source": source,
            "engine": list(packages.engine),
            "buildx": packages.buildx,
            "version": packages.version,
        },
        "docker": {
            "installed": host.unit.installed,
            "running": host.unit.active,
            "enabled": host.unit.enabled,
            "version": engine.version if engine else "",
            "containers": engine.containers if engine else 0,
            "containers_running": engine.running if engine else 0,
            "images": engine.images if engine else 0,
            "containerd_store": engine.containerd_store if engine else False,
            "data_root": engine.data_root if engine else "",
        },
    }


def _privileged(host: Host, to_come: str) -> Problem | None:
    """Return why this host's engine cannot start privileged containers, or None where it can."""
    if not host.missing_capabilities:
        return None
    version = host.engine.version if host.engine else to_come
    if not version or _engine.version_tuple(version) >= ENGINE_WITH_BOUNDED_PRIVILEGES:
        return None
    return Problem(
        f"privileged containers are impossible: process 1 lacks {', '.join(host.missing_capabilities)}, and Docker "
        f"{version} wants to give them every capability",
        "use Docker 23.0 or later (Docker's own packages, or Debian 13), the builder driver remote, or a machine that has them",
    )


def _has_binfmt_misc(root: str, release: str) -> bool:
    """Return whether the kernel has binfmt_misc, or can load it."""
    if "binfmt_misc" in _text(root, "proc/filesystems"):
        return True
    modules = os.path.join(root, "lib/modules", release)
    return any("/binfmt_misc.ko" in _text(modules, name) for name in ("modules.dep", "modules.builtin"))


def _text(root: str, path: str) -> str:
    """Return a file's text, or "" where it cannot be read."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
