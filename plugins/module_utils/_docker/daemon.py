# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json on disk, the record of what we declared in it, and the running engine that must follow.

The record lies beside the file (`daemon.json.multiarch-drone`): what was declared, so that it can be taken away again,
and whether the engine still has to be restarted or reloaded for it, so that an interrupted run is finished by the next.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Mapping

from .._change import Plan, Step
from .._problem import Problem
from . import daemon_json
from . import engine as _engine

RECORD_SUFFIX = ".multiarch-drone"
ABOUT = "Written by Ansible (multiarch.drone.docker_engine_config): what of daemon.json it declared, and may take away again."
# The first engine whose containerd image store builds for several platforms.
CONTAINERD_STORE_SINCE = (24, 0)
STORE = "containerd-snapshotter"
RELOAD_SECONDS = 15


@dataclass(frozen=True)
class World:
    """A host's daemon.json, our record of it, and the engine."""

    path: str
    text: bytes | None  # None: there is no file
    config: Mapping[str, Any]
    record_text: bytes | None
    ours: Mapping[str, Any]
    pending: str  # what the engine still has to do for an earlier, interrupted run
    unit: _engine.Unit
    engine: _engine.Engine | None


@dataclass(frozen=True)
class Store:
    """Whether the containerd image store is declared (None: not by us), and why."""

    value: bool | None
    reason: str


@dataclass(frozen=True)
class Wish:
    """The way to go: what daemon.json and the record shall say, and what the engine must do for it."""

    options: Mapping[str, Any]
    config: Mapping[str, Any]
    ours: Mapping[str, Any]
    follow: str  # "restart", "reload", or ""


def read(path: str) -> World:
    """Return the host's engine and its configuration; raise a Problem where the file is no JSON object."""
    path = os.path.realpath(path)  # a link, as some set up /etc from elsewhere, stays a link
    text, config = _json_object(path, "mend or remove it")
    record_text, record = _json_object(
        path + RECORD_SUFFIX, "remove it: what was declared before then counts as foreign"
    )
    state = _engine.unit()
    ours = record.get("declared")
    return World(
        path,
        text,
        config,
        record_text,
        ours if isinstance(ours, dict) else {},
        str(record.get("pending") or ""),
        state,
        _engine.read(state),
    )


def store(world: World, wanted: str) -> Store:
    """Decide about the containerd image store; `auto` never hides what an engine already holds."""
    now = daemon_json.features(world.config).get(STORE)
    version = world.engine.version if world.engine else ""
    if wanted == "false":
        return Store(False, "as declared")
    if wanted == "auto" and now is not None:
        mine = STORE in daemon_json.features(world.ours)
        return Store(bool(now) if mine else None, "as daemon.json says already")
    if wanted == "auto" and world.engine and world.engine.containerd_store:
        return Store(None, "the engine uses it by itself")
    version = version or _engine.installed_version()
    if version and _engine.version_tuple(version) < CONTAINERD_STORE_SINCE:
        if wanted == "true":
            raise Problem(
                f"Docker {version} has no containerd image store",
                "use 24.0 or later (Docker's own packages, or Debian 13), or set it to false",
            )
        return Store(None, f"Docker {version} has none; 24.0 is the first that has")
    if wanted == "true":
        return Store(True, "as declared")
    images, containers = _held(world)
    if images or containers:
        return Store(None, f"the engine holds {images} images and {containers} containers, which it would hide")
    return Store(True, "the engine holds no images and no containers")


def compare(world: World, options: Mapping[str, Any]) -> Wish:
    """Return the way from the world to the declared options."""
    wish = daemon_json.declared(options)
    config = daemon_json.merge(world.config, wish, world.ours)
    follow = ""
    if world.engine:
        engine = world.engine
        before = dict(world.config)
        if STORE in daemon_json.features(wish):
            # What the engine does counts, not that the file now says so too: a restart for nothing ends builds.
            before["features"] = {**daemon_json.features(before), STORE: engine.containerd_store}
        needs = {
            world.pending,
            daemon_json.follow(before, config),
            daemon_json.follow(
                daemon_json.running(wish, engine.info, engine.containerd_store), daemon_json.promised(wish)
            ),
        }
        follow = next((need for need in ("restart", "reload") if need in needs), "")
    return Wish(wish, config, daemon_json.owned(world.config, wish, world.ours), follow)


def plan(world: World, wish: Wish) -> Plan:
    """Return the steps from the world to the wish; taking back a change brings the engine back too."""
    attempted: list[str] = []
    steps = []
    files = [wish.config != world.config, wish.ours != world.ours]
    if any(files) or (world.pending and not wish.follow):
        what = world.path if files[0] else world.path + RECORD_SUFFIX

        def take_back() -> None:
            _restore(world)
            if attempted:
                _follow(attempted[0], world.unit, {})

        steps.append(Step(f"write {what}", lambda: _write(world, wish), take_back))
    if wish.follow:

        def follow() -> None:
            attempted.append(wish.follow)
            _follow(wish.follow, world.unit, wish.options)
            _write_record(world.path, wish.ours, "")

        # Its taking back is that of the file before it: the engine follows the file.
        steps.append(Step(f"{wish.follow} the engine", follow, lambda: None))
    return Plan(shape(world, world, wish), _promise(world, wish), steps)


