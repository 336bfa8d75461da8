# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real registries (Debian's docker-registry) on the loopback, and images that skopeo pushes to them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

FLEET = ["linux/amd64", "linux/arm64"]
ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "robot", "s3cret"
HTPASSWD = "robot:$2b$05$.UOFNEWBAERMUsyzYX5L2eZoAKT1yZLmzjtUTHZDw2NxjENNumnGK\n"
BEFORE = dict(os.environ)  # before a test has a home of its own: the caches are in the real one
OCI = "application/vnd.oci.image"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, so that no test reads or writes the Docker configuration of whoever runs it."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.docker").mkdir(parents=True)
    return tmp_path / "home"


# What AnsiballZ does with a module: its arguments are given, and its main is called.
START = """
import json, signal, sys
from ansible.module_utils import basic
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that nohup has started would ignore it
name, basic._ANSIBLE_ARGS = sys.argv[1], sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
module = "ansible_collections.multiarch.drone.plugins.modules." + name
__import__(module)
sys.modules[module].main()
"""


@pytest.fixture
def start_module():
    """Start a module of this collection in a process of its own, as Ansible does on a host."""

    def start(name, *, check=False, **arguments):
        arguments.update(_ansible_check_mode=check, _ansible_diff=True, _ansible_remote_tmp=os.environ["HOME"])
        process = subprocess.Popen(
            [sys.executable, "-c", START, name],
            env={**os.environ, "PYTHONPATH": str(ROOT / "build/collections")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process.stdin:
            process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        return process

    return start


@pytest.fixture
def module(start_module):
    """Run a module of this collection in a process of its own, and return its result."""

    def run(name, *, check=False, **arguments):
        with start_module(name, check=check, **arguments) as process:
            return {"failed": False, **json.loads(process.stdout.read())}

    return run


@dataclass
class Registry:
    """A running registry. `ca` is its certificate where it speaks TLS."""

    host: str
    storage: Path
    ca: Path | None
    auth: bool
    log: Path

    def asked(self):
        """Return what was asked since this was called last, such as `HEAD /v2/app/manifests/1`."""
        asked = [
            line.split('"')[1].rpartition(" ")[0] for line in self.log.read_text().splitlines() if " HTTP/1" in line
        ]
        self.log.write_text("")
        return asked

    def push(self, layout, name, *options):
        """Push an OCI layout with skopeo, all of its platforms, and return the image's reference."""
        command = ["skopeo", "copy", "--quiet", "--all", "--insecure-policy", "--dest-tls-verify=false"]
        command += ["--dest-creds", f"{USER}:{PASSWORD}"] if self.auth else []
        command += options or ["--preserve-digests"]
        subprocess.run([*command, f"oci:{layout}", f"docker://{self.host}/{name}"], check=True)
        return f"{self.host}/{name}"

    def login(self, home, password=PASSWORD):
        """Write what `docker login` writes."""
        import base64

        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (home / ".docker/config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))


@pytest.fixture
def start_registry(tmp_path):
    """Start registries, with or without TLS and a login; stop them after the test."""
    for tool in ("docker-registry", "skopeo", "openssl"):
        assert shutil.which(tool), f"{tool} is missing: apt-get install docker-registry skopeo openssl"
    running = []

    def start(*, tls=False, auth=False):
        # With TLS by this machine's name: to BuildKit and Docker, the loopback is insecure by itself.
        name = socket.gethostname() if tls else "127.0.0.1"
        directory = tmp_path / f"registry{len(running)}"
        directory.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind((socket.gethostbyname(name), 0))
            host = f"{name}:{free.getsockname()[1]}"
        http = {"addr": host, **({"tls": _certificate(directory)} if tls else {})}
        (directory / "htpasswd").write_text(HTPASSWD)
        login = {"auth": {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}} if auth else {}
        storage = {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}}
        # JSON is YAML.
        (directory / "config.yml").write_text(
            json.dumps({"version": "0.1", "log": {"level": "warn"}, "storage": storage, "http": http, **login})
        )
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(directory / "config.yml")],
                stdout=log,
                stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )
        running.append(process)
        _wait_for(host, process, directory / "log")
        return Registry(host, directory / "storage", directory / "ca.pem" if tls else None, auth, directory / "log")

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


@pytest.fixture
def registry(start_registry):
    """A registry without TLS and login."""
    return start_registry()


def _certificate(directory):
    """Make a certificate of its own for the loopback."""
    key, certificate = directory / "key.pem", directory / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=registry.test", "-addext", f"subjectAltName=DNS:{socket.gethostname()}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return {"certificate": str(certificate), "key": str(key)}


def _wait_for(host, process, log):
    address = (host.split(":")[0], int(host.split(":")[1]))
    for _unused in range(200):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(address, 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"docker-registry does not answer: {log.read_text()}")


