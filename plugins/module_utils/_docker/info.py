# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a runner host is made of, and what it lacks, as the module's result tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from .._problem import Problem
from . import host as _host

if TYPE_CHECKING:
    from .._arguments import Module

CHECKS = [
    "distribution",
    "rights",
    "systemd",
    "kernel",
    "disk",
    "engine",
    "privileged",
    "buildx",
    "containerd_store",
    "image_store",
]
# What of a host is looked at, as an argument spec.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "require": {"type": "list", "elements": "str", "choices": CHECKS, "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "disk_path": {"type": "path", "default": "/var/lib/docker"},
    "min_free_gib": {"type": "float", "default": 5},
    "engine_source": {"type": "str", "choices": ["auto", "distribution", "docker"], "default": "distribution"},
}


def judged(module: Module, host: _host.Host) -> dict[str, Any]:
    """Return a host as the result tells it; raise a Problem where it lacks what is required."""
    wanted = module.params
    problems = _host.problems(host, min_free_gib=wanted["min_free_gib"], engine_source=wanted["engine_source"])
    facts = {**_host.as_result(host, wanted["engine_source"]), "problems": problems}
    lacking = [problems[check] for check in wanted["require"] if check in problems]
    if lacking:
        raise Problem(
            "this host cannot become what is declared: " + " | ".join(lacking),
            "nothing was changed",
            # Two kilobytes of facts hide the words: only at -v.
            **(facts if module._verbosity else {}),
        )
    return {"changed": False, **facts}
