# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The declared builder as buildx itself makes it, in a directory of its own: whatever it refuses, nothing is touched."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import TYPE_CHECKING

from .._files import temporary_directory, write_atomically
from .._problem import Problem
from .drivers import driver_of
from .store import Store
from .wish import differs, stored_state, wished_state

if TYPE_CHECKING:
    from .._docker.cli import Docker
    from .store import Builder
    from .wish import Wish


def stage(docker: Docker, store: Store, wish: Wish, builder: Builder) -> tuple[bytes, Builder]:
    """Let buildx make the declared builder, with the names of `builder`, and return its file."""
    with temporary_directory() as directory:
        return _stage(docker, Store({**store.env, "BUILDX_CONFIG": directory}), wish, builder)


def _stage(docker: Docker, store: Store, wish: Wish, builder: Builder) -> tuple[bytes, Builder]:
    config = os.path.join(store.dir, "wish.toml")
    if wish.source:
        from .. import _toml

        write_atomically(config, _toml.dump(wish.source), mode=0o600)
    kept: dict[str, str] = {}
    for index, node in enumerate(builder.nodes):
        words = ["--name", builder.name, "--driver", builder.driver, "--node", node.name]
        words += ["--append"] if index else []
        words += ["--platform", ",".join(node.platforms)] if node.platforms else []
        for name, value in node.driver_opts.items():
            if name.startswith("env."):  # it may hold a password, and every user of the host sees a process's arguments
                kept[f"multiarch.drone.{index}.{len(kept)}"] = str(value)
                value = list(kept)[-1]
            words += ["--driver-opt", _csv(f"{name}={value}")]
        words += ["--buildkitd-flags", shlex.join(node.flags)] if node.flags else []
        words += ["--buildkitd-config", config] if wish.source else []
        words += [node.endpoint] if driver_of(builder.driver).takes_endpoint else []
        docker.run("buildx", "create", *words, env={"BUILDX_CONFIG": store.dir})
    raw = store.read(os.path.join("instances", builder.name)) or b""
    if kept and raw:
        for word, value in kept.items():
            raw = raw.replace(f'"{word}"'.encode(), _json(value))
        write_atomically(os.path.join(store.dir, "instances", builder.name), raw, mode=0o600)
    staged = store.builder(builder.name)
    if staged is None or differs(wish, staged):
        made, wanted = stored_state(wish, staged), wished_state(wish)
        unlike = [
            f"{name}: {made.get(name)!r}, not {wanted[name]!r}" for name in wanted if made.get(name) != wanted[name]
        ]
        raise Problem(
            f"buildx made another builder than the declared one: {'; '.join(unlike)}",
            "please report this, with the version of buildx",
        )
    return raw, staged


def _json(text: str) -> bytes:
    """Return a text as buildx's file has it: as Go writes JSON."""
    quoted = json.dumps(text, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        quoted = quoted.replace(letter, f"\\u{ord(letter):04x}")
    return quoted.encode("utf-8", "surrogateescape")


def _csv(field: str) -> str:
    """Return a driver option as one field: buildx reads each --driver-opt as a line of CSV."""
    return '"' + field.replace('"', '""') + '"' if re.search(r'[",\n]', field) else field
