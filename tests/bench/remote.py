# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One sample, four platforms: strategy `emulated`, as the plugin does it, against `remote`, cold and warm: `remote.py [ROUNDS]` (3).

Each is a pipeline's step, run as Drone's runner runs it on a host that the roles have prepared: the plugin's stand-in starts a
daemon of its own with an empty cache each time; the remote step is an ordinary container whose daemon of role `buildkitd`, on
another host with the same QEMU, keeps its cache, emptied before each cold build. Not counted is what only the real plugin does: it pulls
moby/buildkit in every build (11 of its 16 seconds, measured by hand).
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

from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.pipeline import DOCKER_CLI, Pipeline
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.strategies import documents
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump_all

from tests.bench.results import Results

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "roles/lab/files/machine"
LAB, RUNNER, BUILDER = "strategies", "strategies-runner", "strategies-builder"
REGISTRY = "registry.lab:5000"
PLUGIN = "thegeeklab/drone-docker-buildx:23"
STANDIN = "multiarch.lab/plugin:latest"  # it has docker, buildx and a shell: it stands for docker:cli, too
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"]
VARS = {
    "qemu_platforms": PLATFORMS[1:],
    "docker_engine_containerd_store": True,
    "builder_builders": [],
    "buildkitd_source": "path",
    "buildkitd_min_free_gib": 1,
    "buildkitd_instances": [{"name": "main", "port": 1234, "config": {"registry": {REGISTRY: {"http": True}}}}],
    "buildkitd_clients": [{"name": "drone", "instances": ["main"]}],
}


def run(*command: object, **options: object) -> str:
    """Run a command that must succeed, and return what it says."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return str(done.stdout)


def prepare(folder: Path) -> tuple[str, dict[str, str]]:
    """Make the two hosts what the roles make of them; return the builder's endpoint, and the secrets of its client."""
    address = run(
        "docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", BUILDER
    ).strip()
    programs = run(ROOT / "tests/tools/buildkit").strip()
    given = {"buildkitd_path": programs, "buildkitd_pki": str(folder / "pki"), "buildkitd_address": address, **VARS}
    inventory = folder / "hosts.ini"
    inventory.write_text(
        f"[runners]\n{RUNNER}\n[builders]\n{BUILDER}\n[all:vars]\nansible_connection=community.docker.docker\n"
        "ansible_pipelining=true\nansible_python_interpreter=/usr/bin/python3\n"
    )
    play = folder / "play.yml"
    roles = [{"role": f"multiarch.drone.{name}"} for name in ("qemu", "buildkitd")]
    sample = [("sample/", ""), (f"{os.environ['CACHE']}/busybox/", "rootfs/")]
    copies = [
        {"ansible.builtin.copy": {"src": f"{ROOT}/playbooks/files/{source}" if source == "sample/" else source, "dest": f"/srv/sample/{to}", "mode": "preserve"}}
        for source, to in sample
    ]  # fmt: skip
    play.write_text(
        json.dumps(
            [
                {"import_playbook": "multiarch.drone.provision_runners"},
                {"hosts": "builders", "gather_facts": False, "roles": roles},
                {"hosts": "runners", "gather_facts": False, "tasks": copies},
            ]
        )
    )
    run("ansible-playbook", "-i", inventory, play, "-e", json.dumps(given))
    run(MACHINE, "plugin", RUNNER)
    client = folder / "pki/clients/drone/main"
    names = {"buildkit_ca": "ca.pem", "buildkit_cert": "cert.pem", "buildkit_key": "key.pem"}
    return f"tcp://{address}:1234", {secret: (client / name).read_text() for secret, name in names.items()}


def step(description: dict[str, object], secrets: dict[str, str]) -> float:
    """Run a pipeline's step on the runner host; return the seconds it took."""
    request = {
        "config": dump_all(documents(Pipeline.parse(description))),
        "secrets": secrets,
        "repo": {"trusted": description["strategy"] == "emulated"},
        "images": {PLUGIN: STANDIN, DOCKER_CLI: STANDIN},
        "host": RUNNER,
        "workspace": "/srv/sample",
    }
    if description["strategy"] == "remote":
        # The stand-in's entrypoint is the plugin; commands have their own.
        assert "privileged" not in str(request["config"])
    start = time.monotonic()
    run(sys.executable, "-B", ROOT / "roles/lab/files/step.py", input=json.dumps(request))
    return time.monotonic() - start


def main() -> int:
    results = Results("remote")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for command in (["engine"], ["image", "trixie"], ["busybox", "trixie"], ["up", LAB, "trixie", RUNNER, BUILDER]):
        run(MACHINE, *command)
    try:
        with tempfile.TemporaryDirectory() as folder:
            print("two hosts, provisioned the first time …", flush=True)
            measure(results, rounds, *prepare(Path(folder)))
    finally:
        run(MACHINE, "down", LAB)
    return results.end()


def measure(results: Results, rounds: int, endpoint: str, secrets: dict[str, str]) -> None:
    """Run the three in turn, since the machine's speed drifts."""
    base = {"repo": f"{REGISTRY}/multiarch/sample", "tags": ["latest"], "platforms": PLATFORMS}
    http = {"insecure": True, "buildkit_config": f'[registry."{REGISTRY}"]\n  http = true\n'}
    emulated = {**base, "strategy": "emulated", "registry": REGISTRY, "settings": http}
    remote = {**base, "strategy": "remote", "builders": [{"endpoint": endpoint}]}
    find = "buildctl=$(find / -xdev -name buildctl -type f | head -n 1); $buildctl --addr unix:///run/buildkit/main/buildkitd.sock"
    took: dict[str, list[float]] = {"emulated": [], "cold": [], "warm": []}
    for _round in range(rounds):
        took["emulated"].append(step(emulated, secrets))
        run("docker", "exec", BUILDER, "sh", "-c", f"{find} prune --all")
        took["cold"].append(step(remote, secrets))
        took["warm"].append(step(remote, secrets))
    median = {name: statistics.median(seconds) for name, seconds in took.items()}
    ratio = {
        name: statistics.median(one / other for one, other in zip(took["emulated"], took[name]))
        for name in ("cold", "warm")
    }
    for name, words in (
        ("emulated", "as the plugin does it"),
        ("cold", "remote, cold cache"),
        ("warm", "remote, warm cache"),
    ):
        results.told(f"one sample, {len(PLATFORMS)} platforms, {words}", median[name], None, "s")
    for name in ("cold", "warm"):
        results.told(f"emulated / remote with a {name} cache", ratio[name])


if __name__ == "__main__":
    sys.exit(main())
