# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A converged fleet against one play of one ping over the same hosts, in turn, with ten forks: `provisioning.py [HOSTS…]` (4).

With more than ten hosts (`provisioning.py 40`) site.yml alone. A stand-in is Drone, and a bare repository of this machine has the pipeline.
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

from tests.bench.results import Results

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "roles/lab/files/machine"
HERE = Path(__file__).parent
VARS = {
    "qemu_platforms": ["linux/arm64", "linux/arm/v7", "linux/s390x"],
    "docker_engine_containerd_store": True,
    "builder_builders": [{"name": "default", "driver": "docker"}],
}
IMAGE = "drone/drone-runner-docker:1.8.4"
ROUNDS = 3
MANY = 10
PING = [{"hosts": "runners", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}]


class Fleet:
    """Hosts of the lab, with their inventory."""

    def __init__(self, hosts: list[str], folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self.inventory, self.runs = folder / "hosts.ini", folder / "runs.json"
        self.ping = folder / "ping.yml"
        self.ping.write_text(json.dumps(PING))
        self.inventory.write_text(
            "localhost ansible_connection=local ansible_python_interpreter={{ansible_playbook_python}}\n[runners]\n"
            + "\n".join(hosts)
            + "\n[runners:vars]\nansible_connection=community.docker.docker\n"
            "ansible_pipelining=true\nansible_python_interpreter=/usr/bin/python3\n"
        )

    def play(self, *arguments: str) -> float:
        """Run ansible-playbook and return the seconds it took."""
        environment = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "module_runs",
            "MODULE_RUNS": str(self.runs),
        }
        command = ["ansible-playbook", "-i", str(self.inventory), "-f", "10", *arguments]
        start = time.monotonic()
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        if ran.returncode:
            sys.exit(ran.stdout[-4000:] + ran.stderr[-2000:])
        return seconds

    def drift(self, host: str) -> None:
        """Let a file that brings a handler back be gone from one host."""
        module = ["-m", "ansible.builtin.file", "-a", "path=/etc/binfmt.d/qemu-s390x.conf state=absent"]
        subprocess.run(["ansible", "-i", str(self.inventory), host, *module], check=True, capture_output=True)

    def compare(self, results: Results, what: str, most: float, *ours: str) -> None:
        """Time a play and one ping in turn, since the machine's speed drifts."""
        self.play(*ours)
        runs = json.loads(self.runs.read_text())["runs"]
        on_controller = runs.pop("localhost", 0)
        ratios = []
        for _round in range(ROUNDS):
            took = self.play(*ours)
            ratios.append(took / self.play(str(self.ping)))
        words = f"{what}, {len(self.hosts)} hosts ({max(runs.values(), default=0)} module runs a host, {on_controller} on the controller)"
        results.told(words, statistics.median(ratios), most)


def machine(*words: str) -> str:
    return subprocess.check_output([str(MACHINE), *words], text=True, stderr=subprocess.DEVNULL)


def main() -> int:
    results = Results("provisioning")
    for count in [int(count) for count in sys.argv[1:]] or [4]:
        hosts = [f"bench-{number}" for number in range(1, count + 1)]
        machine("engine")
        machine("image", "trixie")
        machine("up", "bench", "trixie", *hosts)
        try:
            with tempfile.TemporaryDirectory() as folder:
                measure(results, Fleet(hosts, Path(folder)))
        finally:
            machine("down", "bench")
    return results.end()


def measure(results: Results, fleet: Fleet) -> None:
    """Make the fleet converged, and measure each of the playbooks that find it so."""
    given = {**VARS, "report_dir": str(fleet.folder / "report")}
    variables = ["-e", json.dumps(given)]
    print(f"provisioning {len(fleet.hosts)} hosts, the first time …", flush=True)
    fleet.play("multiarch.drone.provision_runners", *variables)
    if len(fleet.hosts) <= MANY:
        fleet.compare(results, "provision_runners", 2.5, "multiarch.drone.provision_runners", *variables)
        fleet.play("multiarch.drone.verify", *variables)
        fleet.compare(results, "verify, proofs kept", 2.5, "multiarch.drone.verify", *variables)
    for host in fleet.hosts:
        machine("runner", host, str(ROOT / "tests"))
    site = ["multiarch.drone.site", "-e", json.dumps({**given, **drone(fleet.folder)})]
    fleet.play(*site)
    fleet.compare(results, "site", 6, *site)
    if len(fleet.hosts) <= MANY:
        fleet.drift(fleet.hosts[0])
        fleet.compare(results, "site --check --diff, one drift on one host", 8, *site, "--check", "--diff")


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


if __name__ == "__main__":
    sys.exit(main())
