# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Provisioned hosts again, and site.yml again, against as many pings as each makes module runs: `provisioning.py [HOSTS…]` (1 4 10).

site.yml runs on four hosts with runners, a stand-in for Drone, and a pipeline in a bare repository of this machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "roles/lab/files/machine"
HERE = Path(__file__).parent
VARS = {
    "qemu_platforms": ["linux/arm64", "linux/arm/v7", "linux/s390x"],
    "docker_engine_containerd_store": True,
    "builder_builders": [{"name": "default", "driver": "docker"}],
}
SITE_HOSTS = 4
IMAGE = "drone/drone-runner-docker:1.8.4"


def play(*arguments: str, inventory: Path, runs: Path) -> float:
    """Run ansible-playbook and return the seconds it took."""
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "module_runs",
        "MODULE_RUNS": str(runs),
        "ANSIBLE_FORKS": "10",
    }
    start = time.monotonic()
    ran = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    if ran.returncode:
        sys.exit(ran.stdout[-4000:] + ran.stderr[-2000:])
    return seconds


def machine(*words: str) -> str:
    return subprocess.check_output([str(MACHINE), *words], text=True, stderr=subprocess.DEVNULL)


def main() -> int:
    counts = [int(count) for count in sys.argv[1:]] or [1, 4, 10]
    hosts = [f"bench-{number}" for number in range(1, max(*counts, SITE_HOSTS) + 1)]
    machine("engine")
    machine("image", "trixie")
    machine("up", "bench", "trixie", *hosts)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(counts, hosts, Path(folder))
    finally:
        machine("down", "bench")


def measure(counts: list[int], hosts: list[str], folder: Path) -> int:
    """Provision every host once, then measure the second runs; return how many limits were passed."""
    inventory = folder / "hosts.ini"
    inventory.write_text(
        "[runners]\n" + "\n".join(hosts) + "\n[runners:vars]\nansible_connection=community.docker.docker\n"
        "ansible_pipelining=true\nansible_python_interpreter=/usr/bin/python3\n"
    )
    provision = ["multiarch.drone.provision_runners", "-e", json.dumps(VARS)]
    print(f"provisioning {len(hosts)} hosts, the first time …", flush=True)
    play(*provision, inventory=inventory, runs=folder / "runs.json")
    failed = 0
    for count in counts:
        limit = ["--limit", ",".join([*hosts[:count], "localhost"])]
        failed += compare(f"provisioned again, {count:2} hosts", 8, [*provision, *limit], limit, inventory, folder)
    limit = ["--limit", ",".join([*hosts[:SITE_HOSTS], "localhost"])]
    for host in hosts[:SITE_HOSTS]:
        machine("runner", host, str(ROOT / "tests"))
    site = ["multiarch.drone.site", "-e", json.dumps({**VARS, **drone(folder)}), *limit]
    play(*site, inventory=inventory, runs=folder / "runs.json")
    return failed + compare(f"site.yml again, {SITE_HOSTS:2} hosts", 20, site, limit, inventory, folder)


def drone(folder: Path) -> dict[str, object]:
    """Return the variables of a fleet whose Drone server and repository are this bench's own."""
    url = machine("standin", "bench", "trixie", str(ROOT / "tests")).splitlines()[-1]
    repository = folder / "octocat/app1.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
    build = {"repo": "octocat/app1", "auto_tag": True, "platforms": ["linux/amd64", "linux/arm64"]}
    return {
        "drone_runner_url": url,
        "drone_runner_rpc_secret": "lab-secret",
        "drone_runner_token": "lab-token",
        "drone_runner_image": IMAGE,
        "drone_repos_url": url,
        "drone_repos_token": "lab-token",
        "drone_repos_trusted": ["octocat/app1"],
        "drone_pipelines_url": url,
        "drone_pipelines_token": "lab-token",
        "drone_pipelines_pipelines": [{"repos": [{"url": str(repository)}], "pipeline": build}],
    }


def compare(what: str, most: int, ours: list[str], limit: list[str], inventory: Path, folder: Path) -> bool:
    """Time a play and one of as many pings on the same hosts, in turn, since the machine's speed drifts; say whether a limit was passed."""
    runs, pings = folder / "runs.json", folder / "pings.yml"
    play(*ours, inventory=inventory, runs=runs)
    counted = json.loads(runs.read_text())
    made, raw = counted["runs"], max(counted["raw"].values())
    on_controller = made.pop("localhost", 0)
    a_host = max(made.values())
    tasks = [{"ansible.builtin.ping": {}}]
    plays = [{"hosts": "runners", "gather_facts": False, "tasks": tasks * a_host}]
    if on_controller:
        plays.append({"hosts": "localhost", "gather_facts": False, "tasks": tasks * on_controller})
    pings.write_text(json.dumps(plays))
    times = []
    for _round in range(3):
        took = play(*ours, inventory=inventory, runs=runs)
        times.append((took, play(str(pings), *limit, inventory=inventory, runs=runs)))
    ratio = statistics.median(one / other for one, other in times)
    print(
        f"{what}: {a_host + on_controller} module runs ({a_host} a host, {raw} of them raw, {on_controller} on the controller; "
        f"at most {most}), "
        f"{statistics.median(one for one, _other in times):.1f} s, {ratio:.2f} x as many pings (at most 1.5)",
        flush=True,
    )
    return ratio > 1.5 or a_host + on_controller > most


if __name__ == "__main__":
    sys.exit(main())
