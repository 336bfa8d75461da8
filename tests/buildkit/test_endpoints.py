# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The endpoints of the remote driver that are reached through another program: ssh://, with a real sshd, and docker-container://."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx import reach
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin")
IMAGE = "multiarch.drone/buildkit:test-endpoints"
CONTAINER = "multiarch.drone-test-endpoints"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Do not wait for daemons that nobody will start."""
    monkeypatch.setattr(reach, "PATIENCE", 0)


@pytest.fixture
def host(user, daemon, programs, tmp_path, monkeypatch):
    """Return the address of an SSH server of its own, on which a BuildKit runs, that the user's ssh knows."""
    if not SSHD:
        pytest.skip("openssh-server is not installed")
    os.makedirs("/run/sshd", exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
        f"SetEnv PATH={programs}:/usr/bin:/bin\n"
    )
    key = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
    (tmp_path / "ssh_config").write_text(
        f"Host *\nIdentityFile {tmp_path}/user\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path}/known_hosts\n"
    )
    # ssh reads its configuration from the home that /etc/passwd names, which is not the test's.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/ssh_config "$@"\n')
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd_config")])
    try:
        for _attempt in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"root@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def test_a_builder_is_reached_through_ssh(user, daemon, host):
    wish = {"nodes": [{"endpoint": f"ssh://{host}{daemon.address[len('unix://') :]}", "platforms": ["amd64"]}]}
    assert user.declare(**wish)["changed"]
    again = user.declare(**wish)
    assert again["changed"] is False
    assert again["builder"]["nodes"][0]["buildkit_version"].startswith("v0.")
    user.build()
    [builder] = user.info()["builders"]
    assert builder["nodes"][0]["problems"] == []
    assert all(emulated["by"] is None for emulated in builder["nodes"][0]["platforms_emulated"])


def test_what_ssh_says_of_a_host_that_it_cannot_reach_is_told_and_the_old_builder_builds(user, daemon, host, tmp_path):
    user.declare(nodes=[{"endpoint": daemon.address}], default=True)
    before = user.instance()
    with pytest.raises(Problem, match=r"node ci0 does not answer at ssh://root@127\.0\.0\.1:1: .*Connection refused"):
        user.declare(nodes=[{"endpoint": "ssh://root@127.0.0.1:1"}])
    with pytest.raises(Problem, match=r"node ci0 does not answer at ssh://.*: .*nobody\.sock"):
        user.declare(nodes=[{"endpoint": f"ssh://{host}{tmp_path}/nobody.sock"}])
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(Problem, match=r"node ci0 does not answer at ssh://.*: Host key verification failed"):
        user.declare(nodes=[{"endpoint": f"ssh://{host}"}])
    assert user.instance() == before
    user.build()


@pytest.fixture(scope="module")
def container(programs):
    """Return a container in which a BuildKit runs."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine runs here")
    root = os.path.join(os.path.dirname(__file__), "../tools/buildkit")
    tar = subprocess.check_output([root, "image"], text=True).strip()
    settings = ['ENTRYPOINT ["/usr/bin/buildkitd"]', "ENV PATH=/usr/bin:/bin:/sbin"]
    subprocess.run(["docker", "rm", "-f", CONTAINER], capture_output=True, check=False)
    changes = [word for setting in settings for word in ("-c", setting)]
    subprocess.run(["docker", "import", *changes, tar, IMAGE], check=True, capture_output=True)
    # What --privileged gives, less what some machines do not have to give.
    rights = ["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"]
    rights += [f"--security-opt={opt}=unconfined" for opt in ("seccomp", "apparmor", "systempaths")]
    volume = ["--volume", "/var/lib/buildkit"]
    subprocess.run(
        ["docker", "run", "-d", "--name", CONTAINER, *rights, *volume, IMAGE], check=True, capture_output=True
    )
    yield CONTAINER
    subprocess.run(["docker", "rm", "-fv", CONTAINER], capture_output=True, check=True)
    subprocess.run(["docker", "image", "rm", IMAGE], capture_output=True, check=True)


def test_a_builder_is_reached_in_a_container_that_somebody_else_started(user, container):
    wish = {"nodes": [{"endpoint": f"docker-container://{container}"}]}
    assert user.declare(**wish)["changed"]
    assert user.declare(**wish)["changed"] is False
    user.build()
    subprocess.run(["docker", "stop", container], capture_output=True, check=True)
    with pytest.raises(Problem, match=rf"node ci0 does not answer at docker-container://{container}: .*is not running"):
        user.declare(**wish)
    subprocess.run(["docker", "start", container], capture_output=True, check=True)
    assert user.declare(**wish)["changed"] is False


def test_a_container_that_is_not_there_is_told_by_its_name(user, container, daemon):
    user.declare(nodes=[{"endpoint": daemon.address}])
    before = user.instance()
    with pytest.raises(Problem, match=r"node ci0 does not answer at docker-container://nobody: .*No such container"):
        user.declare(nodes=[{"endpoint": "docker-container://nobody"}])
    assert user.instance() == before
