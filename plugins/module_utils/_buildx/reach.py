# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the BuildKits of the remote driver can be reached, and if not, why.

buildx would wait for 20 seconds, and then say only that it did: "context deadline exceeded".
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from .._docker.cli import Docker, last_words
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Node

PATIENCE = 5.0  # seconds, for a daemon that is just starting
TIMEOUT = 10  # seconds, for one attempt


def await_all(docker: Docker, nodes: Iterable[Node]) -> None:
    """Wait a little for daemons that are just starting; a Problem says which of them cannot be reached, and why."""
    deadline = time.monotonic() + PATIENCE
    for node in nodes:
        while True:
            why = refusal(docker, node.endpoint)
            if not why:
                break
            if time.monotonic() > deadline:
                raise Problem(
                    f"node {node.name} does not answer at {node.endpoint}: {why}",
                    "start BuildKit there, or mend the address",
                )
            time.sleep(0.2)


def refusal(docker: Docker, endpoint: str) -> str:
    """Return why a connection to an endpoint fails, or ""; of a pod, which only kubectl reaches, nothing is known."""
    url = urlsplit(endpoint)
    try:
        if url.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT)
                connection.connect(endpoint.partition("://")[2])
        elif url.scheme == "tcp":
            socket.create_connection((url.hostname or "", url.port or 0), timeout=TIMEOUT).close()
        elif url.scheme == "ssh":
            words = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={TIMEOUT}"]
            words += ["-l", url.username] if url.username else []
            words += ["-p", str(url.port)] if url.port else []
            socket_of = ["--addr", f"unix://{url.path}"] if url.path else []
            return _ends_well(Docker("ssh"), *words, "--", url.hostname or "", "buildctl", *socket_of, "dial-stdio")
        elif url.scheme == "docker-container":
            context = parse_qs(url.query).get("context")
            words = ["--context", context[0]] if context else []
            return _ends_well(docker, *words, "exec", "-i", url.netloc, "buildctl", "dial-stdio")
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _ends_well(program: Docker, *words: str) -> str:
    """Return why a program fails through which buildx reaches an endpoint (buildkit: client/connhelper), or ""."""
    try:
        # Nothing comes in, so that it ends when it has reached the daemon.
        said = program.run(*words, stdin=b"", timeout=2 * TIMEOUT, check=False)
    except Problem as problem:
        return problem.what
    return (last_words(said.err) or f"{program.cli} ended with {said.rc}") if said.rc else ""
