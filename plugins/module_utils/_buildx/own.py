# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a builder is by itself, to whoever builds with it: whether it is there, what its engine stores, its own platform."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .._docker.cli import context_host, current_context
from .._image.build import Maker
from .._problem import Problem
from .docker_driver import containerd_store
from .node import inspected
from .store import Store

if TYPE_CHECKING:
    from .._docker.cli import Docker


def maker(docker: Docker, name: str | None, *, pushes: bool, needs_platform: bool) -> Maker:
    """Return the builder of this name, or the user's current one; raise a Problem where the user has none of that name.

    What only a push, or only a build without platforms, has to know is asked for there alone.
    """
    store = Store({**os.environ, **(docker.env or {})})
    context = current_context(store.env)
    if name and not store.exists(name.lower()) and not _is_context(store, name):
        what = f'no builder "{name}" found: this user has {", ".join([*store.names(), context])}'
        raise Problem(what, "multiarch.drone.buildx_builder declares one; it belongs to the user who made it")
    used = name or store.current() or context
    stored = store.read(os.path.join("instances", used.lower())) if store.exists(used.lower()) else None
    is_classic = False
    own: set[str] = set()
    # A builder that cannot be asked says so when it has to build, and not before.
    with contextlib.suppress(Problem, OSError):
        is_classic = pushes and stored is None and not containerd_store(docker, store, used)
    with contextlib.suppress(Problem, OSError):
        nodes = inspected(docker, used, raw=stored) if needs_platform else {}
        own = {node.platforms[0] if node.platforms else "" for node in nodes.values()}
    # buildx chooses one of several nodes: that is known where it makes no difference.
    return Maker(used, is_classic, stored is None, own.pop() if len(own) == 1 else "")


def _is_context(store: Store, name: str) -> bool:
    return name == "default" or bool(context_host(store.env, name))
