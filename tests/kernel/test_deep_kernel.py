# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`verify: deep` on the real kernel, with the QEMU of two releases."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.kernel

DEEP = "ansible_collections.multiarch.drone.plugins.module_utils._binfmt.deep"
# A program that this QEMU cannot run stands in for a QEMU that cannot run a program.
BROKEN = f"from {DEEP} import PROGRAMS; PROGRAMS['arm64'] = PROGRAMS['s390x'] = PROGRAMS['riscv64']"
# As where a limit forbids large files.
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_every_platform_does_what_packages_do(make_host, release):
    host = make_host(release)
    result = host.declare("all", verify="deep")
    assert [report["problems"] for report in result["platforms"]] == [[]] * len(result["platforms"])
    assert all(report["verified"] for report in result["platforms"])
    info = host.module("binfmt_qemu_info", verify="deep")
    assert info["platforms"] == result["platforms"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_qemu_that_breaks_is_refused_before_anything_changes(host, check_mode):
    before = host.state()
    result = host.module("binfmt_qemu", platforms=["arm64"], verify="deep", patch=BROKEN, check_mode=check_mode)
    assert result["failed"]
    assert "linux/arm64: start: it ended with status" in result["msg"]
    assert "QEMU 7.2." in result["msg"]
    assert "source: image" in result["msg"]
    assert host.state() == before


@pytest.mark.parametrize("check_mode", [True, False])
def test_debian_11s_qemu_breaks_on_s390x_and_is_refused(make_host, check_mode):
    try:
        host = make_host("bullseye")
    except subprocess.CalledProcessError:
        pytest.skip("Debian 11 is gone from the mirrors")
    assert host.module("binfmt_qemu", platforms=["s390x"], check_mode=True)["changed"]
    result = host.module("binfmt_qemu", platforms=["arm64", "s390x"], verify="deep", check_mode=check_mode)
    assert "linux/s390x: signals: it ended by SIGSEGV" in result["msg"]
    assert "linux/arm64: " not in result["msg"]
    assert host.handlers() == {}


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_handler_that_is_as_declared_and_breaks_is_told(host, check_mode):
    host.declare("arm64", "arm")
    before = host.state()
    info = host.module("binfmt_qemu_info", platforms=["arm64", "arm"], verify="deep", patch=BROKEN)
    assert info["platforms"][0]["verified"] is False
    assert "start: Exec format error" in info["platforms"][0]["problems"][0]
    assert "source: image" in info["platforms"][0]["problems"][0]
    assert (info["platforms"][1]["verified"], info["platforms"][1]["problems"]) == (True, [])
    result = host.module("binfmt_qemu", platforms=["arm64"], verify="deep", patch=BROKEN, check_mode=check_mode)
    assert "linux/arm64: start: Exec format error" in result["msg"]
    assert host.state() == before


def test_a_limit_of_the_host_is_not_blamed_on_qemu(host):
    host.declare("arm64")
    (report,) = host.module("binfmt_qemu_info", platforms=["arm64"], verify="deep", patch=LIMITED)["platforms"]
    assert report["verified"] is True
    assert "the CPU's own program fails as well: large files" in report["problems"][0]
    result = host.module("binfmt_qemu", platforms=["arm64"], verify="deep", patch=LIMITED)
    assert "the CPU's own program fails as well" in result["msg"]
    assert "set verify: true" in result["msg"]


def test_it_needs_no_memfd(host):
    host.sh("mount -t tmpfs tmpfs /tmp")
    without = "import os; os.memfd_create = lambda *unused: os.open('/nowhere', os.O_RDONLY)"
    result = host.module("binfmt_qemu", platforms=["arm64"], verify="deep", patch=without)
    assert result["platforms"][0]["verified"], result
    assert host.sh("ls -A /tmp") == ""
