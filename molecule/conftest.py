# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the verifiers of several scenarios share."""

from __future__ import annotations

import json
import os
import subprocess

import pytest


@pytest.fixture(scope="session")
def play():
    """Run a playbook on the scenario's hosts, and return what happened on each: {"changed": 0, "failures": 0, …}."""

    def run(playbook, *arguments):
        inventory = os.environ["MOLECULE_INVENTORY_FILE"]
        ran = subprocess.run(
            ["ansible-playbook", "-i", inventory, playbook, *arguments],
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return json.loads(ran.stdout[ran.stdout.index("{") :])["stats"]

    return run
