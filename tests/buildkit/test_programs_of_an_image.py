# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role buildkitd takes its programs out of an image, with the real Docker: molecule/buildkitd proves its other sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "multiarch.test/buildkit:programs"


@pytest.fixture
def image(programs):
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine runs here")
    tar = subprocess.check_output([ROOT / "tests/tools/buildkit", "image"], text=True).strip()
    subprocess.run(["docker", "import", tar, IMAGE], check=True, stdout=subprocess.DEVNULL)
    yield IMAGE
    subprocess.run(["docker", "image", "rm", IMAGE], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def unpack(tmp_path):
    """Run the role's tasks, and return what Ansible says, and which programs there are now."""

    def run(image, path=None):
        target = tmp_path / "programs"
        names = {"buildkitd_image": image, "__buildkitd_programs": str(target)}
        tasks = [{"ansible.builtin.include_tasks": str(ROOT / "roles/buildkitd/tasks/from_image.yml"), "vars": names}]
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "environment": {"PATH": path} if path else {},
            "tasks": tasks,
        }
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        command = [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
        ]
        done = subprocess.run([*command, tmp_path / "play.yml"], capture_output=True, text=True, check=False)
        assert not (tmp_path / "programs.new").exists()
        return done, sorted(entry.name for entry in target.iterdir()) if target.exists() else []

    return run


def containers():
    return subprocess.check_output(["docker", "ps", "-aq", "--filter", f"ancestor={IMAGE}"], text=True).split()


def test_the_programs_of_an_image_are_taken_out_once_and_no_container_stays(image, unpack, tmp_path):
    done, there = unpack(image)
    assert "changed=1" in done.stdout, done.stdout
    assert there == ["buildctl", "buildkit-runc", "buildkitd"]
    assert "buildkitd github.com/moby/buildkit" in subprocess.check_output(
        [tmp_path / "programs/buildkitd", "--version"], text=True
    )
    assert containers() == []
    again, _unused = unpack(image)
    assert "changed=0" in again.stdout, again.stdout


def test_the_programs_of_an_image_are_a_daemon_that_executes_builds_with_nothing_beside_them(
    image, unpack, tmp_path, another_daemon
):
    unpack(image)
    taken = tmp_path / "programs"
    # No runc but the image's own, instead of which the daemon would take this machine's without a word.
    daemon = another_daemon(of=taken, path=str(taken))
    buildctl = [taken / "buildctl", "--addr", daemon.address]
    told = subprocess.check_output([*buildctl, "debug", "workers", "--format={{json .}}"])
    says = subprocess.check_output([taken / "buildkitd", "--version"], text=True)
    assert json.loads(told)[0]["buildkitVersion"]["version"] == says.split()[2]
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(taken / "buildctl", context)  # a program that needs no library
    (context / "Dockerfile").write_text('FROM scratch\nCOPY buildctl /\nRUN ["/buildctl", "--version"]\n')
    here = [f"--local={what}={context}" for what in ("context", "dockerfile")]
    build = [*buildctl, "build", "--frontend=dockerfile.v0", "--progress=plain", *here]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " buildctl github.com/moby/buildkit" in done.stderr


def test_an_image_that_lacks_the_programs_or_is_not_to_be_had_leaves_nothing(image, unpack):
    layer = f"FROM {image}\nRUN rm /usr/bin/buildctl\n"
    lacking = "multiarch.test/buildkit:lacking"
    subprocess.run(
        ["docker", "build", "-q", "-t", lacking, "-"], input=layer, text=True, check=True, stdout=subprocess.DEVNULL
    )
    try:
        done, there = unpack(lacking)
    finally:
        subprocess.run(["docker", "image", "rm", lacking], check=True, stdout=subprocess.DEVNULL)
    assert "/usr/bin/buildctl" in done.stdout, done.stdout
    assert (there, containers()) == ([], [])
    done, there = unpack("127.0.0.1:1/buildkit")
    assert "127.0.0.1:1" in done.stdout, done.stdout
    assert there == []


def test_a_host_without_docker_is_told(unpack):
    done, there = unpack(IMAGE, path="/nowhere:/usr/sbin:/sbin")
    assert "there is no docker on this host to unpack it" in done.stdout
    assert there == []
