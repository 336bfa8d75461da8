# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json on disk, the record of what we declared in it, and the running engine that must follow.

The record lies beside the file (`daemon.json.multiarch-drone`): what was declared, so that it can be taken away again, what of others it replaced,
and whether the engine still has to be restarted or reloaded for it, so that an interrupted run is finished by the next.
"""

from __future__ import annotations

import glob
import json
import os
from dataclasses import dataclass, field
from typing import Any, Mapping

from .._files import read_regular
from .._problem import Problem
from . import engine as _engine

RECORD_SUFFIX = ".multiarch-drone"
# Where the engine looks for plugins that it does not manage: sockets, and files that name one.
PLUGINS = ("/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins")


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
    version: str  # of the engine that runs, or else of the one on disk; "" for none
    held: tuple[int, int]  # how many images and containers it has
    flags: tuple[str, ...] = ()  # with which its unit starts it
    plugins: tuple[str, ...] = ()  # for authorization, as far as they are files
    replaced: Mapping[str, Any] = field(default_factory=dict)  # values of others in whose place ours stand

    @property
    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself; {} where none runs."""
        return self.engine.info if self.engine else {}


def read(path: str) -> World:
    """Return the host's engine and its configuration; raise a Problem where the file is no JSON object."""
    path = os.path.realpath(path)  # a link, as some set up /etc from elsewhere, stays a link
    text, config = _json_object(path, "mend or remove it")
    record_text, record = _json_object(
        path + RECORD_SUFFIX, "remove it: what was declared before then counts as foreign"
    )
    state = _engine.unit()
    engine = _engine.read(state)
    return World(
        path,
        text,
        config,
        record_text,
        _mapping(record.get("declared")),
        str(record.get("pending") or ""),
        state,
        engine,
        engine.version if engine else _engine.installed_version(),
        _held(config, engine),
        state.flags or tuple(_flags_of(state.pid)),
        tuple(os.path.basename(path).rpartition(".")[0] for place in PLUGINS for path in glob.glob(f"{place}/*.*")),
        _mapping(record.get("replaced")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _held(config: Mapping[str, Any], engine: _engine.Engine | None) -> tuple[int, int]:
    """Return how many images and containers the engine holds; of one that does not run, its disk tells."""
    if engine:
        return engine.images, engine.containers
    root = str(config.get("data-root") or "/var/lib/docker")
    images = glob.glob(os.path.join(glob.escape(root), "image/*/imagedb/content/sha256/*"))
    return len(images), len(glob.glob(os.path.join(glob.escape(root), "containers/*")))


def _flags_of(pid: int) -> list[str]:
    """Return the flags of the running engine, where its unit does not tell them."""
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
        text = read_regular(path)
    except FileNotFoundError:
        return None, {}
    except OSError as error:
        todo = "run the task as root (become)" if isinstance(error, PermissionError) else "name a file"
        raise Problem(f"{path} cannot be read: {error.strerror}", todo) from error
    if not text.strip():
        return text, {}
    try:
        value = json.loads(text.decode())
    except ValueError as error:
        raise Problem(f"{path} is not valid JSON: {error}", f"{hint}; nothing was changed") from error
    if not isinstance(value, dict):
        raise Problem(f"{path} holds {type(value).__name__} where an object belongs", f"{hint}; nothing was changed")
    return text, value
