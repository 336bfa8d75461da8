# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Habits of all playbooks: tags, patterns that match nothing, check mode without hosts to judge, and short refusals."""

from __future__ import annotations

import json
import sys

import pytest

PLAYBOOKS = {
    "provision_runners": {"engine", "qemu", "builder", "runner"},
    "verify": {"verify", "engine", "qemu", "builder", "runner"},
    "drone_state": {"drone"},
    "trust_repos": {"drone"},
    "deploy_pipelines": {"pipelines"},
    "buildkitd_builder": {"builder"},
    "teardown": {"engine", "qemu", "builder", "runner"},
    "report": {"report"},
    "site": {"engine", "qemu", "builder", "runner", "drone", "pipelines", "verify"},
}


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory"
    path.write_text(
        "localhost ansible_connection=local\n[runners]\nrunner-1 ansible_host=unreachable.invalid\n[builders]\n"
    )
    return path


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_part_of_a_playbook_can_be_run_by_its_tag(ansible, inventory, name):
    shown = ansible("ansible-playbook", f"multiarch.drone.{name}", "-i", inventory, "--list-tasks").shown
    tags = {
        tag.strip()
        for line in shown.splitlines()
        if "TAGS: [" in line
        for tag in line.split("TAGS: [")[1].rstrip("]").split(",")
    }
    assert PLAYBOOKS[name] <= tags


@pytest.mark.parametrize("name", ["site", "verify"])
def test_a_pattern_that_matches_no_host_is_an_error(ansible, inventory, name):
    ran = ansible("ansible-playbook", f"multiarch.drone.{name}", "-i", inventory, "-e", "runner_hosts=runers")
    assert ran.code != 0
    assert "no host of the inventory matches runers" in ran.shown


def test_verify_judges_nothing_in_check_mode_and_says_so(ansible, inventory):
    inventory.write_text("localhost ansible_connection=local\n[runners]\nrunner-1 ansible_connection=local\n")
    ran = ansible("ansible-playbook", "multiarch.drone.verify", "-i", inventory, "--check")
    assert ran.code == 0, ran.shown
    assert "Nothing is judged in check mode" in ran.shown


NOBODY = "--tags engin selects no part of multiarch.drone"


@pytest.mark.parametrize("name", ["site", "provision_runners", "verify", "teardown"])
def test_tags_that_select_nothing_of_ours_are_told(ansible, inventory, name):
    inventory.write_text(inventory.read_text().replace("unreachable.invalid", "localhost ansible_connection=local"))
    ran = ansible("ansible-playbook", f"multiarch.drone.{name}", "-i", inventory, "--check", "--tags", "engin")
    assert NOBODY in " ".join(ran.shown.split())


def test_a_tag_of_a_playbook_around_ours_selects_all_of_it(ansible, inventory, tmp_path):
    playbook = tmp_path / "mine.yml"
    playbook.write_text('[{"import_playbook": "multiarch.drone.verify", "tags": ["mine"]}]')
    ran = ansible("ansible-playbook", playbook, "-i", inventory, "--check", "--tags", "mine")
    assert "selects no part" not in ran.shown


@pytest.fixture
def without_python(inventory):
    inventory.write_text(
        "localhost ansible_connection=local\n[runners]\n"
        "runner-1 ansible_connection=local ansible_become=false ansible_python_interpreter=/nowhere/python3\n"
    )
    return inventory


def test_a_host_without_python_is_predicted_as_far_as_can_be_said(ansible, without_python):
    """The run itself is in molecule/default, where there is a host to install Python on."""
    ran = ansible("ansible-playbook", "multiarch.drone.site", "-i", without_python, "--check")
    assert (ran.code, ran.changed) == (0, 1), ran.shown
    assert (
        "python3 would be installed. What else a run would do on this host cannot be said before it is there."
        in ran.shown
    )
    assert "fatal" not in ran.shown


