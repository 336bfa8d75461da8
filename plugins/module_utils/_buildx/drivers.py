# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drivers of buildx by their names; only the one that a builder has is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .driver import Driver

NAMES = ("docker-container", "remote", "kubernetes", "docker")


def driver_of(name: str) -> Driver:
    """Return the driver of that name."""
    # Python compiles a module's files in each task: those of the other drivers are left out.
    if name == "docker-container":
        from .container_driver import ContainerDriver

        return ContainerDriver()
    if name == "kubernetes":
        from .kubernetes_driver import KubernetesDriver

        return KubernetesDriver()
    if name == "remote":
        from .remote_driver import RemoteDriver

        return RemoteDriver()
    from .docker_driver import DockerDriver

    return DockerDriver()
