# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Odd files of binfmt.d, with systemd-binfmt and the kernel as judges: what they bring, and what is left when rules go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .conftest import SYSTEMD_BINFMT

pytestmark = pytest.mark.kernel

JUDGE = Path(__file__).with_name("binfmt_d_judge.py")
EMPTY = "for d in /etc /run /usr/lib /usr/local/lib; do mkdir -p $d/binfmt.d; mount -t tmpfs tmpfs $d/binfmt.d; done"
ROUNDS = int(os.environ.get("MULTIARCH_BINFMT_ROUNDS", "60"))


@pytest.mark.parametrize("seed", [1, 1001, 2001])
def test_odd_files_are_read_as_systemd_and_the_kernel_read_them(make_host, seed):
    binary = next(filter(os.path.exists, SYSTEMD_BINFMT), None)
    if binary is None:
        pytest.skip("no systemd here")
    host = make_host(None)
    host.sh(EMPTY)
    done = host.run(sys.executable, str(JUDGE), str(seed), str(ROUNDS), binary, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
