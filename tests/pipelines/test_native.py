# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Strategy native for real: each platform's pipeline pushes what the plugin would push, and the joining step, run as Drone runs it,
makes one image of that."""

from __future__ import annotations

import base64
import json
import os
import subprocess

import pytest


@pytest.fixture
def plugin(programs, daemon, registry, runner, tmp_path, monkeypatch, lab):
    """Run a platform's pipeline: the plugin's own command, on a BuildKit that stands for that platform's runner."""
    config = tmp_path / "docker"
    (config / "cli-plugins").mkdir(parents=True)
    (config / "cli-plugins/docker-buildx").symlink_to(programs / "docker-buildx")
    login = base64.b64encode(f"{runner.secrets['user']}:{runner.secrets['pass']}".encode()).decode()
    (config / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
    environment = {**os.environ, "DOCKER_CONFIG": str(config), "BUILDX_BUILDER": "native"}
    create = ["docker", "buildx", "create", "--name=native", "--driver=remote", f"unix://{daemon.directory}/own.sock"]
    subprocess.run(create, check=True, capture_output=True, env=environment)

    def run(description, pipeline, **build):
        shown = json.loads(runner.step(description, "--show", pipeline=pipeline, trusted=True, **build).stdout)
        with monkeypatch.context() as patch:
            for name, value in shown["environment"].items():
                patch.setenv(name, value)
            command = lab("plugin").build()
        subprocess.run(["docker", *command], check=True, capture_output=True, env=environment, cwd=runner.workspace)

    return run


@pytest.mark.parametrize(
    ("more", "build_facts", "tags"),
    [
        ({"tags": ["1.0"]}, {}, ["1.0"]),
        ({"auto_tag": True}, {}, ["latest"]),
        (
            {"auto_tag": True, "auto_tag_suffix": "alpine"},
            {"event": "tag", "ref": "refs/tags/v0.2.1"},
            ["0.2-alpine", "0.2.1-alpine"],
        ),
    ],
)
def test_what_the_platforms_pipelines_push_is_joined_under_every_tag(
    runner, build, registry, plugin, more, build_facts, tags
):
    name = build["repo"].partition("/")[2]
    description = {key: value for key, value in build.items() if key != "builders"}
    description.update(strategy="native", registry=registry.host, **more)
    missing = runner.step(description, **build_facts)
    assert missing.returncode, "there is nothing to join yet"
    for architecture in ("amd64", "arm64"):
        plugin(description, f"default-{architecture}", **build_facts)
    done = runner.step(description, **build_facts)
    assert done.returncode == 0, done.stdout
    pushed = [tag for tag in registry.tags(name) if "linux" not in tag]
    assert pushed == tags
    for tag in tags:
        assert registry.platforms(f"{name}:{tag}") == ["linux/amd64", "linux/arm64"]
    assert "******" not in done.stdout
