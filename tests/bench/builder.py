# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A converged buildx_builder against a ping, for each driver that runs without a cluster; and what it asks of Docker.

Ratios in one run: the tasks of a play take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.results import Results

TREE = Path(os.path.abspath(__file__)).parents[2]
sys.path[:0] = [str(TREE / "build/collections"), str(TREE / "tests/buildkit")]
ROUNDS = 15
LIMIT = 1.6
IMAGE = "moby/buildkit:multiarch.drone-bench"
# What buildx gives a container; --privileged is more than some machines have to give, and nothing that is compared.
CONTAINER = (
    "run", "--detach", "--name", "buildx_buildkit_bench0", "--restart", "unless-stopped", "--cgroup-parent", "/docker/buildx",
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined",
    "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
    "--volume", "buildx_buildkit_bench0_state:/var/lib/buildkit",
)  # fmt: skip
COUNT = '#!/bin/sh\necho "$@" | tr "\\n" " " | sed "s/$/\\n/" >>"$0.calls"\nexec docker "$@"\n'


def main() -> int:
    """Measure, print a line for each, and return the exit code."""
    results = Results("builder")
    conftest = importlib.import_module("conftest")
    image = subprocess.check_output([TREE / "tests/tools/buildkit", "image"], text=True).strip()
    programs = Path(image).parent
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        user = conftest.User(scratch / "home", programs)
        os.environ.update(user.env)
        (scratch / "bk").mkdir()
        daemon = conftest.Daemon(programs, scratch / "bk", f"unix://{scratch}/bk/s.sock").start()
        stack.callback(daemon.stop)
        container(stack, image)
        tasks = {
            "docker-container": {"name": "bench", "nodes": [{"driver_opts": {"image": IMAGE}}]},
            "remote": {"name": "far", "driver": "remote", "nodes": [{"endpoint": daemon.address}]},
            "docker": {"name": "default", "driver": "docker"},
        }
        user.declare(bootstrap=False, **{"driver": "docker-container", **tasks["docker-container"]})
        user.declare(**tasks["remote"])
        seconds = play(scratch, tasks)
        for driver, options in tasks.items():
            calls = count(scratch, user, {"driver": driver, **options})
            told = f"a converged builder, driver {driver}, whole task / ping"
            results.told(told, seconds[driver] / seconds["ping"], LIMIT)
            results.told(f"a converged builder, driver {driver}, docker processes", calls, 2, "processes")
    return results.end()


def container(stack: contextlib.ExitStack, image: str) -> None:
    """Run the container that buildx would have made."""

    def docker(*args: str, **options) -> None:
        subprocess.run(["docker", *args], stdout=subprocess.DEVNULL, check=True, **options)

    entrypoint = 'ENTRYPOINT ["/usr/bin/buildkitd"]'
    docker("import", "-c", entrypoint, "-c", "ENV PATH=/usr/bin:/bin:/sbin", image, IMAGE)
    stack.callback(docker, "image", "rm", IMAGE)
    stack.callback(docker, "volume", "rm", "buildx_buildkit_bench0_state")
    stack.callback(docker, "rm", "--force", "buildx_buildkit_bench0")
    docker(*CONTAINER, IMAGE, "--allow-insecure-entitlement=network.host")


def play(scratch: Path, tasks) -> dict[str, float]:
    """Return the median seconds of each kind of task, in one run of ansible-playbook in which they take turns."""
    kinds = {name: {"multiarch.drone.buildx_builder": {"driver": name, **options}} for name, options in tasks.items()}
    kinds["ping"] = {"ansible.builtin.ping": {}}
    listed = [{"name": name, **task} for _unused in range(ROUNDS) for name, task in kinds.items()]
    playbook = scratch / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": listed}]))
    done = subprocess.run(
        [
            *(f"{os.path.dirname(sys.executable)}/ansible-playbook", "-i", "localhost,", "-c", "local", "-f", "1"),
            *("-e", f"ansible_python_interpreter={sys.executable}", str(playbook)),
        ],
        env={
            **os.environ,
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_PLUGINS": str(TREE / "tests/bench/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_seconds",
            "TASK_SECONDS": str(scratch / "seconds"),
            "ANSIBLE_PIPELINING": "true",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert all(word in done.stdout for word in ("changed=0", "failed=0")), done.stdout
    seconds: dict[str, list[float]] = {}
    for line in (scratch / "seconds").read_text().splitlines():
        name, took = line.split()
        seconds.setdefault(name, []).append(float(took))
    return {name: statistics.median(took[1:]) for name, took in seconds.items()}


def count(scratch: Path, user, wish) -> int:
    """Return how many docker processes a converged run starts."""
    cli = scratch / "docker-counted"
    cli.write_text(COUNT)
    cli.chmod(0o755)
    calls = Path(f"{cli}.calls")
    calls.write_text("")
    assert not user.declare(docker_cli=str(cli), **wish)["changed"]
    lines = calls.read_text().splitlines()
    assert not any(word in line.split() for line in lines for word in ("run", "create", "start")), lines
    return len(lines)


if __name__ == "__main__":
    sys.exit(main())
