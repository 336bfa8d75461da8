# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""BuildKit daemons of a host as they are: files, units, processes, and whether they answer whom they should, and only them.

A daemon is changed as one: its files are written, it is restarted, and it must then answer. Where it does not, it gets
its old files back and runs as before. What it has built and cached is never touched by that.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

from .._change import Plan, Step
from .._docker.engine import call, must
from .._files import File, names, put, put_all, read_file, uid
from .._problem import Problem
from . import wish
from .wish import CONFIG, HEAD, MARK, STATE, UNITS, Daemon, Programs

# How long a daemon that has just started may take to answer; systemd waits for its start before that.
READY_SECONDS = 20


@dataclass(frozen=True)
class Service:
    """What systemd and the process say of a daemon."""

    active: bool = False
    enabled: bool = False
    mark: str = ""  # what the running process was started with


@dataclass(frozen=True)
class World:
    """One daemon as it was found."""

    files: Mapping[str, File]
    service: Service
    workers: Any = None  # what it answered; None where it does not


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
    return World({path: file for path, file in files.items() if file}, now, answer)


def service(unit: str) -> Service:
    """Return what systemd and the running process say of a unit."""
    shown = call("systemctl", "show", unit, "--property=ActiveState,UnitFileState,MainPID")
    said = dict(line.split("=", 1) for line in shown.text.splitlines() if "=" in line)
    mark = ""
    try:
        with open(f"/proc/{said.get('MainPID') or 0}/environ", encoding="utf-8", errors="replace") as file:
            mark = dict(pair.partition("=")[::2] for pair in file.read().split("\0")).get(MARK, "")
    except OSError:
        pass
    return Service(
        active=said.get("ActiveState") in ("active", "reloading"),
        enabled=said.get("UnitFileState") == "enabled",
        mark=mark,
    )


def workers(daemon: Daemon, tools: Programs) -> Any:
    """Return what a daemon says of its workers; over its port with the probe's certificate where there is one."""
    if not (daemon.port and daemon.probe):
        return _debug_workers(tools, daemon.socket)
    with tempfile.TemporaryDirectory(prefix="buildkitd-") as directory:
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


def plan(daemon: Daemon, world: World, tools: Programs) -> Plan:
    """Return the steps that make a declared daemon run as declared."""
    steps: list[Step] = []
    attempted: list[str] = []
    if daemon.user and not uid(daemon.user):
        # Subordinate ids are what its builds' users are mapped to; a system user gets none unless asked.
        make = (
            "useradd",
            "--system",
            "--add-subids-for-system",
            "--home-dir",
            daemon.root,
            "--shell",
            "/usr/sbin/nologin",
        )
        steps.append(
            Step(
                f"make the user {daemon.user}",
                lambda: must(*make, daemon.user),
                lambda: must("userdel", daemon.user),
            )
        )
    wrong = [path for path, file in daemon.files.items() if world.files.get(path) != file]
    if wrong:

        def write() -> None:
            os.makedirs(f"{CONFIG}/{daemon.name}", 0o755, exist_ok=True)
            if daemon.user:
                os.makedirs(daemon.root, 0o700, exist_ok=True)
                os.chown(daemon.root, uid(daemon.user), -1)
            put_all({path: daemon.files[path] for path in wrong})

        def take_back() -> None:
            if attempted and not world.service.active:
                call("systemctl", "stop", daemon.unit)
            put_all({path: world.files.get(path) for path in wrong})
            must("systemctl", "daemon-reload")
            if attempted and world.service.active:
                call("systemctl", "reset-failed", daemon.unit)
                must("systemctl", "restart", daemon.unit)

        steps.append(Step(f"write {names(wrong)}", write, take_back))
    running = world.service
    if not running.active or running.mark != daemon.mark or world.workers is None:

        def start() -> None:
            attempted.append(daemon.unit)
            _start(daemon, tools)

        steps.append(Step(f"{'restart' if running.active else 'start'} {daemon.unit}", start))
    if not running.enabled:
        steps.append(
            Step(
                f"enable {daemon.unit}",
                lambda: must("systemctl", "enable", daemon.unit),
                lambda: must("systemctl", "disable", daemon.unit),
            )
        )
    promise = {**_files_shown(daemon, daemon.files), "service": _service_shown(True, True, "what is declared", True)}
    if daemon.user:
        promise["user"] = daemon.user
    return Plan(shape(daemon, world), promise, steps)


def shape(daemon: Daemon, world: World) -> dict[str, Any]:
    """Return a daemon as the diff shows it: of secrets only whether they are the declared ones."""
    running = world.service
    runs = "what is declared" if running.mark == daemon.mark else "something else"
    seen: dict[str, Any] = {
        **_files_shown(daemon, world.files),
        "service": _service_shown(
            running.active, running.enabled, runs if running.active else "nothing", world.workers is not None
        ),
    }
    if daemon.user and uid(daemon.user):
        seen["user"] = daemon.user
    return seen


def told(daemon: Daemon, world: World) -> dict[str, Any]:
    """Return what the result says of a daemon."""
    answer = world.workers or [{}]
    platforms = [platform for worker in answer for platform in worker.get("platforms") or ()]
    names = [
        "/".join(filter(None, (item.get("os"), item.get("architecture"), item.get("variant")))) for item in platforms
    ]
    return {
        "name": daemon.name,
        "socket": daemon.socket,
        "port": daemon.port,
        "root": daemon.root,
        "version": (answer[0].get("buildkitVersion") or {}).get("version", ""),
        "platforms": list(dict.fromkeys(names)),
    }


