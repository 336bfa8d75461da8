# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real Debian host of another CPU, with a kernel of its own: one for all tests of a file, over ssh as Ansible reaches hosts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "tests/tools/vm"
BINFMT = "/proc/sys/fs/binfmt_misc"


class Ran(NamedTuple):
    """What a playbook printed, how it ended, and how many tasks changed something."""

    shown: str
    code: int
    changed: int


class Host:
    """A running virtual machine."""

    def __init__(self, name: str, release: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.state = ROOT / "build/vm" / name
        if not (os.environ.get("KEEP_VM") and self.state.exists()):
            subprocess.run([VM, "start", name, release], check=True)
        self.inventory = directory / "inventory.ini"
        self.inventory.write_text(f"[runners]\n{name} ansible_ssh_common_args='-F {self.state}/ssh_config'\n")

    def close(self) -> None:
        if not os.environ.get("KEEP_VM"):
            subprocess.run([VM, "stop", self.name], check=True)

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a shell script on the host, and return what it says."""
        command = [VM, "ssh", self.name, f"bash -euc {shlex.quote(script)} 2>&1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout
        return done.stdout.strip()

    def reboot(self) -> None:
        subprocess.run([VM, "reboot", self.name], check=True)

    def _ansible(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        ours = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": "120",
            "ANSIBLE_HOST_KEY_CHECKING": "0",
        }
        return subprocess.run(
            [Path(sys.executable).parent / command, "-i", self.inventory, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **ours},
        )

    def module(self, name: str, *, check: bool = False, **options) -> dict:
        """Run one of our modules by Ansible over ssh, and return its result."""
        mode = ["--check"] if check else []
        ran = self._ansible(
            "ansible", self.name, "-m", f"multiarch.drone.{name}", "-a", json.dumps(options), "--diff", *mode
        )
        found = re.search(r"^\S+ \| [A-Z]+!? => ", ran.stdout, re.MULTILINE)
        assert found, ran.stdout + ran.stderr
        result, _end = json.JSONDecoder().raw_decode(ran.stdout[found.end() :])
        return result

    def play(self, *roles: str, check: bool = False, **variables) -> Ran:
        """Apply roles, or a playbook of ours where the only name ends with .yml."""
        if roles[0].endswith(".yml"):
            playbook = str(ROOT / "playbooks" / roles[0])
        else:
            playbook = str(self.directory / "play.yml")
            names = [f"multiarch.drone.{role}" for role in roles]
            Path(playbook).write_text(json.dumps([{"hosts": "all", "gather_facts": False, "roles": names}]))
        mode = ["--check"] if check else []
        ran = self._ansible("ansible-playbook", playbook, "-e", json.dumps(variables), "--diff", *mode)
        changed = sum(map(int, re.findall(r"changed=(\d+)", ran.stdout)))
        return Ran(ran.stdout + ran.stderr, ran.returncode, changed)

    def declare(self, module: str, **options) -> dict:
        """Run a module in check mode, for real, and again: what each of them promises is held here, for every test."""
        predicted = self.module(module, check=True, **options)
        assert "msg" not in predicted, predicted["msg"]
        result = self.module(module, **options)
        assert "msg" not in result, result["msg"]
        for promise in ("changed", "steps", "diff"):
            assert predicted.get(promise) == result.get(promise)
        again = self.module(module, **options)
        assert not again["changed"], again
        return result


@pytest.fixture(scope="session")
def release() -> str:
    return os.environ.get("VM_RELEASE", "trixie")


@pytest.fixture(scope="session")
def host(release, tmp_path_factory):
    """Return the host, which all tests share: each makes the state that it needs."""
    host = Host("arm64", release, tmp_path_factory.mktemp("arm64"))
    yield host
    host.close()
