# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host's builders have proven by a build, and whether that still holds: for one engine, its builders, handlers and boot.

A file in /run has the digest of what was proven; a boot empties /run, and the digest has the boot's id as well, for hosts in containers.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping

PATH = "/run/multiarch.drone/proof"
BOOT = "/proc/sys/kernel/random/boot_id"


def proof(host: Mapping[str, Any], engine_id: str, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the digest of what a proof would be of, "" where that cannot be told, and whether there is such a proof."""
    qemu, builders = layers["qemu"], layers["builders"]
    boot = _text(BOOT)
    if not boot or any(layer["problems"] or layer["steps"] or layer["busy"] for layer in (qemu, builders)):
        return {"of": "", "kept": False}
    docker = {name: host["docker"].get(name) for name in ("version", "containerd_store", "data_root", "buildx")}
    told = [boot, host["kernel"], docker, engine_id, qemu["facts"].get("platforms")]
    told += [[one["name"], one["user"], one["facts"].get("builder")] for one in builders["results"]]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    return {"of": digest, "kept": _text(PATH) == digest}


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
