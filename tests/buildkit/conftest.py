# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real BuildKit daemons, plain processes with runc, and the real buildx, both built from their Go modules."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.declare import declare
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.info import describe

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {
    "docker_cli": "docker",
    "state": "present",
    "driver": "remote",
    "nodes": [],
    "buildkitd_config": None,
    "default": None,
    "bootstrap": True,
    "recreate": "auto",
    "keep_cache": None,
    "exclusive": None,
    "remove_orphans": [],
    "timeout": 60,
}


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the directory with buildkitd, buildctl and docker-buildx."""
    if os.geteuid():
        pytest.skip("buildkitd needs root here")
    for program in ("docker", "runc"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed")
    return Path(subprocess.check_output([ROOT / "tests/tools/buildkit"], text=True).strip())


class Daemon:
    """A buildkitd."""

    def __init__(self, programs: Path, directory: Path, address: str, *options: str, path: str = "") -> None:
        self.address, self.directory, self.programs = address, directory, programs
        self.path = path or f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.argv = [str(programs / "buildkitd"), "--root", str(directory / "root"), "--addr", address, *options]
        self.process: subprocess.Popen | None = None

    def start(self) -> Daemon:
        with open(self.directory / "log", "ab") as log:
            environment = {**os.environ, "PATH": self.path}
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env=environment)
        for _attempt in range(100):
            if b"running server on" in (self.directory / "log").read_bytes():
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError((self.directory / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None
            (self.directory / "log").unlink()


@pytest.fixture(scope="session")
def daemon(programs, tmp_path_factory):
    """Return a daemon on a unix socket that all tests share."""
    directory = tmp_path_factory.mktemp("bk")
    daemon = Daemon(programs, directory, f"unix://{directory}/s.sock").start()
    yield daemon
    daemon.stop()


@pytest.fixture
def another_daemon(programs, tmp_path):
    """Return a maker of further daemons, stopped after the test."""
    with contextlib.ExitStack() as stack:

        def make(address: str = "", *options: str, of: Path = programs, path: str = "") -> Daemon:
            directory = tmp_path / f"bk{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            daemon = Daemon(of, directory, address or f"unix://{directory}/s.sock", *options, path=path).start()
            stack.callback(daemon.stop)
            return daemon

        yield make


class User:
    """A user of buildx with a state of their own."""

    def __init__(self, home: Path, programs: Path) -> None:
        self.home, self.state = home, home / "docker/buildx"
        plugins = home / "docker/cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(programs / "docker-buildx")
        self.defaults = DEFAULTS
        self.env = {"DOCKER_CONFIG": str(home / "docker"), "HOME": str(home)}

    def declare(self, name: str = "ci", *, check: bool = False, **params):
        return declare({**DEFAULTS, "name": name, **params}, check_mode=check)

    def info(self, **params):
        return describe({"docker_cli": "docker", "names": None, "cache": True, "orphans": False, **params})

    def docker(self, *args: str, **options):
        return subprocess.run(
            ["docker", *args], capture_output=True, text=True, env={**os.environ, **self.env}, **options
        )

    def instance(self, name: str = "ci") -> bytes | None:
        path = self.state / "instances" / name
        return path.read_bytes() if path.exists() else None

    def build(self, builder: str = "ci") -> str:
        """Build an image of one file that no other test builds, and return what buildx says."""
        context = self.home / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY stamp /stamp\n")
        (context / "stamp").write_text(str(self.home))
        done = self.docker(
            "buildx", "build", "--builder", builder, "--progress=plain", "-o", "type=cacheonly", str(context)
        )
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture
def user(tmp_path, programs, monkeypatch):
    user = User(tmp_path / "home", programs)
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    return user
