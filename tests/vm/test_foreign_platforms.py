# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which platforms an arm64 host executes: its own CPU's, and others by handlers of its own kernel, which a reboot really forgets.

The tests run in their order: the first ones see the host as Debian installs it.
"""

from __future__ import annotations

import pytest

from tests.vm.conftest import BINFMT

FOREIGN = ["linux/amd64", "linux/s390x"]
PLATFORMS = ["linux/arm64", "linux/arm/v7", *FOREIGN]
ROLE = {"qemu_platforms": PLATFORMS}


def of(result: dict) -> dict[str, dict]:
    """Return what a module reports, by platform."""
    return {report["platform"]: report for report in result["platforms"]}


def hold_all_run(host) -> None:
    """Hold that the host executes every platform, by its CPU or by our handlers."""
    found = of(host.module("binfmt_qemu_info", platforms=PLATFORMS))
    assert {name: (report["native"], report["verified"]) for name, report in found.items()} == {
        "linux/arm64": (True, True),
        "linux/arm/v7": (True, True),
        "linux/amd64": (False, True),
        "linux/s390x": (False, True),
    }
    assert all(report["persistent"] and report["flags"] == "POCF" for report in map(found.get, FOREIGN)), found
    assert [report["problems"] for report in found.values()] == [[]] * len(PLATFORMS)


@pytest.fixture
def provisioned(host):
    """Return the host with QEMU and its handlers, as the role makes them."""
    ran = host.play("qemu", **ROLE)
    assert ran.code == 0, ran.shown
    return host


def test_what_the_cpu_runs_itself_is_native_and_all_else_has_no_handler(host):
    assert host.sh("uname -m; dpkg --print-architecture") == "aarch64\narm64"
    found = of(host.module("binfmt_qemu_info", platforms=PLATFORMS))
    assert [found[name]["native"] for name in PLATFORMS] == [True, True, False, False]
    assert [found[name]["verified"] for name in PLATFORMS] == [True, True, None, None]
    assert all("there is no handler" in found[name]["problems"][0] for name in FOREIGN)


def test_without_qemu_nothing_is_changed_and_the_package_is_named(host):
    before = host.sh(f"ls {BINFMT} /etc/binfmt.d")
    for check in (True, False):
        refused = host.module("binfmt_qemu", platforms=PLATFORMS, check=check)
        assert "qemu-user-static" in refused["msg"], refused
    assert host.sh(f"ls {BINFMT} /etc/binfmt.d") == before


def test_the_cpu_needs_no_qemu_for_its_own_platforms(host):
    done = host.module("binfmt_qemu", platforms=["linux/arm64", "linux/arm/v7"])
    assert not done["changed"]
    assert [report["native"] for report in done["platforms"]] == [True, True]


def test_the_role_predicts_installs_registers_and_is_converged(host):
    predicted = host.play("qemu", check=True, **ROLE)
    assert predicted.code == 0, predicted.shown
    assert predicted.changed
    assert "linux/amd64, linux/s390x would be" in predicted.shown
    assert "qemu" not in host.sh("dpkg-query -f '${Package}\n' -W")
    ran = host.play("qemu", **ROLE)
    assert ran.code == 0, ran.shown
    assert ran.changed
    hold_all_run(host)
    again = host.play("qemu", **ROLE)
    assert (again.code, again.changed) == (0, 0), again.shown


@pytest.fixture
def bare(provisioned):
    """Return the host as it is before anything has touched binfmt_misc: its module is not loaded."""
    host = provisioned
    host.sh(
        f"systemctl stop proc-sys-fs-binfmt_misc.automount; ! mountpoint -q {BINFMT} || umount {BINFMT}; "
        "modprobe -r binfmt_misc; ! grep -q binfmt_misc /proc/modules"
    )
    yield host
    host.sh("modprobe binfmt_misc; systemctl start proc-sys-fs-binfmt_misc.automount systemd-binfmt; ls " + BINFMT)


def test_a_module_that_is_not_loaded_is_loaded_and_the_handlers_are_registered(bare):
    host = bare
    done = host.declare("binfmt_qemu", platforms=PLATFORMS)
    assert done["steps"] == [f"mount {BINFMT}", "register qemu-x86_64", "register qemu-s390x"]
    hold_all_run(host)
    host.sh("systemctl start proc-sys-fs-binfmt_misc.automount")
    assert not host.module("binfmt_qemu", platforms=PLATFORMS)["changed"]


def test_after_a_reboot_the_handlers_are_there_and_nothing_is_to_be_done(provisioned):
    host = provisioned
    host.reboot()
    hold_all_run(host)
    again = host.play("qemu", **ROLE)
    assert (again.code, again.changed) == (0, 0), again.shown


def test_a_reinstalled_package_leaves_the_handlers_ours(provisioned):
    host = provisioned
    host.sh(
        "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --reinstall qemu-user qemu-user-binfmt qemu-user-static"
    )
    hold_all_run(host)
    assert not host.module("binfmt_qemu", platforms=PLATFORMS)["changed"]


@pytest.mark.parametrize("automount", ["stopped", "waiting"])
def test_modules_that_an_upgrade_of_the_kernel_took_away_are_told_before_anything_is_changed(bare, automount):
    host = bare
    host.sh('mv "/lib/modules/$(uname -r)" /lib/modules/away')
    if automount == "waiting":
        host.sh("systemctl start proc-sys-fs-binfmt_misc.automount")
    try:
        found = host.module("binfmt_qemu_info", platforms=PLATFORMS)
        refused = [host.module("binfmt_qemu", platforms=PLATFORMS, check=check) for check in (True, False)]
    finally:
        host.sh('systemctl stop proc-sys-fs-binfmt_misc.automount; mv /lib/modules/away "/lib/modules/$(uname -r)"')
    assert found["binfmt_misc"] == "not loaded", found
    assert ["after an upgrade of the kernel, reboot" in result["msg"] for result in refused] == [True, True], refused
    assert refused[0]["msg"] == refused[1]["msg"]


def test_a_blacklisted_module_is_loaded_all_the_same(bare):
    host = bare
    host.sh("echo blacklist binfmt_misc >/etc/modprobe.d/no-binfmt.conf")
    try:
        done = host.declare("binfmt_qemu", platforms=PLATFORMS)
    finally:
        host.sh("rm /etc/modprobe.d/no-binfmt.conf")
    assert done["steps"][:2] == ["load the kernel module binfmt_misc", f"mount {BINFMT}"]


def test_a_read_only_binfmt_misc_is_told_before_anything_is_changed(provisioned):
    host = provisioned
    host.sh(f"echo -1 >{BINFMT}/qemu-s390x; mount -o remount,bind,ro {BINFMT}")
    try:
        refused = [host.module("binfmt_qemu", platforms=PLATFORMS, check=check) for check in (True, False)]
        as_it_is = host.module("binfmt_qemu", platforms=["linux/amd64", "linux/arm/v7"])
    finally:
        host.sh(f"mount -o remount,bind,rw {BINFMT}")
    assert ["register cannot be written" in result["msg"] for result in refused] == [True, True], refused
    assert not as_it_is["changed"]
    assert host.module("binfmt_qemu", platforms=PLATFORMS)["steps"] == ["register qemu-s390x"]
