# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""site.yml with the real Drone, the real runner and the article's plugin: a bare host, a push, a build, two platforms."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.tests.real.servers import HOST, ON_HOST, OWNER, RPC_SECRET, TOKEN, address

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("MULTIARCH_CACHE") or Path.home() / ".cache/multiarch.drone")
IMAGE = "registry.lab:5000/octocat/example"
PLATFORMS = ["linux/amd64", "linux/arm64"]


def git(*words: object, cwd: Path) -> str:
    names = {
        f"GIT_{who}_{what}": "octocat@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return subprocess.check_output(["git", *map(str, words)], cwd=cwd, text=True, env={**os.environ, **names})


@pytest.fixture(scope="module")
def sources(world, tmp_path_factory) -> Path:
    """Return a clone of the repository, with the sample's sources pushed."""
    folder = tmp_path_factory.mktemp("sources")
    git("init", "-q", "-b", "main", cwd=folder)
    shutil.copy(ROOT / "playbooks/files/sample/Dockerfile", folder)
    shutil.copytree(CACHE / "busybox", folder / "rootfs")
    git("add", "-A", cwd=folder)
    git("commit", "-qm", "The sample", cwd=folder)
    git("remote", "add", "origin", world.remote, cwd=folder)
    git("push", "-q", "origin", "main", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def play(world, tmp_path_factory):
    """Run a playbook on the fleet of one host; return how many tasks changed something, and what was printed."""
    folder = tmp_path_factory.mktemp("fleet")
    plugin = {
        "registry": "registry.lab:5000",
        "insecure": True,
        "buildkit_config": '[registry."registry.lab:5000"]\n  http = true\n',
    }
    variables = {
        "ansible_connection": "community.docker.docker",
        "ansible_python_interpreter": "/usr/bin/python3",
        "docker_engine_insecure_registries": ["registry.lab:5000"],
        "qemu_platforms": PLATFORMS,
        "drone_runner_url": world.drone.url,
        "drone_runner_rpc_secret": RPC_SECRET,
        "drone_runner_token": TOKEN,
        "drone_runner_image": ON_HOST[0],
        "drone_repos_url": world.drone.url,
        "drone_repos_token": TOKEN,
        "drone_repos_repos": [{"slug": f"{OWNER}/example", "active": True, "trusted": True}],
        "drone_pipelines_url": world.drone.url,
        "drone_pipelines_token": TOKEN,
        "drone_pipelines_pipelines": [
            {
                "repos": [{"url": world.remote, "slug": f"{OWNER}/example"}],
                "pipeline": {"repo": IMAGE, "auto_tag": True, "platforms": PLATFORMS, "settings": plugin},
            }
        ],
    }
    (folder / "inventory.json").write_text(
        json.dumps({"all": {"children": {"runners": {"hosts": {HOST: {}}, "vars": {}}}, "vars": variables}})
    )

    # What this machine's engine has, the host's need not pull.
    def fill() -> None:
        for image in ON_HOST:
            save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
            subprocess.run(["docker", "exec", "-i", HOST, "docker", "load", "-q"], stdin=save.stdout, check=True)
            assert save.wait() == 0

    def run(name: str, *words: str) -> tuple[int, str]:
        ran = subprocess.run(
            [BIN / "ansible-playbook", "-i", folder / "inventory.json", f"multiarch.drone.{name}", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"), "ANSIBLE_NOCOLOR": "1"},
        )
        assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
        return sum(map(int, re.findall(r"changed=(\d+)", ran.stdout))), ran.stdout

    run("provision_runners", "-e", "drone_runner_url=")  # the engine, before there is a runner to pull
    fill()
    return run


@pytest.fixture(scope="module")
def built(world, sources, play):
    """Return the build that the deployed pipeline's own commit starts."""
    changed, _shown = play("site")
    assert changed > 0
    return world.build(1)


def test_the_pushed_pipeline_builds_and_the_registry_has_every_platform(world, built):
    assert built["status"] == "success", world.log(1)
    request = urllib.request.Request(
        f"http://{address('real-registry')}:5000/v2/octocat/example/manifests/latest",
        headers={"Accept": "application/vnd.oci.image.index.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        index = json.load(answer)
    platforms = {f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in index["manifests"]}
    assert set(PLATFORMS) <= platforms


def test_the_build_ran_on_our_runner(world, built):
    assert built["stages"][0]["machine"] == HOST


def test_a_second_run_changes_nothing_and_starts_no_build(world, built, play):
    changed, shown = play("site")
    assert changed == 0, shown
    assert [build["number"] for build in world.builds()] == [1]