def test_a_host_without_python_is_refused_once_and_in_one_line_where_none_shall_be_installed(ansible, without_python):
    wish = ("-e", "runner_bootstrap_python=false")
    ran = ansible("ansible-playbook", "multiarch.drone.provision_runners", "-i", without_python, *wish)
    assert (ran.code, ran.changed) == (2, 0)
    assert ran.shown.count("fatal: [runner-1]") == 1
    (line,) = [line for line in ran.shown.splitlines() if line.startswith("fatal: ")]
    assert "this host has no Python, which every module needs" in line
    assert len(line) < 300
    assert "module_stdout" not in ran.shown


def test_a_host_without_python_has_nothing_that_could_be_taken_back(ansible, without_python):
    ran = ansible("ansible-playbook", "multiarch.drone.teardown", "-i", without_python)
    assert (ran.code, ran.changed) == (0, 0), ran.shown


def test_a_host_that_is_refused_says_so_once_and_without_its_facts(ansible, inventory):
    """This machine has no systemd; where it has, something else is asked of it that nothing has."""
    inventory.write_text(
        "localhost ansible_connection=local\n[runners]\nrunner-1 ansible_connection=local ansible_become=false\n"
        f"[all:vars]\nansible_python_interpreter={sys.executable}\ndocker_engine_min_free_gib=999999999\n"
    )
    ran = ansible("ansible-playbook", "multiarch.drone.provision_runners", "-i", inventory)
    assert (ran.code, ran.changed) == (2, 0)
    assert ran.shown.count("fatal: [runner-1]") == 1
    assert "GiB are free at" in ran.shown
    for fact in (
        "architecture",
        "missing_capabilities",
        "invocation",
        "NoneType",
        "An exception occurred",
        "Traceback",
    ):
        assert fact not in ran.shown


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"drone_repos_url": "x", "drone_repos_token": "x", "drone_repos_crons": [{"repo": "a/b", "name": "n", "expr": "0 1 * * *"}]}, "drone_repos_crons"),
        ({"drone_repos_url": "x", "drone_repos_token": "x", "drone_repos_trusted": ["octocat"]}, "drone_repos_trusted"),
        ({"qemu_platforms": ["linux/arm65"]}, "qemu_platforms"),
        ({"builder_builders": [{"name": "b", "nodes": [{"platforms": ["linux/arm65"]}]}]}, "builder_builders"),
    ],
)  # fmt: skip
def test_site_refuses_what_its_later_parts_could_not_take_in_a_few_lines(ansible, inventory, variables, message):
    ran = ansible("ansible-playbook", "multiarch.drone.site", "-i", inventory, "-e", json.dumps(variables))
    assert ran.code != 0
    assert message in ran.shown
    assert "Nothing was changed." in ran.shown
    assert "UNREACHABLE" not in ran.shown
    for noise in ("NoneType", "An exception occurred", "Traceback"):
        assert noise not in ran.shown


@pytest.mark.parametrize("exclusive", ["false", "true"])
def test_a_host_is_asked_at_once_for_the_builders_that_the_role_declares_one_by_one(
    ansible, inventory, tmp_path, exclusive
):
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.import_role": {"name": "multiarch.drone.builder", "tasks_from": "wish"}},
            {
                "ansible.builtin.copy": {
                    "content": "{{ __builder_wish | to_json }}",
                    "dest": str(tmp_path / "wish.json"),
                }
            },
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    builders = [
        {"name": "z", "user": "ci", "nodes": [{"platforms": ["linux/arm64"]}]},
        {"name": "b", "driver": "docker", "default": True},
        {"name": "a", "user": "ci", "recreate": "never"},
    ]
    ran = ansible(
        "ansible-playbook", tmp_path / "play.yml", "-i", inventory, "-e", json.dumps({"builder_builders": builders}),
        "-e", f"builder_exclusive={exclusive}", "-e", "builder_timeout=7",
        "-e", "ansible_python_interpreter={{ ansible_playbook_python }}",
    )  # fmt: skip
    assert ran.code == 0, ran.shown
    whole = {"user": "root", "driver": "docker-container", "state": "present", "timeout": 7}
    wanted = [{**whole, **builder} for builder in builders]
    if exclusive == "true":
        for builder, names in zip(wanted, (["z", "a"], ["b"], ["z", "a"])):
            builder["exclusive"] = names
    assert json.loads((tmp_path / "wish.json").read_text()) == wanted
