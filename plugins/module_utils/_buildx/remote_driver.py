# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The driver `remote`: a BuildKit that somebody else started (docker/buildx: driver/remote)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Mapping

from .._problem import Problem
from .driver import Driver
from .node import RUNNING
from .options import check_flag, check_path, check_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._docker.cli import Docker
    from .node import Running
    from .store import Node, Store

# The schemes of a BuildKit endpoint (docker/buildx: driver/remote/util), and one example of each for the error.
ENDPOINTS = {
    "unix": "unix:///run/buildkit/buildkitd.sock",
    "tcp": "tcp://HOST:1234",
    "docker-container": "docker-container://CONTAINER",
    "kube-pod": "kube-pod://POD?namespace=NAMESPACE",
    "ssh": "ssh://USER@HOST",
}
# What comes after the scheme (moby/buildkit: client/connhelper).
ENDPOINT_SHAPES = {
    "unix": r"/.",
    "tcp": r"[^/@?#\s]+:\d+\Z",
    "docker-container": r"[a-zA-Z0-9][\w.-]*(\?context=[\w.+-]+)?\Z",
    "kube-pod": r"[a-z0-9][a-z0-9.-]*(\?[^\s#]*)?\Z",
    "ssh": r"([^/@\s-][^/@\s]*@)?[^/@?#\s-][^/@?#\s]*(/[^?#\s]*)?\Z",
}


class RemoteDriver(Driver):
    """Nodes that buildx only connects to."""

    name = "remote"
    options = {
        "servername": check_text,
        "cacert": check_path,
        "cert": check_path,
        "key": check_path,
        "default-load": check_flag,
    }
    takes_endpoint = True
    elsewhere = "configure that daemon itself: role multiarch.drone.buildkitd"

    def check_options(self, where: str, opts: Mapping[str, str]) -> None:
        """Raise a Problem where the options of a TLS connection do not belong together, or their files are not there."""
        if ("cert" in opts) != ("key" in opts):
            given, missing = ("cert", "key") if "cert" in opts else ("key", "cert")
            raise Problem(f"{where}: driver option {given} without {missing}", "a client certificate needs both")
        if {"cert", "servername"} & set(opts) and "cacert" not in opts:
            raise Problem(
                f"{where}: TLS without the driver option cacert", "name the CA that signed the daemon's certificate"
            )
        for name in ("cacert", "cert", "key"):
            if name in opts and not os.access(opts[name], os.R_OK):
                why = "cannot be read by this user" if os.path.exists(opts[name]) else "is not there"
                raise Problem(
                    f"{where}: {name} {opts[name]} {why}", "copy it to the host before the builder is declared"
                )

    def endpoint(self, where: str, given: str, builder: str, node: str, store: Store) -> str:
        """Return a BuildKit's address."""
        examples = ", ".join(ENDPOINTS.values())
        if not given:
            raise Problem(f"{where}: a remote node needs an endpoint", f"such as {examples}")
        scheme, found, rest = given.partition("://")
        if not found or scheme not in ENDPOINTS or not rest:
            raise Problem(f"{where}: {given!r} is not a BuildKit endpoint", f"write one of {examples}")
        if scheme == "tcp" and not re.search(r":\d+$", rest):
            raise Problem(f"{where}: {given!r} has no port", "BuildKit's usual one is 1234")
        if re.match(r"ssh://[^/@]*:[^/@]*@", given):
            raise Problem(f"{where}: an ssh endpoint with a password", "BuildKit takes none: give the user a key")
        if not re.match(ENDPOINT_SHAPES[scheme], rest):
            raise Problem(f"{where}: {given!r} is not a valid {scheme} endpoint", f"write it as {ENDPOINTS[scheme]}")
        return given

    def settled(
        self, docker: Docker, nodes: Sequence[Node], raw: bytes, now: Mapping[str, Running], timeout: float
    ) -> Mapping[str, Running]:
        """Return what runs; a daemon that does not answer, after waiting for it, is a Problem and not a change."""
        from .steps import check_answers
        from .store import parse

        if any(node.status != RUNNING for node in now.values()):
            now = self.start(docker, parse(raw, "the builder").name, nodes, raw, timeout)
        check_answers(nodes, now)
        return now

    def start(
        self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float
    ) -> Mapping[str, Running]:
        """Wait until each daemon answers."""
        from .reach import await_all

        await_all(docker, nodes)
        return super().start(docker, name, nodes, raw, timeout)

    def is_local(self, node: Node) -> bool:
        """Return whether a daemon runs on this host's kernel."""
        return node.endpoint.startswith(("unix://", "docker-container://"))
