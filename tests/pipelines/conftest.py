# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a deployed step of strategy `remote` or `native` meets: BuildKit daemons over mutual TLS, a registry with TLS and a login,
and a runner that starts an ordinary container from an image of the Docker CLI (busybox, docker, buildx: what docker:28-cli is).

They answer where containers reach this machine: at the address of Docker's own bridge.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.pipeline import DOCKER_CLI, Pipeline
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.strategies import documents
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump_all

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
USER, PASSWORD = "robot", "s3cret-xyzzy"
HTPASSWD = "robot:$2b$05$abcdefghijklmnopqrstuuMo2AQHphzLQfHNXlTsXMOLxXTum15B.\n"


def command(*arguments, **options):
    """Run a command that must succeed, and return what it says."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PATH": PATH},
        **options,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout.decode() if isinstance(done.stdout, bytes) else done.stdout


@pytest.fixture(scope="session")
def lab():
    """Return a loader of the lab's programs: lab("plugin")."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"lab_{name}", ROOT / f"roles/lab/files/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def programs():
    """Return the directory with buildkitd, buildctl and docker-buildx."""
    return Path(command(ROOT / "tests/tools/buildkit").strip())


@pytest.fixture(scope="session")
def address():
    """Return the address at which containers reach this machine."""
    bridge = json.loads(command("docker", "network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    # Not every engine tells the gateway that it took by itself: the first address.
    return bridge.get("Gateway") or str(next(ipaddress.ip_network(bridge["Subnet"]).hosts()))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory, address):
    """Return a directory of certificates: an authority, a server and a client of it, and a client of another authority."""
    here = tmp_path_factory.mktemp("certificates")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def authority(name):
        command(
            *new,
            "-x509",
            "-days",
            2,
            "-subj",
            f"/CN={name}",
            "-keyout",
            here / f"{name}.key",
            "-out",
            here / f"{name}.pem",
        )

    def signed(name, by, names):
        command(*new, "-subj", f"/CN={name}", "-keyout", here / f"{name}.key", "-out", here / f"{name}.csr")
        (here / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        sign = ["openssl", "x509", "-req", "-days", 2, "-CAcreateserial", "-extfile", here / "extensions"]
        command(
            *sign,
            "-CA",
            here / f"{by}.pem",
            "-CAkey",
            here / f"{by}.key",
            "-in",
            here / f"{name}.csr",
            "-out",
            here / f"{name}.pem",
        )

    authority("ca")
    authority("other-ca")
    signed("server", "ca", f"IP:{address}")
    signed("named", "ca", "DNS:builder.test")
    signed("client", "ca", "DNS:client")
    signed("stranger", "other-ca", "DNS:client")
    return here


@pytest.fixture(scope="session")
def cli_image(programs, certificates):
    """Return an image that has what docker:28-cli has: busybox, the Docker CLI and buildx."""
    busybox = command(ROOT / "tests/tools/buildkit", "image").strip()
    name = f"multiarch.test/cli:{uuid.uuid4().hex[:12]}"
    content = io.BytesIO()
    with tarfile.open(busybox) as given, tarfile.open(fileobj=content, mode="w") as made:
        for entry in given:
            if entry.name.startswith(("./bin", "./sbin", "./etc", "./tmp", "./root")):
                made.addfile(entry, given.extractfile(entry) if entry.isfile() else None)
        docker = shutil.which("docker")
        linked = subprocess.run(["ldd", docker], capture_output=True, text=True, check=False).stdout.split()
        for path in (docker, *(word for word in linked if word.startswith("/"))):
            made.add(os.path.realpath(path), "usr/bin/docker" if path == docker else path)
        made.add(programs / "docker-buildx", "usr/libexec/docker/cli-plugins/docker-buildx")
        made.add(certificates / "ca.pem", "etc/ssl/certs/ca-certificates.crt")
    command("docker", "import", "-c", "ENV PATH=/usr/bin:/bin:/sbin", "-", name, input=content.getvalue())
    yield name
    command("docker", "rmi", "-f", name)


def free_port(address):
    with socket.socket() as free:
        free.bind((address, 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(argv, log, ready):
    """Run a program until the end of the block; `ready` says whether it answers."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(map(str, argv)),
            stdout=stream,
            stderr=stream,
            env={**os.environ, "PATH": PATH, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        for _attempt in range(200):
            assert process.poll() is None, log.read_text()[-2000:]
            if ready():
                break
            time.sleep(0.05)
        else:
            raise AssertionError(log.read_text()[-2000:])
        yield process
    finally:
        process.terminate()
        process.wait(20)


def answers(host, port):
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1).close()
        return True
    return False


@dataclass
class Registry:
    """A registry with TLS and a login, read by skopeo."""

    host: str

    def inspect(self, name):
        """Return the manifest or index that a name stands for."""
        return json.loads(
            command(
                "skopeo",
                "inspect",
                "--raw",
                "--tls-verify=false",
                "--creds",
                f"{USER}:{PASSWORD}",
                f"docker://{self.host}/{name}",
            )
        )

    def platforms(self, name):
        """Return the platforms of an index, without its attestations."""
        found = [entry["platform"] for entry in self.inspect(name)["manifests"]]
        return sorted(f"{one['os']}/{one['architecture']}" for one in found if one["os"] != "unknown")

    def labels(self, name):
        """Return the labels of an index's first image."""
        first = self.inspect(name)["manifests"][0]["digest"]
        repository = name.partition(":")[0]
        config = command(
            "skopeo",
            "inspect",
            "--config",
            "--tls-verify=false",
            "--creds",
            f"{USER}:{PASSWORD}",
            f"docker://{self.host}/{repository}@{first}",
        )
        return json.loads(config)["config"]["Labels"]

    def tags(self, name):
        said = command(
            "skopeo", "list-tags", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", f"docker://{self.host}/{name}"
        )
        return sorted(json.loads(said)["Tags"])


@pytest.fixture(scope="session")
def registry(tmp_path_factory, address, certificates):
    here = tmp_path_factory.mktemp("registry")
    host = f"{address}:{free_port(address)}"
    (here / "htpasswd").write_text(HTPASSWD)
    tls = {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server.key")}
    config = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(here / "storage")}},
        "http": {"addr": host, "tls": tls},
        "auth": {"htpasswd": {"realm": "test", "path": str(here / "htpasswd")}},
    }
    (here / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    name, port = host.split(":")
    with running(["docker-registry", "serve", here / "config.yml"], here / "log", lambda: answers(name, int(port))):
        yield Registry(host)


@dataclass
class Daemon:
    """A BuildKit daemon for others."""

    endpoint: str
    directory: Path
    programs: Path

    def has_cache(self):
        """Tell whether anything was ever built here."""
        said = command(self.programs / "buildctl", "--addr", f"unix://{self.directory}/own.sock", "du")
        return not said.startswith("Reclaimable:\t0")


@pytest.fixture(scope="session")
def start_daemon(tmp_path_factory, programs, address, certificates, registry):
    """Return a starter of daemons that want a certificate of the authority, and trust the registry."""
    with contextlib.ExitStack() as stack:

        def start(server="server"):
            here = tmp_path_factory.mktemp("bk")
            (here / "buildkitd.toml").write_text(f'[registry."{registry.host}"]\nca = ["{certificates}/ca.pem"]\n')
            endpoint = f"tcp://{address}:{free_port(address)}"
            argv = [programs / "buildkitd", "--config", here / "buildkitd.toml", "--root", here / "root"]
            argv += ["--addr", endpoint, "--addr", f"unix://{here}/own.sock", "--tlscacert", certificates / "ca.pem"]
            argv += ["--tlscert", certificates / f"{server}.pem", "--tlskey", certificates / f"{server}.key"]
            log = here / "log"
            stack.enter_context(running(argv, log, lambda: log.read_bytes().count(b"running server on") == 2))
            return Daemon(endpoint, here, programs)

        yield start


@pytest.fixture(scope="session")
def daemon(start_daemon):
    return start_daemon()


@dataclass
class Runner:
    """Runs a described pipeline's steps as Drone's runner would, in an ordinary container of this machine's engine."""

    image: str
    workspace: Path
    secrets: dict[str, str]

    def step(self, description, *arguments, pipeline="default", secrets=None, trusted=False, **build):
        """Run one step of a description; return what step.py did."""
        text = dump_all(documents(Pipeline.parse(description)))
        request = {
            "config": text,
            "pipeline": pipeline,
            "secrets": {**self.secrets, **(secrets or {})},
            "images": {DOCKER_CLI: self.image},
            "workspace": str(self.workspace),
            "build": build,
            "repo": {"trusted": trusted},
        }
        return subprocess.run(
            [sys.executable, "-B", ROOT / "roles/lab/files/step.py", *arguments],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def runner(cli_image, certificates, tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "stamp").write_text(str(tmp_path))
    (workspace / "Dockerfile").write_text("FROM scratch\nARG WHO=nobody\nLABEL who=$WHO\nCOPY stamp /stamp\n")
    secrets = {
        "user": USER,
        "pass": PASSWORD,
        "buildkit_ca": (certificates / "ca.pem").read_text(),
        "buildkit_cert": (certificates / "client.pem").read_text(),
        "buildkit_key": (certificates / "client.key").read_text(),
    }
    return Runner(cli_image, workspace, secrets)


@pytest.fixture
def build(registry, daemon, request):
    """Return the description of a remote build into a repository of the test's own."""
    return {
        "strategy": "remote",
        "repo": f"{registry.host}/test/{uuid.uuid4().hex[:12]}",
        "platforms": ["linux/amd64", "linux/arm64"],
        "username": {"from_secret": "user"},
        "password": {"from_secret": "pass"},
        "builders": [{"endpoint": daemon.endpoint}],
    }
