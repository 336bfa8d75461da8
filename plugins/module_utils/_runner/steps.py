# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a host's runner is changed without losing a build.

Everything that can be known beforehand is found out while the old runner still works: whether the server takes the secret,
and whether the new image starts with the new settings (a rehearsal without network and Docker, which takes no build). Only
then the old one is drained. One SIGTERM does that: it takes no more builds, and leaves with 1 when its own have ended. It
is never sent twice, since the second one would kill it (the runner's package drone/signal listens for one alone).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Iterable, Mapping

from .. import _progress
from .._change import Step
from .._docker.cli import last_words
from .._docker.engine import call, must
from .._files import File, make_directory, names, put, put_all, read_file, temporary_directory
from .._problem import Problem
from . import prune
from .wish import BUILDS, CONFIG, CONTAINER, ENVIRONMENT, PROGRAMS, UNIT, Runner
from .world import REHEARSAL, REHEARSED, Policy, Service, World, has_pinged, services

if TYPE_CHECKING:
    from .queue import Build

REHEARSAL_SECONDS = 15
# What a runner calls an error in its log.
REASON = r".*(level=(error|fatal)|\berror\b)"
# Builds that were cancelled get this long to end.
CANCEL_SECONDS = 120
# How often the builds of a runner that drains are looked at for who waits, and how many are named.
PROGRESS_SECONDS = 5
BUILDS_TOLD = 3


class Change:
    """The steps of one runner's change, which know how far the others have come."""

    def __init__(self, runner: Runner, world: World, policy: Policy, ready: float) -> None:
        self._runner = runner
        self._world = world
        self._policy = policy
        self._ready = ready
        self._wrong: list[str] = []
        self._begun = ""  # "", "drain" or "start"

    def pull(self) -> Step:
        """Pull the image; a later failure leaves it, since it does no harm."""
        return Step(f"pull {self._runner.image}", lambda: _pull(self._runner.image), lambda: None)

    def write(self, wrong: Iterable[str], *, rehearse: bool) -> Step:
        """Write the files that are not as declared, when the new runner has shown that it starts with them."""
        self._wrong = list(wrong)

        def apply() -> None:
            _write(self._runner.files, self._wrong)
            must("systemctl", "daemon-reload")

        check = (lambda: _rehearse(self._runner)) if rehearse else None
        return Step(f"write {names(self._wrong)}", apply, self._take_back, partial=True, check=check)

    def restart(self) -> Step:
        """Drain the old runner and start the new one."""

        def apply() -> None:
            self._begun = "drain"
            _drain(self._policy)
            self._begun = "start"
            _begin(self._ready)

        def undo() -> bool:
            return bool(self._wrong) or self._take_back()  # or the old runner has to wait for its old files

        works = self._world.service.state in ("active", "activating", "deactivating")
        return Step(f"{'drain and restart' if works else 'start'} {UNIT}", apply, undo, partial=True)

    def _take_back(self) -> bool:
        """Put the old files back, and the old runner to work where it worked before; say whether anything had changed."""
        changed = [path for path in self._wrong if read_file(path) != self._world.files.get(path)]
        if not (changed or self._begun):
            return False  # to write again what is there would fail on a full disk
        had = self._world.service.active
        if self._begun == "start" and not had:
            _stop(self._ready)
        _write(self._world.files, changed)
        must("systemctl", "daemon-reload")
        if not self._begun or not had:
            return True
        if self._begun == "drain":
            # It still drains: systemd starts it again, with its old settings, when its builds have ended.
            must("systemctl", "restart", "--no-block", UNIT)
            return True
        _stop(self._ready)
        _begin(self._ready)
        return True


def drain_and_stop(world: World, policy: Policy) -> Step:
    """Stop the runner when its builds have ended; where they do not, it starts again as it was."""

    def undo() -> None:
        if world.service.active:
            must("systemctl", "restart", "--no-block", UNIT)

    return Step(f"drain and stop {UNIT}", lambda: _drain(policy), undo, partial=True)


def enable(unit: str, found: Service, wanted: bool, *, now: bool) -> Step:
    """Enable or disable a unit, and with `now` start or stop it as well."""
    verb = "enable" if wanted else "disable"
    words = ["--now", unit] if now else [unit]

    def undo() -> None:
        must("systemctl", "enable" if found.enabled else "disable", unit)
        if now and unit != UNIT:
            must("systemctl", "start" if found.active else "stop", unit)

    return Step(f"{verb} {unit}", lambda: must("systemctl", verb, *words), undo, partial=True)


def remove(world: World) -> Step:
    """Remove the runner's files, and its directories where nothing of somebody else's is in them."""

    def apply() -> None:
        put_all(dict.fromkeys(world.files))
        for directory in (CONFIG, PROGRAMS):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        must("systemctl", "daemon-reload")
        call("systemctl", "reset-failed", UNIT)

    def undo() -> None:
        _write(world.files, world.files)
        must("systemctl", "daemon-reload")

    return Step(f"remove {names(world.files)}", apply, undo, partial=True)


def cancel_lost(policy: Policy, lost: Iterable[Build]) -> Step:
    """Cancel the builds that a dead runner has left running."""
    what = f"cancel {', '.join(map(str, lost))}, which a dead runner has left running"
    return Step(what, lambda: _cancel(policy, lost))


def _rehearse(runner: Runner) -> None:
    """Start the new runner without network and Docker; raise a Problem where it does not take its settings."""
    with temporary_directory() as directory:
        argv = list(runner.rehearse)
        for path in (ENVIRONMENT, BUILDS):
            if path in runner.files:
                copy = os.path.join(directory, os.path.basename(path))
                put(copy, runner.files[path])
                argv = [word.replace(f"--env-file={path}", f"--env-file={copy}") for word in argv]
                argv = [word.replace(f"--volume={path}:", f"--volume={copy}:") for word in argv]
        call("docker", "rm", "--force", REHEARSAL)
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [*argv[:2], f"--name={REHEARSAL}", *argv[2:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            said = _listen(process, REHEARSED, REHEARSAL_SECONDS)
        finally:
            call("docker", "rm", "--force", REHEARSAL)
            process.kill()
            process.communicate()
    if said is not None:
        raise Problem(
            f"{runner.image} does not start with these settings: {last_words(said, REASON) or 'it says nothing'}",
            "the runner that was there still works",
        )


def _pull(image: str) -> None:
    """Pull the runner's image."""
    from .._docker.cli import Docker

    Docker().run("pull", "--quiet", image, timeout=900)


def _drain(policy: Policy) -> None:
    """Stop the runner when its builds have ended; raise a Problem where that takes longer than it may."""
    must("systemctl", "stop", "--no-block", UNIT)
    if _until_stopped(policy.timeout, policy.name):
        if prune.started(prune.Engine(), CONTAINER):
            # One that its service has lost (Docker died): nothing has asked it to stop yet.
            call("docker", "stop", CONTAINER, timeout=policy.timeout)
        return
    builds = prune.find(prune.Engine(), CONTAINER, builders=False).builds
    names = ", ".join(builds) or "builds that it does not name"
    if policy.then == "cancel" and policy.drone:
        _cancel(policy)
        if _until_stopped(CANCEL_SECONDS):
            return
        raise _still_draining(f"{names} were cancelled and do not end within {CANCEL_SECONDS} s", builds)
    if policy.then == "kill":
        _kill()
        _cancel(policy)  # or Drone would show them as running for days
        return
    raise _still_draining(f"after {policy.timeout:g} s the runner still has {names}", builds)


def _kill() -> None:
    """End the runner and what its builds consist of, now."""
    call("docker", "kill", CONTAINER)
    if not _until_stopped(60):
        raise Problem(f"{UNIT} does not stop though its container was killed", f"look at: systemctl status {UNIT}")
    engine = prune.Engine()
    prune.remove(engine, prune.find(engine, CONTAINER, builders=False).left)


def _begin(ready: float) -> None:
    """Start the service, and wait until the runner says that it has reached its server."""
    call("systemctl", "reset-failed", UNIT)
    must("systemctl", "start", UNIT)
    deadline = time.monotonic() + ready
    while not has_pinged():
        (service,) = services(UNIT)
        if time.monotonic() > deadline or service.state in ("failed", "inactive"):
            log = call("journalctl", f"--unit={UNIT}", "--lines=60", "--output=cat", "--no-pager").text
            raise Problem(
                f"the runner has not reached its server within {ready:g} s: {last_words(log, REASON) or 'it says nothing'}",
                f"look at: journalctl -u {UNIT}",
            )
        time.sleep(0.3)


def _write(files: Mapping[str, File], which: Iterable[str]) -> None:
    """Write these of the files, all or none; what is not among them is removed."""
    # The secrets' directory is nobody else's business either.
    make_directory(CONFIG, 0o700)
    make_directory(PROGRAMS)
    put_all({path: files.get(path) for path in which})


def _stop(seconds: float) -> None:
    """Stop the service, unless it has stopped or stops already: a second signal would kill the runner's builds."""
    (now,) = services(UNIT)
    if now.state not in ("inactive", "failed", "deactivating"):
        must("systemctl", "stop", "--no-block", UNIT)
    _until_stopped(seconds)


def _cancel(policy: Policy, lost: Iterable[Build] | None = None) -> None:
    """Cancel these builds, or else all that the server takes this runner to run; without a token for it, none."""
    if policy.drone:
        from . import queue

        queue.cancel(policy.drone, queue.builds_of(policy.drone, policy.name) if lost is None else lost)


def _still_draining(what: str, builds: Iterable[str]) -> Problem:
    return Problem(
        what,
        "no build was lost: it takes no new ones, ends these, and then starts again as it was; or raise drain_timeout",
        draining=list(builds),
    )


def _until_stopped(seconds: float, name: str = "") -> bool:
    """Wait until the service has stopped; return whether it has. Where somebody waits, say what a runner of that name still does."""
    deadline = time.monotonic() + seconds
    told = time.monotonic()
    while True:
        (service,) = services(UNIT)
        if service.state in ("inactive", "failed"):
            return True
        if time.monotonic() > deadline:
            return False
        if name and _progress.wanted() and time.monotonic() > told:
            _progress.tell(f"draining {name}: {_left()}")
            told = time.monotonic() + PROGRESS_SECONDS
        time.sleep(0.3)


def _left() -> str:
    """Return which builds a runner that drains still has, by the containers of their steps."""
    try:
        live = prune.find(prune.Engine(timeout=5), CONTAINER, builders=False).live
    except (OSError, ValueError, Problem):
        return "its builds cannot be read"
    began: dict[str, float] = {}
    for thing in live:
        if thing.build:
            began[thing.build] = min(thing.created, began.get(thing.build, thing.created))
    oldest = sorted(began, key=lambda build: began[build])
    builds = [f"{build} for {_progress.duration(time.time() - began[build])}" for build in oldest[:BUILDS_TOLD]]
    more = f", and {len(oldest) - BUILDS_TOLD} more" if len(oldest) > BUILDS_TOLD else ""
    return (
        f"{len(oldest)} build{'' if len(oldest) == 1 else 's'} left, {', '.join(builds)}{more}"
        if builds
        else "no build left"
    )


def _listen(process: subprocess.Popen[bytes], word: str, seconds: float) -> str | None:
    """Read what a process says until it says a word, or time is up: None. Where it ends before, what it said."""
    import select

    if process.stdout is None:
        return ""
    deadline = time.monotonic() + seconds
    said = b""
    while time.monotonic() < deadline:
        ready, _unused, _unused2 = select.select([process.stdout], [], [], 0.2)
        data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        said += data
        if word.encode() in said:
            return None
        if ready and not data:
            return said.decode("utf-8", "replace")
    return None
