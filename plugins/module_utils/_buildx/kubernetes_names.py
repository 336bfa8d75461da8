# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node is called in a cluster, and where buildx stores that."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote_plus, urlsplit

from .._problem import Problem
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Node

VOLUME = "persistent-volume-claim.requests.storage"


def foreign(name: str, node: Node) -> Problem:
    """Return the Problem that a deployment is not ours."""
    namespace = node.driver_opts.get("namespace")
    return Problem(
        f"a deployment {name} is there{f' in the namespace {namespace}' if namespace else ''}, and no builder of this user has it",
        "where it is another user's, name the node otherwise; where it is nobody's, remove it with kubectl",
    )


def deployment(node: str) -> str:
    """Return the name of a node's deployment (buildxNameToDeploymentName)."""
    return node.replace("_", "-")


def endpoint_of(builder: str, node: str, config: str) -> str:
    """Return the endpoint that buildx stores for a node in a cluster."""
    return f"kubernetes:///{builder}?deployment={quote_plus(node)}&kubeconfig={quote_plus(config)}"


def kubeconfig(node: Node) -> str:
    """Return the path of kubectl's configuration that a node was made with; "" is the default one."""
    return parse_qs(urlsplit(node.endpoint).query).get("kubeconfig", [""])[0]


def candidates(node: str) -> tuple[str, ...]:
    """Return the names that a node may have, one after another, in the cluster."""
    base = unmarked(node)
    return base, f"{base}-{mark()}", f"{base}-{mark()}b"


def mark() -> str:
    """Return what tells the deployments of this user's changes from those of others in one namespace."""
    try:
        with open("/etc/machine-id", encoding="ascii", errors="replace") as file:
            machine = file.read().strip()
    except OSError:
        machine = os.uname().nodename
    return hashlib.sha256(f"{machine} {Store(dict(os.environ)).dir}".encode()).hexdigest()[:6]


def unmarked(node: str) -> str:
    """Return the name of a node without the mark that a change has given it."""
    return re.sub(rf"-{mark()}b?\Z", "", node)


def declared_name(stored: str, wished: Iterable[str]) -> str:
    """Return which of the `wished` nodes a stored one is; its own name where it is none of them."""
    names = set(wished)
    return unmarked(stored) if stored not in names and unmarked(stored) in names else stored
