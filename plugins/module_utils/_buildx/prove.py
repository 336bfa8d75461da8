# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a builder executes the platforms that its nodes declare: proven by a build, not by a list.

The build has one step for each platform: a program of a hundred bytes that says by its exit status that it was executed.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from typing import TYPE_CHECKING

from .._docker.cli import last_words
from .._files import make_directory, temporary_directory, write_atomically
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._docker.cli import Docker
    from .store import Node


def prove(docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float) -> None:
    """Build a step for each declared platform with a builder, of which `raw` is the file; a Problem names the first that fails."""
    from .._binfmt.elf import ARGC, program
    from .._platform import Platform

    with temporary_directory() as directory:
        state, context = os.path.join(directory, "state"), os.path.join(directory, "context")
        make_directory(os.path.join(state, "instances"), 0o700)
        make_directory(context, 0o700)
        write_atomically(os.path.join(state, "instances", name), raw, mode=0o600)
        # No step comes from the cache: the stamp is another one each time.
        write_atomically(os.path.join(context, "stamp"), uuid.uuid4().hex)
        for node in nodes:
            for text in node.platforms:
                architecture = Platform.parse(text).arch
                if architecture.oci not in ARGC:
                    continue
                write_atomically(os.path.join(context, "probe"), program(architecture), mode=0o755)
                _build(docker, name, node, text, state, context, timeout)


def _build(docker: Docker, name: str, node: Node, platform: str, state: str, context: str, timeout: float) -> None:
    dockerfile = f"FROM scratch\nCOPY stamp probe /\nRUN {json.dumps(['/probe', *'2345'])}\n"
    write_atomically(os.path.join(context, "Dockerfile"), dockerfile)
    words = ("--builder", name, "--platform", platform, "--output", "type=cacheonly", context)
    told = docker.run("buildx", "build", *words, env={"BUILDX_CONFIG": state}, timeout=timeout, check=False)
    # The program ends with the number of its arguments, itself included: nothing but it says five.
    if told.rc and re.search(r"exit code: 5\b", told.err):
        return
    raise Problem(
        f"node {node.name} declares {platform}, and a build for it fails there: {last_words(told.err) or 'the program did not run'}",
        "register QEMU on the cluster's nodes (qemu.install: true), or declare the platform on a node that has it",
    )
