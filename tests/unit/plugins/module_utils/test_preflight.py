# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What variables of roles cannot be together is refused before any host is asked; of a runner, in _runner/test_wish.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._preflight import wrong

ROLES = Path(__file__).parents[4] / "roles"
DEFAULTS = {
    name: value
    for role in ("docker_engine", "builder")
    for name, value in yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()).items()
}


def refused(**variables) -> str:
    return "".join(wrong(["docker_engine", "builder"], {**DEFAULTS, **variables}, {}))


def test_defaults_can_be_had():
    assert refused() == ""


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"docker_engine_buildx": "url"}, "needs docker_engine_buildx_url"),
        ({"docker_engine_buildx": "url", "docker_engine_buildx_url": "https://x"}, "docker_engine_buildx_checksum"),
        ({"docker_engine_buildx": "path"}, "the plugin's file on the controller"),
        ({"docker_engine_containerd_store": "false"}, "every builder of this host uses the driver docker"),
        (
            {
                "docker_engine_containerd_store": "false",
                "builder_driver": "docker",
                "builder_builders": [{"name": "a"}],
            },
            "every builder of this host uses the driver docker",
        ),
    ],
)
def test_what_cannot_be_together_is_refused(variables, message):
    assert message in refused(**variables)


@pytest.mark.parametrize(
    "variables",
    [
        {
            "docker_engine_buildx": "url",
            "docker_engine_buildx_url": "https://x",
            "docker_engine_buildx_checksum": "sha256:0",
        },
        {"docker_engine_buildx": "path", "docker_engine_buildx_path": "/x"},
        {"docker_engine_buildx": "url", "docker_engine_state": "absent"},
        {
            "docker_engine_containerd_store": "false",
            "builder_builders": [{"name": "a"}, {"name": "b", "driver": "docker"}],
        },
        {"docker_engine_containerd_store": "false", "builder_builders": []},
    ],
)
def test_what_can_be_together_is_not(variables):
    assert refused(**variables) == ""


def test_builders_are_judged_with_the_engine_alone():
    assert wrong(["docker_engine"], {**DEFAULTS, "docker_engine_containerd_store": "false"}, {}) == []
