# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a host's BuildKit daemons as they were found to what is declared: steps, diff and result. Without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._change import Plan, Step
from . import steps
from .world import Left, World

if TYPE_CHECKING:
    from .._files import File
    from .wish import Daemon, Programs


# The mode of the directories of a configuration; what is secret in them has a mode of its own.
DIRECTORY = 0o755


def plan(daemon: Daemon, world: World, tools: Programs) -> Plan:
    """Return the steps that make a declared daemon run as declared."""
    found: list[Step] = []
    change = steps.Change(daemon, world, tools)
    if daemon.user != world.user:
        found.append(steps.make_user(daemon))
    modes = _wrong_modes(daemon, world)
    if modes:
        found.append(steps.set_modes(modes, DIRECTORY))
    wrong = [path for path, file in daemon.files.items() if world.files.get(path) != file]
    if wrong:
        found.append(change.write(wrong))
    running = world.service
    if not running.active or running.mark != daemon.mark or world.workers is None:
        found.append(change.start())
    elif running.stale:
        found.append(steps.reload(daemon))
    if not running.enabled:
        found.append(steps.enable(daemon))
    promise = {**_files_shown(daemon, daemon.files), "service": _service_shown(True, True, "what is declared", True)}
    promise["directories"] = dict.fromkeys(daemon.directories, "as they must be")
    if daemon.user:
        promise["user"] = daemon.user
    return Plan(as_diff(daemon, world), promise, found)


def _wrong_modes(daemon: Daemon, world: World) -> dict[str, int]:
    """Return the modes of directories that others may write into, or that a rootless daemon cannot read."""
    needed = 0o055 if daemon.user else 0
    return {path: mode for path, mode in world.modes.items() if mode & 0o022 or mode & needed != needed}


def as_diff(daemon: Daemon, world: World) -> dict[str, Any]:
    """Return a daemon as the diff shows it: of secrets only whether they are the declared ones."""
    running = world.service
    runs = "what is declared" if running.mark == daemon.mark else "something else"
    seen: dict[str, Any] = {
        **_files_shown(daemon, world.files),
        "service": _service_shown(
            running.active, running.enabled, runs if running.active else "nothing", world.workers is not None
        ),
    }
    if running.active and running.stale:
        seen["service"]["runs"] += ", and systemd has not read its unit again"
    wrong = _wrong_modes(daemon, world)
    seen["directories"] = {
        path: f"{wrong[path]:04o}" if path in wrong else "as they must be" for path in daemon.directories
    }
    if world.user:
        seen["user"] = world.user
    return seen


def as_result(daemon: Daemon, world: World) -> dict[str, Any]:
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


def plan_absent(name: str, left: Left, *, keep_cache: bool) -> Plan:
    """Return the steps after which a host has no such daemon; its cache goes only where that is asked for."""
    found: list[Step] = []
    if left.service.active or left.service.enabled:
        found.append(steps.stop_and_disable(name, left))
    if left.files:
        found.append(steps.remove_files(name, left))
    if left.cache and not keep_cache:
        found.append(steps.remove_cache(name))
    if left.user and not keep_cache:  # whose the cache is
        found.append(steps.remove_user(left.user))
    return Plan(as_diff_absent(left, keep_cache=keep_cache), as_diff_absent(Left(), keep_cache=keep_cache), found)


def as_diff_absent(left: Left, *, keep_cache: bool) -> dict[str, Any]:
    """Return what there is of a daemon that shall not be, as the diff shows it."""
    seen: dict[str, Any] = {
        "files": list(left.files),
        "service": {"active": left.service.active, "enabled": left.service.enabled},
    }
    return seen if keep_cache else {**seen, "cache": left.cache or None, "user": left.user or None}


def plan_old_programs(paths: Iterable[str]) -> Plan:
    """Return the steps that remove programs of older versions; it goes last, when their daemons run with the new ones."""
    found = list(paths)
    return Plan({"directories": found}, {"directories": []}, [steps.remove_programs(path) for path in found])


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