def _tar(name):
    """Return a layer with one file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo("platform")
        entry.size = len(name)
        tar.addfile(entry, io.BytesIO(name.encode()))
    return content.getvalue()


@pytest.fixture
def layout(tmp_path):
    """Write an OCI layout: one small image for each platform, and an attestation for each where asked."""

    def write(*platforms, attestations=False, single=False, annotations=None):
        directory = tmp_path / f"layout{len(list(tmp_path.glob('layout*')))}"
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True)

        def blob(content, media_type, **more):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            digest = hashlib.sha256(body).hexdigest()
            (blobs / digest).write_bytes(body)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(body), **more}

        def manifest(config, layer, layer_type, **more):
            layers = [blob(layer, layer_type)]
            rootfs = {"type": "layers", "diff_ids": [layers[0]["digest"]]}
            config = blob({**config, "rootfs": rootfs, "config": {}}, f"{OCI}.config.v1+json")
            content = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": layers}
            return blob(content, f"{OCI}.manifest.v1+json", **more)

        listed = []
        for name in platforms:
            parts = dict(zip(("os", "architecture", "variant"), name.split("/")))
            listed.append(manifest(parts, _tar(name), f"{OCI}.layer.v1.tar", platform=parts))
        for about in list(listed) if attestations else []:
            unknown = {"os": "unknown", "architecture": "unknown"}
            notes = {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": about["digest"],
            }
            statement = json.dumps({"subject": about["digest"]}).encode()
            listed.append(
                manifest(unknown, statement, "application/vnd.in-toto+json", platform=unknown, annotations=notes)
            )
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": listed}
        if annotations:
            index["annotations"] = annotations
        top = listed[0] if single else blob(index, f"{OCI}.index.v1+json")
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return directory

    return write


@pytest.fixture
def start_buildkitd(tmp_path, home):
    """Start a BuildKit daemon, make it a builder of this home, and stop it after the test."""
    tool = [ROOT / "tests/tools/buildkit"]
    programs = Path(subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True, env=BEFORE).stdout.strip())
    plugins = home / ".docker/cli-plugins"
    plugins.mkdir()
    (plugins / "docker-buildx").symlink_to(programs / "docker-buildx")
    running = []

    def start(name="fleet", config=""):
        directory = tmp_path / f"buildkitd-{name}"
        directory.mkdir(exist_ok=True)
        (directory / "buildkitd.toml").write_text(config)
        address = f"unix://{directory}/socket"
        command = [programs / "buildkitd", "--config", directory / "buildkitd.toml", "--root", directory / "root"]
        command += ["--addr", address, "--oci-worker-snapshotter", "native", "--oci-worker-gc=false"]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        running.append(process)
        while not (directory / "socket").exists():
            assert process.poll() is None, (directory / "log").read_text()
            time.sleep(0.05)
        subprocess.run(
            ["docker", "buildx", "create", "--name", name, "--driver", "remote", address],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return name

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.fixture
def start_engine(home, monkeypatch):
    """Start a Docker engine of the test's own, which this home's CLI then uses; stop it after the test."""
    tool = [ROOT / "tests/tools/buildkit"]
    programs = Path(subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True, env=BEFORE).stdout.strip())
    running, bridges = [], []

    def start(*, containerd_store):
        plugins = home / ".docker/cli-plugins"
        plugins.mkdir(exist_ok=True)
        if not (plugins / "docker-buildx").exists():
            (plugins / "docker-buildx").symlink_to(programs / "docker-buildx")
        directory = Path(tempfile.mkdtemp(prefix="engine"))  # a socket's path is short
        # A bridge of its own: without one ("none"), dockerd deletes docker0, which is that of this machine's engine.
        bridge = f"md{os.getpid()}"
        for command in (
            ["add", "name", bridge, "type", "bridge"],
            ["set", bridge, "up"],
        ):
            subprocess.run(["ip", "link", *command], check=True)
        subprocess.run(["ip", "address", "add", "192.0.2.1/30", "dev", bridge], check=True)
        bridges.append(bridge)
        settings = {
            **({"features": {"containerd-snapshotter": True}} if containerd_store else {}),
            "storage-driver": "native" if containerd_store else "vfs",
            "hosts": [f"unix://{directory}/s"],
            "data-root": f"{directory}/data",
            "exec-root": f"{directory}/run",
            "pidfile": f"{directory}/pid",
            "bridge": bridge,
            "iptables": False,
            "ip6tables": False,
        }
        (directory / "daemon.json").write_text(json.dumps(settings))
        with (directory / "log").open("wb") as log:
            command = ["dockerd", "--config-file", directory / "daemon.json"]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        running.append((process, directory))
        for _attempt in range(600):
            if b"API listen on" in (directory / "log").read_bytes():
                break
            assert process.poll() is None, (directory / "log").read_text()
            time.sleep(0.1)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{directory}/s")
        return "default"

    yield start
    for process, directory in running:
        process.terminate()
        process.wait(60)
        shutil.rmtree(directory, ignore_errors=True)
    for bridge in bridges:
        subprocess.run(["ip", "link", "delete", bridge], check=False)


@pytest.fixture
def busybox():
    """A static busybox: what a RUN step needs."""
    tool = [ROOT / "tests/tools/buildkit", "image"]
    image = subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True, env=BEFORE).stdout.strip()
    with tarfile.open(image) as tar:
        return tar.extractfile("./bin/busybox").read()


@pytest.fixture
def builder(start_buildkitd):
    """A builder of this home: a BuildKit daemon, as the driver `remote` takes it."""
    return start_buildkitd()


@pytest.fixture
def context(tmp_path):
    """A context that every platform can build without executing anything."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        "FROM scratch\nARG TARGETARCH\nARG VERSION=1\nLABEL v=$VERSION\nCOPY hello /\n"
    )
    (directory / "hello").write_text("hello\n")
    (directory / ".dockerignore").write_text("*.log\n")
    return directory


@pytest.fixture
def build(module, registry, builder, context):
    """Build the context and push it as app:1, unless told otherwise."""

    def run(**arguments):
        defaults = {"context": str(context), "tags": [f"{registry.host}/app:1"], "platforms": FLEET, "push": True}
        result = module("buildx_image", **{**defaults, "builder": builder, **arguments})
        assert not result["failed"], json.dumps(result, indent=1)
        return result

    return run
