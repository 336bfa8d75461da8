# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""BuildKit daemons of a host as they are: files, units, processes, and whether they answer whom they should, and only them."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from .._docker.engine import call
from .._files import File, put, read_file, temporary_directory, uid
from .._problem import Problem
from .wish import CONFIG, HEAD, MARK, STATE, UNITS, Daemon, Programs, own_user, unit_of


@dataclass(frozen=True)
class Service:
    """What systemd and the process say of a daemon."""

    active: bool = False
    enabled: bool = False
    mark: str = ""  # what the running process was started with
    stale: bool = False  # its unit was written, and systemd has not read it since


@dataclass(frozen=True)
class World:
    """One daemon as it was found."""

    files: Mapping[str, File]
    service: Service
    workers: Any = None  # what it answered; None where it does not
    user: str = ""  # the user of a rootless daemon where the host has it
    modes: Mapping[str, int] = field(default_factory=dict)  # of its directories, as far as the host has them


@dataclass(frozen=True)
class Left:
    """What a host has of a daemon that shall not be."""

    files: tuple[str, ...] = ()
    contents: Mapping[str, File] = field(default_factory=dict)
    service: Service = Service()
    cache: str = ""  # its directory
    user: str = ""  # that was made for it


def programs(directory: str, *, may_lack: bool) -> Programs:
    """Return the programs in a directory; in check mode they may still have to be installed."""
    found = Programs(directory, "")
    try:
        stat = os.stat(found.buildkitd)
        os.stat(found.buildctl)
    except OSError as error:
        if may_lack:
            return found
        raise Problem(
            f"{error.filename} cannot be used: {error.strerror}",
            "install buildkitd and buildctl first, or name their directory",
        ) from error
    return Programs(directory, f"{stat.st_size} {stat.st_mtime_ns}")


def group_id(instance: Mapping[str, Any]) -> int:
    """Return the number of the group that the socket of an instance is for."""
    import grp

    group = instance.get("group") or "root"
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Problem(f"instance {instance['name']}: there is no group {group!r}", "make it first") from None


def declared_before() -> list[str]:
    """Return the names of the daemons that this module made on this host, by their units."""
    names = []
    for path in sorted(glob.glob(f"{UNITS}/buildkitd@?*.service")):
        file = read_file(path)
        if file and file.text.startswith(HEAD):
            names.append(os.path.basename(path)[len("buildkitd@") : -len(".service")])
    return names


def read(daemon: Daemon, tools: Programs) -> World:
    """Return a declared daemon as it is now."""
    files = {path: read_file(path) for path in daemon.files}
    now = service(daemon.unit)
    answer = None
    if now.active:
        try:
            answer = workers(daemon, tools)
        except Problem:
            answer = None
    user = daemon.user if daemon.user and uid(daemon.user) else ""
    return World({path: file for path, file in files.items() if file}, now, answer, user, _modes(daemon.directories))


def _modes(paths: Iterable[str]) -> dict[str, int]:
    modes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            modes[path] = os.stat(path).st_mode & 0o7777
    return modes


def read_left(name: str) -> Left:
    """Return what there is of a daemon that shall not be."""
    cache = f"{STATE}/{name}"
    paths = sorted(filter(os.path.lexists, [*glob.glob(f"{CONFIG}/{name}/*"), f"{UNITS}/{unit_of(name)}"]))
    return Left(
        tuple(paths),
        {path: file for path in paths for file in [read_file(path)] if file},
        service(unit_of(name)),
        cache if os.path.isdir(cache) else "",
        own_user(name) if uid(own_user(name)) else "",
    )


def service(unit: str) -> Service:
    """Return what systemd and the running process say of a unit."""
    shown = call("systemctl", "show", unit, "--property=ActiveState,UnitFileState,MainPID,NeedDaemonReload")
    said = dict(line.split("=", 1) for line in shown.text.splitlines() if "=" in line)
    return Service(
        active=said.get("ActiveState") in ("active", "reloading"),
        enabled=said.get("UnitFileState") == "enabled",
        mark=_mark(said.get("MainPID") or "0"),
        stale=said.get("NeedDaemonReload") == "yes",
    )


def _mark(pid: str) -> str:
    """Return what a process was started with."""
    try:
        with open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as file:
            return dict(pair.partition("=")[::2] for pair in file.read().split("\0")).get(MARK, "")
    except OSError:
        return ""


def workers(daemon: Daemon, tools: Programs) -> Any:
    """Return what a daemon says of its workers; over its port with the probe's certificate where there is one."""
    if not (daemon.port and daemon.probe):
        return _debug_workers(tools, daemon.socket)
    with temporary_directory() as directory:
        for part, text in daemon.probe.items():
            put(f"{directory}/{part}.pem", File(text, 0o600))
        tls = [f"--tls{part}={directory}/{part}.pem" for part in daemon.probe]
        return _debug_workers(
            tools,
            _address(daemon),
            *[flag.replace("--tlsca=", "--tlscacert=") for flag in tls],
            f"--tlsservername={daemon.server_name}",
        )


def refuses_strangers(daemon: Daemon, tools: Programs) -> None:
    """Raise a Problem where the port of a daemon serves a client that shows no certificate."""
    said = call(
        tools.buildctl,
        f"--addr={_address(daemon)}",
        f"--tlscacert={CONFIG}/{daemon.name}/ca.pem",
        f"--tlsservername={daemon.server_name}",
        "--timeout=3",
        "debug",
        "workers",
    )
    if said.rc == 0:
        raise Problem(
            f"{daemon.unit} serves whoever reaches port {daemon.port}, with no certificate", "look at its ca.pem"
        )


def old_programs(versions: str, tools: Programs, daemons: Iterable[str]) -> list[str]:
    """Return the directories of programs that no daemon will need, once these run with `tools`."""
    others = [name for name in declared_before() if name not in daemons]
    needed = {tools.directory, *(directory for name in others for directory in programs_of(name))}
    try:
        found = sorted(os.path.join(versions, name) for name in os.listdir(versions))
    except OSError:
        return []
    return [path for path in found if os.path.isdir(path) and path not in needed]


def programs_of(name: str) -> list[str]:
    """Return the directories of the programs that a daemon's unit starts."""
    file = read_file(f"{UNITS}/{unit_of(name)}")
    return re.findall(r" ?(\S+)/buildkitd --config", file.text.replace("ExecStart=", " ")) if file else []


def _debug_workers(tools: Programs, address: str, *flags: str) -> Any:
    said = call(tools.buildctl, f"--addr={address}", *flags, "--timeout=5", "debug", "workers", "--format={{json .}}")
    try:
        answer = json.loads(said.text) if said.rc == 0 else None
    except ValueError:
        answer = None
    if not answer:
        reason = (said.text.splitlines() or [f"exit code {said.rc}"])[-1]
        raise Problem(f"the BuildKit daemon at {address} does not answer: {reason}")
    return answer


def _address(daemon: Daemon) -> str:
    bound = re.findall(r'"tcp://(.*?):\d+"', daemon.files[f"{CONFIG}/{daemon.name}/buildkitd.toml"].text)
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(bound[0], bound[0])
    return f"tcp://{host}:{daemon.port}"
