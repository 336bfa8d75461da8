# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the verifiers of several scenarios share."""

from __future__ import annotations

import json
import os
import subprocess

import pytest


def _run(playbook, *arguments):
    """Run a playbook on the scenario's hosts; return its exit status and what the JSON callback says."""
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    ran = subprocess.run(
        ["ansible-playbook", "-i", inventory, playbook, *arguments],
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout[ran.stdout.index("{") :])


@pytest.fixture(scope="session")
def play():
    """Run a playbook on the scenario's hosts, and return what happened on each: {"changed": 0, "failures": 0, …}."""

    def run(playbook, *arguments):
        _code, said = _run(playbook, *arguments)
        for task, result in _results(said):
            if result.get("failed"):
                print(f"{task}: {json.dumps(result)[:4000]}")  # pytest shows it where the test fails
        return said["stats"]

    return run


@pytest.fixture(scope="session")
def refusal():
    """Run a playbook that has to fail, and return what its failed tasks say."""

    def run(playbook, *arguments):
        code, said = _run(playbook, *arguments)
        assert code != 0
        failed = [result for _task, result in _results(said) if result.get("failed")]
        return [result["msg"] for result in failed]

    return run


def _results(said):
    for play in said["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                yield task["task"]["name"].partition(" : ")[2] or task["task"]["name"], result


def _changes(said):
    """Return what changed on each host: the tasks, and of a loop the items, in their order."""
    found = {}
    for play in said["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                for one in result.get("results", [result]):
                    label = one.get("_ansible_item_label", one.get("item", ""))
                    if one.get("changed"):
                        found.setdefault(host, []).append(f"{task['task']['name']} {json.dumps(label)}")
    return found


@pytest.fixture(scope="session")
def predicted():
    """Run a playbook in check mode, then run it, then again: the first says what the second changes, the third changes nothing.

    Return what was changed on each host.
    """

    def run(playbook, *arguments):
        (code, foreseen), (done_code, done), (again_code, again) = (
            _run(playbook, *arguments, *more) for more in (["--check", "--diff"], [], [])
        )
        failures = [
            result.get("msg")
            for said in (foreseen, done, again)
            for _task, result in _results(said)
            if result.get("failed")
        ]
        assert (code, done_code, again_code) == (0, 0, 0), failures
        assert _changes(foreseen) == _changes(done)
        assert _changes(again) == {}
        return _changes(done)

    return run
