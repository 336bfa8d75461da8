# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a daemon is changed: as one. Its files are written, it is restarted, and must then answer.

Where it does not, it gets its old files back and runs as before. What it has built and cached is never touched by that.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Iterable

from .._change import Step
from .._docker.engine import call, journal_words, must
from .._files import names, put_all, uid
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
    return Step(
        f"make the user {daemon.user}",
        lambda: must(*make, daemon.user),
        lambda: must("userdel", daemon.user),
    )


class Change:
    """The steps of one daemon's change, which know how far the others have come."""

    def __init__(self, daemon: Daemon, world: World, tools: Programs) -> None:
        self._daemon = daemon
        self._world = world
        self._tools = tools
        self._attempted = False

    def write(self, wrong: Iterable[str]) -> Step:
        """Write the files that are not as declared; to put the old ones back brings the old daemon back as well."""
        daemon, world = self._daemon, self._world

        def apply() -> None:
            os.makedirs(f"{CONFIG}/{daemon.name}", 0o755, exist_ok=True)
            if daemon.user:
                os.makedirs(daemon.root, 0o700, exist_ok=True)
                os.chown(daemon.root, uid(daemon.user), -1)
            put_all({path: daemon.files[path] for path in wrong})

        def undo() -> None:
            if self._attempted and not world.service.active:
                call("systemctl", "stop", daemon.unit)
            put_all({path: world.files.get(path) for path in wrong})
            must("systemctl", "daemon-reload")
            if self._attempted and world.service.active:
                call("systemctl", "reset-failed", daemon.unit)
                must("systemctl", "restart", daemon.unit)

        return Step(f"write {names(wrong)}", apply, undo)

    def start(self) -> Step:
        """(Re)start the daemon, and wait until it answers whom it should."""

        def apply() -> None:
            self._attempted = True
            _start(self._daemon, self._tools)

        return Step(f"{'restart' if self._world.service.active else 'start'} {self._daemon.unit}", apply)


def enable(daemon: Daemon) -> Step:
    """Have a daemon start at boot."""
    return Step(
        f"enable {daemon.unit}",
        lambda: must("systemctl", "enable", daemon.unit),
        lambda: must("systemctl", "disable", daemon.unit),
    )


def stop_and_disable(name: str) -> Step:
    """Stop a daemon for good."""
    unit = unit_of(name)
    return Step(f"stop and disable {unit}", lambda: must("systemctl", "disable", "--now", unit))


def remove_files(name: str, left: Left) -> Step:
    """Remove the files of a daemon."""

    def apply() -> None:
        for path in (*left.files, f"{CONFIG}/{name}"):
            must("rm", "-rf", "--one-file-system", path)
        must("systemctl", "daemon-reload")
        call("systemctl", "reset-failed", unit_of(name))

    return Step(f"remove {names(left.files)}", apply)


def remove_cache(name: str) -> Step:
    """Remove what a daemon has cached."""
    # It holds the snapshots of builds: a mount that was left behind must not lead out of it.
    path = f"{STATE}/{name}"
    return Step(f"remove {path}", lambda: must("rm", "-rf", "--one-file-system", path))


def remove_programs(path: str) -> Step:
    """Remove the programs of an older version, unless a daemon still runs them."""

    def apply() -> None:
        users = [name for name in declared_before() if path in programs_of(name)]
        if users:
            raise Problem(f"kept, since {unit_of(users[0])} still runs them")
        must("rm", "-rf", "--one-file-system", path)

    return Step(f"remove {path}", apply)


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
