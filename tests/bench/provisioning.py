# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Provisioned hosts, provisioned again, against a play of equally many pings: `provisioning.py [HOSTS…]` (1 4 10)."""

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


def main() -> None:
    counts = [int(count) for count in sys.argv[1:]] or [1, 4, 10]
    hosts = [f"bench-{number}" for number in range(1, max(counts) + 1)]
    for command in (["engine"], ["image", "trixie"], ["up", "bench", "trixie", *hosts]):
        subprocess.run([str(MACHINE), *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(counts, hosts, Path(folder))
    finally:
        subprocess.run(
            [str(MACHINE), "down", "bench"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def measure(counts: list[int], hosts: list[str], folder: Path) -> None:
    """Provision every host once, then compare the second run with pings, for each count of hosts."""
    inventory, runs, pings = folder / "hosts.ini", folder / "runs.json", folder / "pings.yml"
    inventory.write_text(
        "[runners]\n" + "\n".join(hosts) + "\n[runners:vars]\nansible_connection=community.docker.docker\n"
        "ansible_pipelining=true\nansible_python_interpreter=/usr/bin/python3\n"
    )
    provision = ["multiarch.drone.provision_runners", "-e", json.dumps(VARS)]
    print(f"provisioning {len(hosts)} hosts, the first time …", flush=True)
    play(*provision, inventory=inventory, runs=runs)
    for count in counts:
        limit = ["--limit", ",".join(hosts[:count])]
        play(*provision, *limit, inventory=inventory, runs=runs)
        per_host = max(json.loads(runs.read_text()).values())
        pings.write_text(
            json.dumps(
                [{"hosts": "runners", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}] * per_host}]
            )
        )
        ours, theirs = [], []
        for _round in range(3):  # in turn, since the machine's speed drifts
            ours.append(play(*provision, *limit, inventory=inventory, runs=runs))
            theirs.append(play(str(pings), *limit, inventory=inventory, runs=runs))
        ratio = statistics.median(one / other for one, other in zip(ours, theirs))
        print(
            f"provisioned again, {count:2} hosts: {per_host} module runs a host (at most 8), {statistics.median(ours):.1f} s, "
            f"{ratio:.2f} x as many pings (at most 1.5)",
            flush=True,
        )


if __name__ == "__main__":
    main()
