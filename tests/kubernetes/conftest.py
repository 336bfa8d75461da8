# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real cluster of one node in a container of this machine: control plane, kubelet, containerd. Its users have the role that the documentation names."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.buildkit.conftest import User

ROOT = Path(__file__).resolve().parents[2]
NODE = "multiarch-kubernetes"
USERS = ("admin", "ci", "other", "stranger")
TOKENS = """admin-token,admin,admin,"system:masters"
node-token,system:node:node,node,"system:nodes"
ci-token,ci,ci
other-token,other,other
stranger-token,stranger,stranger
"""


def docker(*args: str, check: bool = True) -> str:
    return subprocess.run(["docker", *args], check=check, capture_output=True, text=True).stdout


def host_options() -> list[str]:
    """Return what the lab gives its hosts (roles/lab/files/machine)."""
    bounding = re.search(r"^CapBnd:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE).group(1)
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return [
        *("--cap-add", "ALL", *(() if int(bounding, 16) >> 24 & 1 else ("--cap-drop", "SYS_RESOURCE"))),
        *(word for name in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{name}=unconfined")),
        f"--cgroupns={'private' if unified else 'host'}",
        *(
            "-v",
            "/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "-v",
            "/var/lib/containerd",
            "-v",
            "/var/lib/kubelet",
            "--tmpfs",
            "/run",
        ),
    ]


class Cluster:
    """The cluster, as its administrator sees it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def config(self, user: str) -> Path:
        """Return the path of a user's kubeconfig."""
        return self.directory / f"{user}.yaml"

    def kubectl(self, *args: str, check: bool = True, stdin: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", str(self.config("admin")), *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *args: str):
        return json.loads(self.kubectl("get", "-o", "json", *args))

    def versions(self, namespace: str) -> dict[str, str]:
        """Return the version of each object of a namespace that a builder could have: whoever writes one changes it."""
        kinds = "deployments,statefulsets,configmaps,replicasets,pods,persistentvolumeclaims"
        items = self.get(kinds, "-n", namespace)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

    def names(self, namespace: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.get("deployments", "-n", namespace)["items"])

    def wait_for(self, what, seconds: float = 30):
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the directory with docker-buildx."""
    if os.geteuid():
        pytest.skip("a cluster in a container needs root here")
    for program in ("docker", "kubectl", "runc"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed")
    return Path(subprocess.check_output([ROOT / "tests/tools/buildkit"], text=True).strip())


@pytest.fixture(scope="session")
def cluster(programs, tmp_path_factory):
    """Return the cluster, which all workers of this run share."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared) / "cluster"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "ready").exists():
            start(shared)
            (shared / "ready").touch()
    return Cluster(shared)


def start(shared: Path) -> None:
    """Start the cluster, and wait until its node is ready."""
    made = Path(subprocess.check_output([ROOT / "tests/tools/kubernetes/build"], text=True).strip())
    (shared / "tokens.csv").write_text(TOKENS)
    docker("rm", "-f", "-v", NODE, check=False)
    mounts = {made / "kubernetes": "/kubernetes:ro", made / "images": "/images:ro", shared: "/shared"}
    mounts[ROOT / "tests/tools/kubernetes/node"] = "/node:ro"
    volumes = [word for source, target in mounts.items() for word in ("-v", f"{source.resolve()}:{target}")]
    image = "multiarch.lab/kubernetes:latest"
    docker("run", "-d", "--name", NODE, "--hostname", "node", *host_options(), *volumes, image, "/node")
    cluster = Cluster(shared)

    def answers() -> bool:
        assert docker("inspect", "-f", "{{.State.Running}}", NODE).strip() == "true", docker("logs", NODE)
        return (shared / "address").exists()

    cluster.wait_for(answers, 120)
    for user in USERS:
        cluster.config(user).write_text(yaml.safe_dump(kubeconfig(cluster, user)))
    ready = "jsonpath={..conditions[?(@.type=='Ready')].status}"
    cluster.wait_for(lambda: "True" in cluster.kubectl("get", "nodes", "-o", ready), 60)
    # A node that nobody may use, for what the scheduler says of it: no other test runs there.
    labels = {"kubernetes.io/hostname": "cordoned"}
    cordoned = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cordoned", "labels": labels}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps({**cordoned, "spec": {"unschedulable": True}}))


def pytest_sessionfinish(session):
    """Remove the cluster when the last worker has ended."""
    if not os.environ.get("PYTEST_XDIST_WORKER") and not os.environ.get("KEEP_CLUSTER"):
        docker("rm", "-f", "-v", NODE, check=False)


def kubeconfig(cluster: Cluster, user: str, namespace: str = "default", **changes) -> dict:
    """Return a kubeconfig of a user."""
    address = (cluster.directory / "address").read_text().strip()
    authority = str(cluster.directory / "server.crt")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "lab", "cluster": {"server": f"https://{address}:6443", "certificate-authority": authority}}
        ],
        "users": [{"name": user, "user": {"token": f"{user}-token"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user, "namespace": namespace}}],
        "current-context": "lab",
        **changes,
    }


def role() -> dict:
    """Return the role as docs/kubernetes.md has it."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    [found] = [
        block for block in map(yaml.safe_load, blocks) if isinstance(block, dict) and block.get("kind") == "Role"
    ]
    return found


@pytest.fixture
def namespace(cluster, request):
    """Return a namespace of the test's own, in which `ci` and `other` have the documented role."""
    name = (
        re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-40:].strip("-") + f"-{time.time_ns() % 10**6}"
    )
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("apply", "-n", name, "-f", "-", stdin=json.dumps(role()))
    cluster.kubectl("create", "rolebinding", "-n", name, "buildx", "--role=buildx", "--user=ci", "--user=other")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


class Member(User):
    """A user of buildx and of the cluster."""

    def __init__(self, home: Path, programs: Path, cluster: Cluster, name: str, namespace: str) -> None:
        super().__init__(home, programs)
        self.cluster, self.name, self.namespace = cluster, name, namespace
        self.kubeconfig = home / "kubeconfig"
        self.configure()
        self.env["KUBECONFIG"] = str(self.kubeconfig)

    def configure(self, **changes) -> None:
        """Write the user's kubeconfig."""
        self.kubeconfig.write_text(yaml.safe_dump(kubeconfig(self.cluster, self.name, self.namespace, **changes)))

    def wish(self, opts=None, *, name: str = "ci", check: bool = False, platforms=(), **more):
        """Declare a builder of one pod."""
        driver_opts = {"image": "local/buildkit:1", "timeout": "60s", **(opts or {})}
        node = {"driver_opts": {key: value for key, value in driver_opts.items() if value is not None}}
        wish = {"driver": "kubernetes", "nodes": [{**node, "platforms": list(platforms)}], **more}
        return self.declare(name, check=check, **wish)


@pytest.fixture
def ci(tmp_path, programs, cluster, namespace, monkeypatch):
    user = Member(tmp_path / "home", programs, cluster, "ci", namespace)
    become(user, monkeypatch)
    return user


def become(user: Member, monkeypatch) -> None:
    """Let the module run as this user."""
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
