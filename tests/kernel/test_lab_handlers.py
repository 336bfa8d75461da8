# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `make clean` promises: the machine's handlers as they were found."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

HANDLERS = Path(__file__).resolve().parents[2] / "roles/lab/files/handlers.py"
BINFMT = "/proc/sys/fs/binfmt_misc"


def test_what_a_lab_registered_removed_and_changed_is_put_back(host):
    host.register("qemu-aarch64", "/usr/bin/qemu-aarch64-static", "F", "7f454c460201010000000000000000000200b700")
    host.register("python3.11", "/usr/bin/python3.11", "", "a70d0d0a")
    host.sh(f"printf ':old:E::exe::/bin/true:' >{BINFMT}/register; echo 0 >{BINFMT}/old")
    before = host.handlers()
    host.sh(f"python3 {HANDLERS} save /run/state")
    host.sh(f"echo -1 >{BINFMT}/qemu-aarch64; echo -1 >{BINFMT}/python3.11; echo -1 >{BINFMT}/old")
    host.register("qemu-aarch64", "/usr/bin/qemu-aarch64-static", "CF", "7f454c460201010000000000000000000200b700")
    host.register("qemu-s390x", "/usr/bin/qemu-s390x-static", "CF", "7f454c4602020100000000000000000000020016")
    assert "CHANGED" in host.sh(f"python3 {HANDLERS} restore /run/state")
    assert host.handlers() == before
    assert host.sh(f"python3 {HANDLERS} restore /run/state") == ""


def test_handlers_of_a_machine_that_has_binfmt_misc_unmounted_are_known_too(host):
    host.register("qemu-aarch64", "/usr/bin/qemu-aarch64-static", "F", "7f454c460201010000000000000000000200b700")
    before = host.handlers()
    elsewhere = f"umount {BINFMT}; python3 {HANDLERS} save /run/state; python3 {HANDLERS} restore /run/state"
    host.run("unshare", "--mount", "bash", "-euc", elsewhere)
    assert host.handlers() == before
