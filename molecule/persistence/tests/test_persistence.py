# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import subprocess
import time

BINFMT = "/proc/sys/fs/binfmt_misc"


def flags(host, name):
    """Return the flags of a handler, "" where the kernel does not have it."""
    entry = host.run(f"cat {BINFMT}/{name}")
    return "".join(line.split()[1] for line in entry.stdout.splitlines() if line.startswith("flags:"))


def test_handlers_are_ours(host):
    assert set(flags(host, "qemu-aarch64")) == set("POCF")
    assert set(flags(host, "qemu-s390x")) == set("POCF")


def test_handlers_come_back_when_systemd_binfmt_flushes_them(host):
    host.run_expect([0], f"echo -1 >{BINFMT}/status")
    assert flags(host, "qemu-aarch64") == ""
    host.run_expect([0], "systemctl restart systemd-binfmt")
    assert set(flags(host, "qemu-aarch64")) == set("POCF")


def test_handlers_stay_ours_when_a_package_triggers_systemd_binfmt(host):
    host.run_expect([0], "dpkg-trigger --no-await --by-package=systemd /usr/lib/binfmt.d && dpkg --configure --pending")
    assert set(flags(host, "qemu-aarch64")) == set("POCF")


def test_handlers_come_back_after_a_reboot_and_nothing_is_left_to_do(host, play):
    name = host.check_output("hostname")
    subprocess.run(["docker", "restart", name], check=True, stdout=subprocess.DEVNULL)
    for _attempt in range(60):
        if host.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded"):
            break
        time.sleep(0.5)
    assert set(flags(host, "qemu-aarch64")) == set("POCF")
    assert set(flags(host, "qemu-s390x")) == set("POCF")
    converge = __file__.replace("tests/test_persistence.py", "converge.yml")
    assert play(converge)[name]["changed"] == 0


def test_an_absent_handler_stays_away_though_the_package_would_bring_it(host, play):
    name = host.check_output("hostname")
    converge = __file__.replace("tests/test_persistence.py", "converge.yml")
    arguments = ["-e", '{"qemu_state": "absent", "qemu_platforms": ["linux/s390x"], "qemu_packages": []}']
    assert play(converge, *arguments)[name]["changed"] == 1
    host.run_expect([0], "systemctl restart systemd-binfmt")
    assert flags(host, "qemu-s390x") == ""
    assert host.file("/etc/binfmt.d/qemu-s390x.conf").linked_to == "/dev/null"
    assert set(flags(host, "qemu-aarch64")) == set("POCF")
    assert play(converge, *arguments)[name]["changed"] == 0
