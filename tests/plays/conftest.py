# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's commands with our collection, run as a user of the test's own runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Ran(NamedTuple):
    """What a command printed, how it ended, and how many tasks changed something."""

    shown: str
    code: int
    changed: int


@pytest.fixture
def ansible(tmp_path):
    """Run one of Ansible's commands: ansible("ansible-playbook", "play.yml")."""

    def run(command, *arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DRONE_")}
        ours = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"), "ANSIBLE_NOCOLOR": "1"}
        ran = subprocess.run(
            [Path(sys.executable).parent / command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**environment, **ours, "HOME": str(tmp_path)},
        )
        changed = sum(map(int, re.findall(r"changed=(\d+)", ran.stdout)))
        return Ran(ran.stdout + ran.stderr, ran.returncode, changed)

    return run