def shape(world: World, first: World, wish: Wish) -> dict[str, Any]:
    """Return the world as the diff shows it, without secrets; `first` is the world before any change."""
    seen: dict[str, Any] = {
        "daemon.json": _shown(first.config, world.config),
        "pending": world.pending,
    }
    if wish.config == first.config:  # else it only repeats the file's difference
        seen["declared"] = _shown(first.ours, world.ours)
    if first.engine and world.engine:
        seen["engine"] = daemon_json.running(wish.options, world.engine.info, world.engine.containerd_store)
    return seen


def validate(world: World, wish: Wish) -> None:
    """Have the engine itself check the new configuration, together with the flags that its unit gives it."""
    if not wish.config or wish.config == world.config:
        return
    flags = _flags(world.unit.pid)
    for position, flag in enumerate(flags):
        if flag.startswith("--config-file"):
            other = flag.partition("=")[2] or "".join(flags[position + 1 : position + 2])
            if os.path.realpath(other) != world.path:
                raise Problem(f"the engine reads {other}, not {world.path}", f"declare that path: {other}")
            del flags[position : position + (1 if "=" in flag else 2)]
            break
    with tempfile.NamedTemporaryFile(prefix="daemon-", suffix=".json") as file:
        file.write(_text(wish.config))
        file.flush()
        done = _engine.call("dockerd", *flags, "--validate", "--config-file", file.name, timeout=60)
    # No engine yet: its first start will tell. Docker before 23.0 has no such flag.
    if done.rc in (0, 127) or "unknown flag: --validate" in done.text:
        return
    reason = (done.text.splitlines() or [f"exit code {done.rc}"])[-1].replace(file.name, world.path)
    raise Problem(f"the engine refuses the new {world.path}: {reason}", "correct the declared options")


def _promise(world: World, wish: Wish) -> dict[str, Any]:
    after: dict[str, Any] = {
        "daemon.json": _shown(world.config, wish.config),
        "pending": "",
    }
    if wish.config == world.config:
        after["declared"] = _shown(world.ours, wish.ours)
    if world.engine:
        after["engine"] = daemon_json.promised(wish.options)
    return after


def _shown(first: Any, now: Any) -> Any:
    return daemon_json.without_secrets(first, now)[1]


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


def _held(world: World) -> tuple[int, int]:
    """Return how many images and containers the engine holds; of one that does not run, its disk tells."""
    if world.engine:
        return world.engine.images, world.engine.containers
    root = str(world.config.get("data-root") or "/var/lib/docker")
    images = glob.glob(os.path.join(glob.escape(root), "image/*/imagedb/content/sha256/*"))
    return len(images), len(glob.glob(os.path.join(glob.escape(root), "containers/*")))


def _flags(pid: int) -> list[str]:
    """Return the flags of the running engine."""
    if not pid:
        return []
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\0").split("\0")[1:]
    except OSError:
        return []


def _json_object(path: str, hint: str) -> tuple[bytes | None, dict[str, Any]]:
    """Return a file's bytes and the JSON object in it; (None, {}) where there is no file."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None, {}
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}", "run the task as root (become)") from error
    if not text.strip():
        return text, {}
    try:
        value = json.loads(text.decode())
    except ValueError as error:
        raise Problem(f"{path} is no valid JSON: {error}", f"{hint}; nothing was changed") from error
    if not isinstance(value, dict):
        raise Problem(f"{path} holds {type(value).__name__} where an object belongs", f"{hint}; nothing was changed")
    return text, value


def _text(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def _write(world: World, wish: Wish) -> None:
    """Write the record first: what is ours must be known even where the run ends between the two."""
    os.makedirs(os.path.dirname(world.path), mode=0o755, exist_ok=True)
    _write_record(world.path, wish.ours, wish.follow)
    if wish.config != world.config:
        _replace(world.path, _text(wish.config) if wish.config else None)


def _write_record(path: str, ours: Mapping[str, Any], pending: str) -> None:
    record = {"about": ABOUT, "declared": ours, **({"pending": pending} if pending else {})}
    # It repeats what daemon.json says, secrets included, and nobody but root has to read it.
    _replace(path + RECORD_SUFFIX, _text(record) if ours or pending else None, mode=0o600)


def _restore(world: World) -> None:
    _replace(world.path, world.text)
    _replace(world.path + RECORD_SUFFIX, world.record_text, mode=0o600)


def _replace(path: str, text: bytes | None, *, mode: int = 0o644) -> None:
    """Write a file at once or not at all, with the mode and owner that it had; None removes it."""
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == text:
            return
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".daemon-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            old = os.stat(path)
            os.chown(temporary, old.st_uid, old.st_gid)
            mode = old.st_mode & 0o7777
        except FileNotFoundError:
            pass
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
