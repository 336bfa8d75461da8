# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The example fleet, copied as it is: what its inventory tells the roles, and what site.yml does on the controller."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / "playbooks/examples/fleet"
BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef0123456789abcdef"  # the example's vault has it
REPOS = ("octocat/example", "octocat/compiled")


@pytest.fixture
def server():
    with DroneServer(tokens={"octocat": TOKEN}, repos=REPOS) as running:
        yield running


@pytest.fixture
def fleet(tmp_path, ansible):
    """Run one of Ansible's commands on the example, whose repositories are bare ones of this machine."""
    (tmp_path / "password").write_text("example\n")
    for slug in REPOS:
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / f"git/{slug}.git"], check=True)
    (tmp_path / ".gitconfig").write_text(f'[url "file://{tmp_path}/git/"]\n  insteadOf = https://git.example.com/\n')

    # The controller by name, so that a run can be limited to it.
    controller = tmp_path / "controller.ini"
    controller.write_text("localhost ansible_connection=local ansible_python_interpreter={{ansible_playbook_python}}\n")

    def run(command, *arguments):
        given = ("-i", FLEET / "inventory.yml", "--vault-password-file", tmp_path / "password")
        return ansible(command, *given, *arguments)

    run.controller = controller
    return run


def site(fleet, server, *arguments):
    """Run site.yml on the controller alone; return what it printed and how many tasks changed something."""
    ran = fleet(
        *("ansible-playbook", "multiarch.drone.site", "-i", fleet.controller, "--limit", "localhost", "--diff"),
        *("-e", f"drone_repos_url={server.url}", *arguments),
    )
    assert ran.code == 0, ran.shown
    return ran.shown, ran.changed


def committed(tmp_path, slug):
    """Return a repository's .drone.yml as documents."""
    text = subprocess.check_output(["git", "-C", tmp_path / f"git/{slug}.git", "show", "main:.drone.yml"], text=True)
    return list(yaml.safe_load_all(text))


def test_check_foresees_trust_secrets_and_pipelines_the_run_makes_them_and_a_second_run_changes_nothing(
    fleet, server, tmp_path
):
    # The pipelines are checked against trust and secrets that in check mode the server does not have yet.
    shown, foreseen = site(fleet, server, "--check")
    assert server.changes == []
    shown, changed = site(fleet, server)
    assert changed == foreseen == 3, shown
    assert server.repo("octocat/example")["trusted"]
    assert not server.repo("octocat/compiled")["trusted"]
    (emulated,) = committed(tmp_path, "octocat/example")
    assert emulated["steps"][0]["settings"]["platforms"] == ["linux/amd64", "linux/arm64", "linux/arm/v7"]
    assert emulated["steps"][0]["privileged"]
    amd64, arm64, joined = committed(tmp_path, "octocat/compiled")
    assert [document["platform"]["arch"] for document in (amd64, arm64)] == ["amd64", "arm64"]
    assert joined["depends_on"] == [amd64["name"], arm64["name"]]
    assert "not-a-real" not in shown
    server.forget_requests()
    shown, changed = site(fleet, server)
    assert changed == 0, shown
    assert server.changes == []


def test_what_the_inventory_says_of_a_host_is_what_its_roles_take(fleet):
    listed = fleet("ansible-inventory", "--host", "arm64-1.example.org")
    assert listed.code == 0, listed.shown
    given = json.loads(listed.shown[listed.shown.index("{") :])
    for role in ("docker_engine", "qemu", "builder", "drone_runner", "drone_repos", "drone_pipelines"):
        spec = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
        options = spec["argument_specs"]["main"]["options"]
        of_role = {name: value for name, value in given.items() if name.startswith(f"{role}_")}
        assert set(of_role) <= set(options)
        plain = {name: value for name, value in of_role.items() if "{{" not in str(value)}
        known = {
            name: {k: v for k, v in options[name].items() if k in ("type", "elements", "choices")} for name in plain
        }
        assert ArgumentSpecValidator(known).validate(plain).error_messages == []
