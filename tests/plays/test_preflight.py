# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables that a role would refuse stop provision_runners before it asks any host, and whoever runs it reads which and why."""

from __future__ import annotations

import json

import pytest

RUNNER = {"drone_runner_url": "https://drone.example.com", "drone_runner_rpc_secret": "hunter2hunter2"}
# Whoever has passed is asked next, and cannot be reached.
PASSED = "UNREACHABLE"


@pytest.fixture
def provision(tmp_path, ansible):
    """Run provision_runners on two hosts that cannot be reached, with extra variables; return what it says."""
    inventory = tmp_path / "inventory"
    inventory.write_text(
        "[runners]\nrunner-1\nrunner-2\n[runners:vars]\nansible_host=unreachable.invalid\ndrone_runner_capacity={{ 1 + 1 }}\n"
    )

    def run(**variables):
        playbook = ("multiarch.drone.provision_runners", "-i", inventory, "--limit", "runner-1")
        return ansible("ansible-playbook", *playbook, "-e", json.dumps(variables)).shown

    return run


@pytest.mark.parametrize(
    "variables", [{}, RUNNER, {"qemu_platforms": "linux/arm64,linux/s390x"}, {"drone_runner_capacity": "many"}]
)
def test_what_can_be_had_goes_on_to_the_hosts(provision, variables):
    """A runner that is not declared has no variables to judge."""
    assert PASSED in provision(**variables)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"builder_builders": [{"name": "x", "node": []}]}, "builder_builders.node"),
        ({"builder_builders": [{"name": "x", "driver": "dokcer"}]}, "must be one of: docker-container"),
        ({"qemu_state": "there"}, "value of qemu_state must be one of: present, absent"),
        ({"docker_engine_min_free_gib": "much"}, "docker_engine_min_free_gib"),
        ({"docker_engine_buildx": "path"}, "needs docker_engine_buildx_path"),
        ({"docker_engine_containerd_store": "false"}, "every builder of this host uses the driver docker"),
        ({**RUNNER, "drone_runner_capacity": "many"}, "drone_runner_capacity"),
        ({**RUNNER, "drone_runner_capacity": 0}, "at least one build"),
        ({**RUNNER, "drone_runner_secrets": "hunter2:x"}, "drone_runner_secrets"),
        ({**RUNNER, "drone_runner_secrets": {"password": "hunter2:x"}}, "secrets"),
        ({**RUNNER, "drone_runner_url": "drone.example.com"}, "drone.example.com"),
        ({**RUNNER, "drone_runner_name": "same"}, "the hosts runner-1, runner-2 have one drone_runner_name, same"),
        ({"drone_runner_url": "https://drone.example.com"}, "rpc_secret"),
    ],
)
def test_what_cannot_is_refused_before_any_host_is_asked(provision, variables, message):
    shown = provision(**variables)
    assert message in shown
    assert "Nothing was changed." in shown
    assert PASSED not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "text",
    [
        'builder_builders=[{"name": "main"}]',
        "builder_builders=main",
        "qemu_packages=[]",
        "docker_engine_daemon_options={debug: true}",
    ],
)
def test_text_where_a_list_or_a_dictionary_belongs_is_told_with_the_way_to_write_it(tmp_path, ansible, text):
    """Ansible takes -e name=value as text, and a survey's answers are text."""
    inventory = tmp_path / "inventory"
    inventory.write_text("[runners]\nrunner-1 ansible_host=unreachable.invalid\n")
    shown = ansible("ansible-playbook", "multiarch.drone.provision_runners", "-i", inventory, "-e", text).shown
    name = text.partition("=")[0]
    assert f"wrong variables: {name} is text" in shown
    assert "or -e @FILE.yml" in shown
    assert PASSED not in shown


@pytest.mark.parametrize("text", ["qemu_platforms=linux/arm64, linux/s390x", "qemu_packages=qemu-user-static"])
def test_words_with_commas_between_them_are_a_list(tmp_path, ansible, text):
    inventory = tmp_path / "inventory"
    inventory.write_text("[runners]\nrunner-1 ansible_host=unreachable.invalid\n")
    name, _equals, value = text.partition("=")
    variables = json.dumps({name: value})
    assert (
        PASSED
        in ansible("ansible-playbook", "multiarch.drone.provision_runners", "-i", inventory, "-e", variables).shown
    )


def test_a_role_that_there_is_not_is_named(tmp_path, ansible):
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{"multiarch.drone.preflight": {"roles": ["dokcer_engine"]}}],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    shown = ansible("ansible-playbook", tmp_path / "play.yml").shown
    assert "value of roles must be one or more of" in shown
    assert "docker_engine" in shown
