# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a daemon is changed: as one. Its files are written, it is restarted, and must then answer.

Where it does not, it gets its old files back and runs as before. What it has built and cached is never touched by that.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Callable, Iterable, Mapping

from .._change import Step
from .._docker.engine import call, journal_words, must
from .._files import make_directory, names, put_all, read_file, uid
from .._problem import Problem
from .wish import CONFIG, STATE, Daemon, Programs, unit_of
from .world import Left, World, declared_before, programs_of, refuses_strangers, workers

# How long a daemon that has just started may take to answer; systemd waits for its start before that.
READY_SECONDS = 20
# How a daemon begins the line in which it says why it does not start.
REASON = r"(buildkitd: |rootlesskit: |\[rootlesskit:parent\] error)"


def make_user(daemon: Daemon) -> Step:
    """Make the user of a rootless daemon."""
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

    def undo() -> None:
        if uid(daemon.user):
            must("userdel", daemon.user)

    return Step(f"make the user {daemon.user}", lambda: must(*make, daemon.user), undo, partial=True)


def set_modes(found: Mapping[str, int], mode: int) -> Step:
    """Give directories the mode that they must have."""

    def apply() -> None:
        for path in found:
            os.chmod(path, mode)

    def undo() -> None:
        for path, old in found.items():
            os.chmod(path, old)

    return Step(f"set the mode of {', '.join(found)} to {mode:04o}", apply, undo, partial=True)


def reload(daemon: Daemon) -> Step:
    """Have systemd read the unit that was written, by a run that was interrupted."""
    return Step(f"have systemd read {daemon.unit} again", lambda: must("systemctl", "daemon-reload"), lambda: None)


class Change:
    """The steps of one daemon's change, which know how far the others have come."""

    def __init__(self, daemon: Daemon, world: World, tools: Programs) -> None:
        self._daemon = daemon
        self._world = world
        self._tools = tools
        self._wrong: list[str] = []
        self._made: list[str] = []  # directories
        self._attempted = False

    def write(self, wrong: Iterable[str]) -> Step:
        """Write the files that are not as declared; to put the old ones back brings the old daemon back as well."""
        daemon = self._daemon
        self._wrong = list(wrong)

        def apply() -> None:
            for path in daemon.directories:
                self._made += make_directory(path)
            if daemon.user:
                self._made += make_directory(daemon.root, 0o700, owner=uid(daemon.user))
            put_all({path: daemon.files[path] for path in self._wrong})

        return Step(f"write {names(self._wrong)}", apply, self._take_back, partial=True)

    def start(self) -> Step:
        """(Re)start the daemon, and wait until it answers whom it should."""

        def apply() -> None:
            self._attempted = True
            _start(self._daemon, self._tools)

        def undo() -> bool:
            return bool(self._wrong) or self._take_back()  # or the old daemon has to wait for its old files

        verb = "restart" if self._world.service.active else "start"
        return Step(f"{verb} {self._daemon.unit}", apply, undo, partial=True)

    def _take_back(self) -> bool:
        """Put the old files back, and the old daemon to work where it worked before; say whether anything had changed."""
        unit, had = self._daemon.unit, self._world.service.active
        if self._attempted and not had:
            call("systemctl", "stop", unit)
        old = {path: self._world.files.get(path) for path in self._wrong}
        changed = {path: file for path, file in old.items() if read_file(path) != file}
        if not (changed or self._made or self._attempted):
            return False  # to write again what is there would fail on a full disk
        put_all(changed)
        for path in reversed(self._made):
            with contextlib.suppress(OSError):  # the daemon has written into it
                os.rmdir(path)
        self._made.clear()
        must("systemctl", "daemon-reload")
        if self._attempted and had:
            call("systemctl", "reset-failed", unit)
            must("systemctl", "restart", unit)
        return True


def enable(daemon: Daemon) -> Step:
    """Have a daemon start at boot."""
    return Step(
        f"enable {daemon.unit}",
        lambda: must("systemctl", "enable", daemon.unit),
        lambda: must("systemctl", "disable", daemon.unit),
        partial=True,
    )


def stop_and_disable(name: str, left: Left) -> Step:
    """Stop a daemon for good."""
    unit = unit_of(name)

    def undo() -> None:
        if left.service.enabled:
            must("systemctl", "enable", unit)
        if left.service.active:
            must("systemctl", "start", unit)

    return Step(f"stop and disable {unit}", lambda: must("systemctl", "disable", "--now", unit), undo, partial=True)


def remove_files(name: str, left: Left) -> Step:
    """Remove the files of a daemon."""

    def apply() -> None:
        for path in (*left.files, f"{CONFIG}/{name}"):
            must("rm", "-rf", "--one-file-system", path)
        must("systemctl", "daemon-reload")
        call("systemctl", "reset-failed", unit_of(name))

    def undo() -> None:
        make_directory(f"{CONFIG}/{name}")
        put_all(left.contents)
        must("systemctl", "daemon-reload")

    return Step(f"remove {names(left.files)}", apply, undo, partial=True)


def remove_cache(name: str) -> Step:
    """Remove what a daemon has cached."""
    # It holds the snapshots of builds: a mount that was left behind must not lead out of it.
    path = f"{STATE}/{name}"
    return Step(f"remove {path}", lambda: must("rm", "-rf", "--one-file-system", path), partial=True)


def remove_user(user: str) -> Step:
    """Remove the user of a rootless daemon, whose home was its cache."""
    return Step(f"remove the user {user}", lambda: must("userdel", user), partial=True)


def remove_programs(path: str) -> Step:
    """Remove the programs of an older version, unless a daemon still runs them."""

    def check() -> None:
        users = [name for name in declared_before() if path in programs_of(name)]
        if users:
            raise Problem(f"kept, since {unit_of(users[0])} still runs them")

    return Step(f"remove {path}", lambda: must("rm", "-rf", "--one-file-system", path), check=check, partial=True)


def _start(daemon: Daemon, tools: Programs) -> None:
    """(Re)start a daemon, and wait until it answers whom it should, and only them."""
    must("systemctl", "daemon-reload")
    call("systemctl", "reset-failed", daemon.unit)  # attempts that failed before count against systemd's limit
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    said = call("systemctl", "restart", daemon.unit, timeout=150)
    if said.rc:
        call("systemctl", "stop", daemon.unit)  # or systemd would try again, and fill the log
        raise Problem(
            f"{daemon.unit} does not start: {journal_words(daemon.unit, REASON, since) or said.text}",
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
