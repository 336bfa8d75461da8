# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A converged binfmt_qemu for four platforms against a ping, on a host of its own; and what people do today beside it.

Ratios in one run: the tasks of a play take turns, so that a busy machine slows all of them alike; of what is told in
milliseconds it is the quickest of many.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.results import Results

TREE = Path(os.path.abspath(__file__)).parents[2]
sys.path[:0] = [str(TREE / "build/collections"), str(TREE / "tests/kernel")]
ROUNDS = 7
PLATFORMS = ["arm64", "arm", "s390x", "riscv64"]
WORK = """
import json, sys, time
from ansible.module_utils import basic
started = time.perf_counter()
from ansible_collections.multiarch.drone.plugins.modules import binfmt_qemu
imported = time.perf_counter() - started
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.declare import declare
options = dict(platforms=sys.argv[1].split(","), state="present", exclusive=False, source="package", path=None, image=None,
               pull="missing", credentials=True, persistent=True)
seconds = {}
for verify in (False, True):
    times = []
    for turn in range(15):
        started = time.perf_counter()
        changed = declare(dict(options, verify=verify), check_mode=False)["changed"]
        times.append(time.perf_counter() - started)
    assert not changed
    seconds[verify] = min(times)
print(json.dumps([imported, seconds[False], seconds[True]]))
"""


def main() -> int:
    """Measure, print a line for each, and return the exit code."""
    results = Results("binfmt")
    conftest = importlib.import_module("conftest")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "host").mkdir()
        host = conftest.Host(Path(scratch) / "host", "bookworm", True)
        try:
            measure(results, host, Path(scratch))
        finally:
            host.close()
    return results.end()


def measure(results: Results, host, scratch: Path) -> None:
    """Measure on this host."""
    assert host.module("binfmt_qemu", platforms=PLATFORMS)["changed"]
    imports, work, verified = zip(
        *(json.loads(host.run(sys.executable, "-c", WORK, ",".join(PLATFORMS)).stdout) for _unused in range(8))
    )
    tasks = play(host, scratch)
    ping = tasks["ping"]
    each = (min(verified) - min(work)) / len(PLATFORMS)
    results.told("binfmt_qemu, verify: false, whole task / ping", tasks["fast"] / ping, 1.15)
    results.told("binfmt_qemu, verify: true, whole task / ping", tasks["verified"] / ping)
    results.told("work in the module, verify: false", min(work) * 1000, 10, "ms")
    results.told("verify: true, more for each platform", each * 1000, 20, "ms")
    results.told("import over ansible.module_utils.basic", min(imports) * 1000, 30, "ms")
    today = docker_run()
    if today:
        results.told("docker run --rm of anything / binfmt_qemu's work, verified", today / min(verified))


def play(host, scratch: Path) -> dict[str, float]:
    """Return the median seconds of each kind of task, in one run of ansible-playbook in which they take turns."""
    kinds = {
        "ping": {"ansible.builtin.ping": {}},
        "fast": {"multiarch.drone.binfmt_qemu": {"platforms": PLATFORMS, "verify": False}},
        "verified": {"multiarch.drone.binfmt_qemu": {"platforms": PLATFORMS}},
    }
    tasks = [{"name": name, **task} for _unused in range(ROUNDS) for name, task in kinds.items()]
    playbook = scratch / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = host.run(
        *(f"{os.path.dirname(sys.executable)}/ansible-playbook", "-i", "localhost,", "-c", "local", "-f", "1"),
        *("-e", f"ansible_python_interpreter={sys.executable}", str(playbook)),
        ANSIBLE_STDOUT_CALLBACK="ansible.builtin.default",
        ANSIBLE_CALLBACK_PLUGINS=str(TREE / "tests/bench/callback_plugins"),
        ANSIBLE_CALLBACKS_ENABLED="task_seconds",
        TASK_SECONDS=str(scratch / "seconds"),
        ANSIBLE_PIPELINING="true",
    )
    assert "changed=0" in done.stdout, done.stdout
    seconds: dict[str, list[float]] = {}
    for line in (scratch / "seconds").read_text().splitlines():
        name, took = line.split()
        seconds.setdefault(name, []).append(float(took))
    return {name: statistics.median(took[1:]) for name, took in seconds.items()}


def docker_run() -> float | None:
    """Return the seconds of a `docker run --rm` of an image that is here; None where there is none."""
    images = subprocess.run(["docker", "image", "ls", "-q", "multiarch.lab/trixie"], capture_output=True, text=True)
    if not images.stdout.strip():
        return None
    times = []
    for _unused in range(3):
        started = time.perf_counter()
        subprocess.run(
            ["docker", "run", "--rm", "--network", "none", images.stdout.split()[0], "/bin/true"], check=True
        )
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
