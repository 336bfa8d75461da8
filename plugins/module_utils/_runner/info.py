# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the Drone runner of a host is, does and leaves behind, without knowing it beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import prune, wish
from .queue import ping
from .variables import variables
from .world import mounted_ca, read

if TYPE_CHECKING:
    from .._arguments import Module


def work(module: Module) -> dict[str, Any]:
    """Return the result of drone_runner_info."""
    world = read("")
    file = world.files.get(wish.ENVIRONMENT)
    settings = variables(file.text) if file else {}
    secret = settings.get("DRONE_RPC_SECRET", "")
    module.no_log_values.update(filter(None, [secret]))
    server = f"{settings['DRONE_RPC_PROTO']}://{settings['DRONE_RPC_HOST']}" if secret else ""
    reached = bool(server) and not ping(
        server,
        secret,
        validate_certs="DRONE_RPC_SKIP_VERIFY" not in settings,
        ca_path=mounted_ca(world),
        timeout=module.params["timeout"],
    )
    left = prune.find(prune.Engine(), wish.CONTAINER).left if world.docker else ()
    installed = f"{wish.UNITS}/{wish.UNIT}" in world.files
    return {
        "changed": False,
        "state": world.service.state if installed else "absent",
        "healthy": world.service.active and world.pinged,
        "reaches_server": reached,
        "name": settings.get("DRONE_RUNNER_NAME", ""),
        "server": server,
        "image": world.container.image if world.container else "",
        "capacity": int(settings.get("DRONE_RUNNER_CAPACITY", 0)),
        "privileged_images": [name for name in settings.get("DRONE_RUNNER_PRIVILEGED_IMAGES", "").split(",") if name],
        "builds": list(world.builds),
        "left": [str(thing) for thing in left],
    }