def plan_absent(name: str, *, keep_cache: bool) -> Plan:
    """Return the steps after which a host has no such daemon; its cache goes only where that is asked for."""
    unit = wish.unit(name)
    before = shape_absent(name, keep_cache=keep_cache)
    running = service(unit)
    steps: list[Step] = []
    if running.active or running.enabled:
        steps.append(Step(f"stop and disable {unit}", lambda: must("systemctl", "disable", "--now", unit)))
    if before["files"]:

        def remove() -> None:
            for path in (*before["files"], f"{CONFIG}/{name}"):
                must("rm", "-rf", "--one-file-system", path)
            must("systemctl", "daemon-reload")
            call("systemctl", "reset-failed", unit)

        steps.append(Step(f"remove {names(before['files'])}", remove))
    if before.get("cache"):
        # It holds the snapshots of builds: a mount that was left behind must not lead out of it.
        steps.append(
            Step(f"remove {before['cache']}", lambda: must("rm", "-rf", "--one-file-system", f"{STATE}/{name}"))
        )
    return Plan(before, shape_of_nothing(keep_cache=keep_cache), steps)


def shape_absent(name: str, *, keep_cache: bool) -> dict[str, Any]:
    """Return what there is of a daemon that shall not be."""
    running = service(wish.unit(name))
    seen: dict[str, Any] = {
        "files": sorted(filter(os.path.lexists, [*glob.glob(f"{CONFIG}/{name}/*"), f"{UNITS}/{wish.unit(name)}"])),
        "service": {"active": running.active, "enabled": running.enabled},
    }
    if not keep_cache:
        seen["cache"] = f"{STATE}/{name}" if os.path.isdir(f"{STATE}/{name}") else None
    return seen


def shape_of_nothing(*, keep_cache: bool) -> dict[str, Any]:
    """Return what there is of a daemon that is not."""
    nothing: dict[str, Any] = {"files": [], "service": {"active": False, "enabled": False}}
    return nothing if keep_cache else {**nothing, "cache": None}


def old_programs(versions: str, tools: Programs, daemons: Iterable[str]) -> list[str]:
    """Return the directories of programs that no daemon will need, once these run with `tools`."""
    others = [name for name in declared_before() if name not in daemons]
    needed = {tools.directory, *(directory for name in others for directory in _runs(name))}
    try:
        found = sorted(os.path.join(versions, name) for name in os.listdir(versions))
    except OSError:
        return []
    return [path for path in found if os.path.isdir(path) and path not in needed]


def plan_old_programs(paths: Iterable[str]) -> Plan:
    """Return the steps that remove programs of older versions; it goes last, when their daemons run with the new ones."""

    def removal(path: str) -> Step:
        def remove() -> None:
            users = [name for name in declared_before() if path in _runs(name)]
            if users:
                raise Problem(f"kept, since {wish.unit(users[0])} still runs them")
            must("rm", "-rf", "--one-file-system", path)

        return Step(f"remove {path}", remove)

    found = list(paths)
    return Plan({"directories": found}, {"directories": []}, [removal(path) for path in found])


def _runs(name: str) -> list[str]:
    """Return the directories of the programs that a daemon's unit starts."""
    file = read_file(f"{UNITS}/{wish.unit(name)}")
    return re.findall(r" ?(\S+)/buildkitd --config", file.text.replace("ExecStart=", " ")) if file else []


def _start(daemon: Daemon, tools: Programs) -> None:
    """(Re)start a daemon, and wait until it answers whom it should, and only them."""
    must("systemctl", "daemon-reload")
    call("systemctl", "reset-failed", daemon.unit)  # attempts that failed before count against systemd's limit
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    said = call("systemctl", "restart", daemon.unit, timeout=150)
    if said.rc:
        call("systemctl", "stop", daemon.unit)  # or systemd would try again, and fill the log
        raise Problem(
            f"{daemon.unit} does not start: {_last_words(daemon.unit, since) or said.text}",
            f"look at: journalctl -u {daemon.unit}",
        )
    _until_ready(lambda: workers(daemon, tools))
    if daemon.port:
        refuses_strangers(daemon, tools)


def _until_ready(ask: Callable[[], object]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            ask()
            return
        except Problem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


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


def _last_words(unit: str, since: str) -> str:
    """Return the line in which a daemon said last why it does not start, or ""."""
    log = call("journalctl", "--unit", unit, "--since", since, "--output=cat", "--no-pager", "--lines=80").text
    reasons = [
        line for line in log.splitlines() if re.match(r"(buildkitd: |rootlesskit: |\[rootlesskit:parent\] error)", line)
    ]
    return reasons[-1].strip() if reasons else ""


def _files_shown(daemon: Daemon, files: Mapping[str, File]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for path, wanted in daemon.files.items():
        file = files.get(path)
        if file is None:
            continue
        text: Any = file.text.splitlines()  # a line is what a person compares
        if wanted.secret or path.endswith(".pem"):
            text = "as declared" if file.text == wanted.text else "another"
        shown[path] = {"content": text, "mode": f"{file.mode:04o}", "owner": file.owner}
    return shown


def _service_shown(active: bool, enabled: bool, runs: str, answers: bool) -> dict[str, Any]:
    return {"active": active, "enabled": enabled, "runs": runs, "answers": answers}
