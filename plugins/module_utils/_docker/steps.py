# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How daemon.json and the engine are changed: checked by the engine itself, written, followed, taken back."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Step
from .._files import make_directory, temporary_directory, write_atomically
from .._problem import Problem
from . import daemon_json, next_start
from . import engine as _engine
from .world import RECORD_SUFFIX, World

if TYPE_CHECKING:
    from .wish import Wish

ABOUT = "Written by Ansible (multiarch.drone.docker_engine_config): what of daemon.json it declared, and may take away again."
RELOAD_SECONDS = 15


class Change:
    """The steps of one change of daemon.json, which know how far the others have come."""

    def __init__(self, world: World, wish: Wish) -> None:
        self._world = world
        self._wish = wish
        self._written = False  # whether there is a step that writes
        self._attempted = False

    def write(self) -> Step:
        """Write daemon.json and the record; to put them back has the engine follow them again."""
        world = self._world
        what = world.path if self._wish.config != world.config else world.path + RECORD_SUFFIX

        self._written = True

        def undo() -> bool:
            changed = _restore(world)
            self._bring_back()
            return changed or self._attempted

        return Step(f"write {what}", lambda: _write(world, self._wish), undo, partial=True)

    def follow(self) -> Step:
        """Have the engine follow its file; that is taken back with the file."""
        wish = self._wish

        def apply() -> None:
            self._attempted = True
            _follow(wish.follow, self._world.unit, wish.options)
            _write_record(self._world.path, wish, "")

        def undo() -> None:
            if not self._written:  # or the engine has to wait for its old file
                _restore(self._world)
                self._bring_back()

        return Step(f"{wish.follow} the engine", apply, undo, partial=True)

    def _bring_back(self) -> None:
        """Have the engine follow its old file, where it was told to follow the new one."""
        if not self._attempted:
            return
        now = _engine.unit()
        # It may have died of what it was told to follow.
        _follow(self._wish.follow if now.active else "restart", now, {})


def validate(world: World, wish: Wish) -> None:
    """Have the engine itself check the new configuration, together with the flags that its unit gives it.

    And raise a Problem for what it would take now, and refuse at its next start: also where nothing is to be changed.
    """
    for option, refusal in next_start.refusals(wish.config, world.info, world.flags, world.plugins).items():
        whose = "" if option in wish.options else f" ({world.path} has it, which others wrote)"
        raise Problem(f"{refusal.what}{whose}", refusal.hint)
    if not wish.config or wish.config == world.config:
        return
    given = list(world.flags)
    for position, flag in enumerate(given):
        if flag.startswith("--config-file"):
            other = flag.partition("=")[2] or "".join(given[position + 1 : position + 2])
            if os.path.realpath(other) != world.path:
                raise Problem(f"the engine reads {other}, not {world.path}", f"declare that path: {other}")
            del given[position : position + (1 if "=" in flag else 2)]
            break
    with temporary_directory() as directory:
        file = os.path.join(directory, "daemon.json")
        write_atomically(file, _text(wish.config), mode=0o600)
        done = _engine.call("dockerd", *given, "--validate", "--config-file", file, timeout=60)
    # No engine yet: its first start will tell. Docker before 23.0 has no such flag.
    if done.rc in (0, 127) or "unknown flag: --validate" in done.text:
        return
    reason = (done.text.splitlines() or [f"exit code {done.rc}"])[-1].replace(file, world.path)
    raise Problem(f"the engine refuses the new {world.path}: {reason}", "correct the declared options")


def _follow(how: str, state: _engine.Unit, options: Mapping[str, Any]) -> None:
    """Restart or reload the engine, and wait until it says that it holds the options."""
    if how == "restart":
        _engine.restart()
        return
    _engine.reload(state)
    promise = daemon_json.promised(options)
    deadline = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < deadline:  # the engine reloads in its own time, and says nothing
        engine = _engine.engine_of(_engine.get("/info"))
        if daemon_json.running(options, engine.info, engine.containerd_store) == promise:
            return
        time.sleep(0.1)


def _text(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def _write(world: World, wish: Wish) -> None:
    """Write the record first: what is ours must be known even where the run ends between the two."""
    make_directory(os.path.dirname(world.path))
    _write_record(world.path, wish, wish.follow)
    if wish.config != world.config:
        _replace(world.path, _text(wish.config) if wish.config else None)


def _write_record(path: str, wish: Wish, pending: str) -> None:
    more = {"replaced": wish.replaced, "pending": pending}
    record = {"about": ABOUT, "declared": wish.ours, **{name: value for name, value in more.items() if value}}
    # It repeats what daemon.json says, secrets included, and nobody but root has to read it.
    _replace(path + RECORD_SUFFIX, _text(record) if wish.ours or pending else None, mode=0o600)


def _restore(world: World) -> bool:
    """Put back both files; say whether one had changed."""
    before = {world.path: world.text, world.path + RECORD_SUFFIX: world.record_text}
    changed = {path: text for path, text in before.items() if _bytes(path) != text}
    for path, text in changed.items():
        _replace(path, text, mode=0o644 if path == world.path else 0o600)
    return bool(changed)


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _replace(path: str, text: bytes | None, *, mode: int = 0o644) -> None:
    """Write a file at once or not at all, with the mode and owner that it had; None removes it."""
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == text:
            return
    write_atomically(path, text, new_mode=mode)
