# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The real Drone, its runner and its plugin; skipped, with a word, where their images cannot be had."""

from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.tests.real.servers import DRONE, GOGS, HOST, LAB, ON_HOST, have, machine, start


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Return the servers; beside them is a bare host for the runner."""
    machine("engine")
    for image in (DRONE, GOGS, *ON_HOST):
        why = have(image)
        if why:
            pytest.skip(f"the real images cannot be had here: {image}: {why}")
    machine("image", "trixie")
    machine("busybox", "trixie")
    machine("down", LAB)
    try:
        machine("up", LAB, "trixie", HOST)
        yield start(tmp_path_factory.mktemp("gogs"))
    finally:
        machine("down", LAB)
