# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's work alone for a large fleet, of which no host is asked: preflight and report of 100 and of 1,000 hosts.

The hosts' answers are variables of the inventory, in the shape in which the playbooks register them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.results import Results

COUNTS = (100, 1000)
ROLES = ["docker_engine", "qemu", "builder", "drone_runner"]
PLAYS = [
    {"hosts": "runners", "gather_facts": False, "tasks": [{"multiarch.drone.preflight": {"roles": ROLES}}]},
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [{"multiarch.drone.fleet_report": {"hosts": "{{ groups.runners }}", "directory": "{{ directory }}"}}],
    },
]


def answer() -> dict[str, object]:
    """Return what a host answers to the look at all its layers."""
    layer = {"changed": False, "steps": [], "problems": [], "busy": [], "as_declared": True}
    platforms = [
        {"platform": f"linux/{name}", "native": False, "name": f"qemu-{name}", "kernel_version": "10.0.13", "persistent": True, "verified": True, "problems": []}
        for name in ("arm64", "arm/v7", "s390x", "riscv64")
    ]  # fmt: skip
    node = {"name": "default", "endpoint": "default", "status": "running", "platforms": ["linux/amd64", "linux/arm64"]}
    builder = {"builder": {"name": "default", "driver": "docker", "default": True, "nodes": [node]}, "drift": []}
    docker = {
        "running": True,
        "enabled": True,
        "version": "26.1.5",
        "containerd_store": True,
        "images": 3,
        "containers": 1,
    }
    return {
        "distribution": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "kernel": "6.12.38",
        "architecture": "x86_64",
        "docker": docker,
        "as_declared": ["engine", "qemu", "builders"],
        "layers": {
            "engine": {**layer, "facts": {"config": {}, "declared": {}}},
            "qemu": {**layer, "facts": {"platforms": platforms}},
            "builders": {
                **layer,
                "facts": {},
                "results": [{**layer, "name": "default", "user": "root", "facts": builder}],
            },
        },
    }


def measure(count: int) -> tuple[float, float]:
    """Return the seconds and the megabytes that a fleet of so many hosts takes."""
    host = {"__docker_engine_host": answer(), "__report_started": "0", "__report_looked": True}
    hosts = {f"host-{number:04}": {**host, "drone_runner_name": f"host-{number:04}"} for number in range(count)}
    variables = {"drone_runner_url": "https://drone.example.com", "drone_runner_rpc_secret": "not-a-secret"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inventory = {"all": {"hosts": {"localhost": {}}, "children": {"runners": {"hosts": hosts, "vars": variables}}}}
        (folder / "hosts.json").write_text(json.dumps(inventory))
        (folder / "plays.yml").write_text(json.dumps(PLAYS))
        command = [
            "ansible-playbook",
            "-i",
            folder / "hosts.json",
            "-f",
            "10",
            "-e",
            f"directory={folder}/report",
            folder / "plays.yml",
        ]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = process.stdout.read() if process.stdout else ""
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not (folder / "report/report.json").exists():
            sys.exit(said[-4000:])
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> int:
    results = Results("fleet")
    few, many = (measure(count) for count in COUNTS)
    results.told(f"preflight and report of {COUNTS[0]} hosts", few[0], None, "s")
    results.told(f"preflight and report of {COUNTS[1]} hosts", many[0], None, "s")
    # Linear: ten times the hosts take no more than ten times as long, and a tenth of that more for the measuring.
    results.told(f"{COUNTS[1]} to {COUNTS[0]} hosts", many[0] / few[0], 11)
    results.told(f"{COUNTS[1]} hosts: memory of the largest process", many[1], 1000, "MB")
    return results.end()


if __name__ == "__main__":
    sys.exit(main())
