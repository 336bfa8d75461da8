# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role drone_pipelines brings pipelines to directories and repositories, shows the YAML, and prints no password."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = {"repo": "octocat/example", "tags": ["latest"], "platforms": ["linux/amd64", "linux/arm64"]}


@pytest.fixture
def role(tmp_path, ansible):
    """Run the role with these entries; return what Ansible prints, its exit code, and how many tasks changed something."""

    def run(entries, *arguments, **variables):
        play = tmp_path / "play.yml"
        given = {"drone_pipelines_pipelines": entries, **variables}
        roles = [{"role": "multiarch.drone.drone_pipelines"}]
        (tmp_path / "vars.yml").write_text(json.dumps(given))
        play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "roles": roles}]))
        return ansible("ansible-playbook", play, "-e", f"@{tmp_path}/vars.yml", "--diff", *arguments)

    return run


def test_check_shows_the_yaml_the_run_writes_it_and_a_second_run_changes_nothing(role, tmp_path):
    work, bare = tmp_path / "work", tmp_path / "git/octocat/app.git"
    work.mkdir()
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare], check=True)
    entries = [
        {"pipeline": BUILD, "path": str(work), "config_path": "ci.yml"},
        {"pipeline": {**BUILD, "name": "images", "strategy": "native"}, "repos": [{"url": f"file://{bare}"}]},
    ]
    platforms = {
        "drone_pipelines_native_platforms": ["linux/amd64", "linux/arm64"],
        "drone_pipelines_runner_platforms": ["linux/amd64", "linux/arm64"],
    }
    shown, code, changed = role(entries, "--check", **platforms)
    assert (code, changed) == (0, 1), shown
    assert "+  - name: docker" in shown
    assert re.search(r"^\+ *name: images-arm64", shown, re.MULTILINE), shown
    assert os.listdir(work) == []
    shown, code, changed = role(entries, **platforms)
    assert (code, changed) == (0, 1), shown
    assert yaml.safe_load((work / "ci.yml").read_text())["steps"][0]["settings"]["repo"] == "octocat/example"
    text = subprocess.check_output(["git", "-C", bare, "show", "main:.drone.yml"], text=True)
    assert [document["name"] for document in yaml.safe_load_all(text)] == ["images-amd64", "images-arm64", "images"]
    assert role(entries, **platforms)[1:] == (0, 0)
    shown, code, _changed = role(entries, drone_pipelines_native_platforms=["linux/amd64"])
    assert code
    assert "no host builds linux/arm64" in shown
    assert role(entries, drone_pipelines_state="absent", **platforms)[1:] == (0, 1)
    assert os.listdir(work) == []


@pytest.mark.parametrize("verbosity", ["-v", "-vvvv"])
def test_no_password_is_printed_where_a_repository_fails_and_where_one_stands_in_the_file(role, tmp_path, verbosity):
    pipeline = {**BUILD, "settings": {"username": "octocat", "password": "hunter2-in-the-file"}}
    entries = [
        {"pipeline": pipeline, "path": str(tmp_path)},
        {"pipeline": BUILD, "repos": [{"url": "http://octocat:hunter2-in-the-url@127.0.0.1:1/octocat/app.git"}]},
    ]
    more = {"drone_pipelines_allow_plaintext": True, "drone_pipelines_git_password": "hunter2-of-git"}
    shown, code, _changed = role(entries, verbosity, **more)
    assert code
    assert "127.0.0.1" in shown
    assert "hunter2" in (tmp_path / ".drone.yml").read_text()
    assert "hunter2" not in shown
