# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pipelines into repositories behind a real sshd, on the loopback."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = """
import json, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
from ansible_collections.multiarch.drone.plugins.modules import drone_pipeline
drone_pipeline.main()
"""


def git(*arguments, **options):
    return subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True, text=True, **options).stdout


@dataclass
class Ssh:
    """A server, and the user's ways to it."""

    port: int
    keys: Path
    repository: Path

    @property
    def url(self):
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.repository}"

    def deploy(self, url="", key="user", known_hosts="known_hosts", options=""):
        """Run the module, and return its result."""
        ssh = f"ssh -F /dev/null -o UserKnownHostsFile={self.keys}/{known_hosts} {options}"
        pipeline = {"repo": "octocat/example", "tags": ["latest"], "platforms": ["linux/amd64", "linux/arm64"]}
        arguments = {"repos": [{"url": url or self.url}], "pipeline": pipeline, "git_timeout": 20}
        if key:
            arguments["git_ssh_key"] = str(self.keys / key)
        environment = {**os.environ, "GIT_SSH_COMMAND": ssh, "PYTHONPATH": str(ROOT / "build/collections")}
        environment.pop("SSH_AUTH_SOCK", None)
        done = subprocess.run(
            [sys.executable, "-c", START],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout)

    def commits(self):
        return int(git("-C", self.repository, "rev-list", "--count", "main"))


@pytest.fixture
def ssh(tmp_path):
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    keys, repository = tmp_path / "keys", tmp_path / "git/octocat/app.git"
    keys.mkdir()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    shutil.copy(keys / "user.pub", keys / "authorized_keys")
    git("init", "--quiet", "--bare", "--initial-branch=main", repository)
    head = "commit refs/heads/main\ncommitter a <a@b> now\ndata 1\nx\nM 100644 inline README\ndata 1\nx\n"
    git("-C", repository, "fast-import", "--quiet", "--date-format=now", input=head)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key = (keys / "host.pub").read_text()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (keys / "nobody").write_text("")
    (keys / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized_keys\n"
        f"StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\nUsePAM no\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    log = tmp_path / "sshd.log"
    with log.open("wb") as stream:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", keys / "config"], stdout=stream, stderr=stream)
    try:
        while b"Server listening" not in log.read_bytes():
            assert server.poll() is None, log.read_text()
        yield Ssh(port, keys, repository)
    finally:
        server.terminate()
        server.wait(10)


def test_a_repository_over_ssh_gets_one_commit_and_then_none(ssh):
    result = ssh.deploy()
    assert result["changed"], result
    assert ssh.commits() == 2
    assert "kind: pipeline" in git("-C", ssh.repository, "show", "main:.drone.yml")
    assert not ssh.deploy()["changed"]
    assert ssh.commits() == 2


def test_a_url_as_scp_writes_it_is_taken_too(ssh):
    url = f"{getpass.getuser()}@127.0.0.1:{ssh.repository}"
    assert ssh.deploy(url, options=f"-p {ssh.port}")["changed"]
    assert ssh.commits() == 2


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"key": "stranger"}, ("Permission denied", "set git_ssh_key")),
        ({"key": ""}, ("Permission denied", "set git_ssh_key")),
        ({"known_hosts": "nobody"}, ("Host key verification failed", "known_hosts")),
    ],
)
def test_a_key_or_a_host_that_is_not_known_is_an_error_with_what_to_do_and_nobody_is_asked(ssh, how, says):
    result = ssh.deploy(**how)
    assert result["failed"]
    assert all(one in result["msg"] for one in says), result["msg"]
    assert ssh.commits() == 1


def test_a_host_that_looks_like_an_option_runs_nothing(ssh, tmp_path):
    for url in (f"ssh://-oProxyCommand=touch%20{tmp_path}/pwned/x", f"x@-oProxyCommand=touch {tmp_path}/pwned:x"):
        assert ssh.deploy(url)["failed"]
    assert not (tmp_path / "pwned").exists()
