# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's other ways to run a playbook: the example for AWX by ansible-runner and ansible-navigator, and what ansible-builder reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "playbooks/examples/awx"
BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef0123456789abcdef"
REPOS = ("octocat/example", "octocat/base", "octocat/other")


def run(command, *arguments, cwd, **environment):
    mine = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
        "ANSIBLE_NOCOLOR": "1",
        "HOME": str(cwd),
        **environment,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DRONE_", "ANSIBLE_"))}
    ran = subprocess.run(
        [BIN / command, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **mine},
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def server():
    with DroneServer(tokens={"octocat": TOKEN}, repos=REPOS) as running:
        yield running


@pytest.fixture
def project(tmp_path, server):
    """Copy the example, with the answers of its survey as texts, and the server and the token of the test."""
    copy = tmp_path / "awx"
    shutil.copytree(EXAMPLE, copy)
    path = copy / "env/extravars"
    answers = {**yaml.safe_load(path.read_text()), "drone_repos_url": server.url, "drone_repos_token": TOKEN}
    assert all(isinstance(value, str) for value in answers.values())
    path.write_text(json.dumps(answers))
    return copy


def trusted(server):
    return [slug for slug in REPOS if server.repo(slug)["trusted"]]


def test_the_survey_of_the_example_asks_for_what_its_answers_are():
    survey = json.loads((EXAMPLE / "survey.json").read_text())["spec"]
    answers = yaml.safe_load((EXAMPLE / "env/extravars").read_text())
    asked = {row["variable"] for row in survey}
    assert asked - {"drone_repos_token"} <= set(answers)
    options = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        options.update(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    assert {name for name in answers if not name.startswith("report")} <= set(options)
    assert {type(row["default"]) for row in survey} == {str}


@pytest.mark.parametrize("playbook", ["drone_state.yml", "site.yml"])
def test_ansible_runner_runs_the_project_with_a_surveys_answers_as_texts(project, server, playbook):
    arguments = ("run", project, "-p", playbook, "--limit", "localhost", "--rotate-artifacts", "1")
    code, shown = run("ansible-runner", *arguments, cwd=project.parent)
    assert code == 0, shown
    assert trusted(server) == ["octocat/example", "octocat/base"]
    server.forget_requests()
    code, shown = run("ansible-runner", *arguments, cwd=project.parent)
    assert code == 0, shown
    assert server.changes == []
    assert TOKEN not in shown


def test_a_surveys_answers_are_judged_before_any_host_is_asked(project):
    path = project / "env/extravars"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "drone_runner_capacity": "many", "drone_runner_url": "x"})
    )
    code, shown = run("ansible-runner", "run", project, "-p", "site.yml", cwd=project.parent)
    assert code != 0
    assert "drone_runner_capacity" in shown
    assert "Nothing was changed." in shown
    assert "UNREACHABLE" not in shown


def test_the_platforms_of_a_survey_are_taken_by_the_roles(project):
    """In check mode on this host: what the roles would register is named, a platform at a time."""
    hosts = {"runners": {"hosts": {"here": {"ansible_connection": "local", "ansible_become": False}}}}
    (project / "inventory/hosts.yml").write_text(json.dumps({"all": {"children": hosts}}))
    play = [
        {
            "hosts": "here",
            "gather_facts": False,
            "tasks": [{"multiarch.drone.preflight": {"roles": ["docker_engine", "qemu", "builder"]}}],
        }
    ]
    (project / "project/preflight.yml").write_text(json.dumps(play))
    code, shown = run("ansible-runner", "run", project, "-p", "preflight.yml", cwd=project.parent)
    assert code == 0, shown


def test_ansible_navigator_runs_the_project(project, server):
    code, shown = run(
        "ansible-navigator",
        *("run", project / "project/drone_state.yml", "-i", project / "inventory/hosts.yml", "--limit", "localhost"),
        *("--mode", "stdout", "--execution-environment", "false", "--playbook-artifact-enable", "false"),
        *("-e", f"@{project}/env/extravars"),
        cwd=project.parent,
    )
    assert code == 0, shown
    assert trusted(server) == ["octocat/example", "octocat/base"]


def test_ansible_builder_reads_what_the_collection_needs():
    code, shown = run("ansible-builder", "introspect", ROOT / "build/collections", cwd=ROOT / "build")
    assert code == 0, shown
    needs = yaml.safe_load(shown[shown.index("---") :] if "---" in shown else shown)
    # PyYAML is ansible-core's: ansible-builder leaves it out.
    assert {line.split(">")[0] for line in needs["python"]} >= {"cryptography"}
    assert {line.split()[0] for line in needs["system"]} >= {"git", "openssh-client"}


def test_ansible_builder_makes_a_build_context_of_the_example(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "awx")
    code, shown = run(
        "ansible-builder",
        *("create", "-f", tmp_path / "awx/execution-environment.yml", "-c", tmp_path / "context", "-v", "3"),
        cwd=tmp_path / "awx",
    )
    assert code == 0, shown
    (made,) = (tmp_path / "context").glob("*file")  # as docker or podman call it
    assert "debian:trixie-slim" in made.read_text()
    assert "multiarch.drone" in (tmp_path / "context/_build/requirements.yml").read_text()
