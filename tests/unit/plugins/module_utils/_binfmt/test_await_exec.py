# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import sys

from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import probe


def test_a_child_is_looked_at_only_when_it_is_python_no_more(tmp_path, monkeypatch):
    exe = tmp_path / "exe"
    exe.symlink_to(os.path.realpath(sys.executable))
    slept = []

    def becomes_qemu(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            exe.unlink()
            exe.symlink_to("/bin/sh")

    monkeypatch.setattr(probe.time, "sleep", becomes_qemu)
    probe._await_exec(str(exe))
    assert len(slept) == 3


def test_a_child_that_has_ended_is_not_waited_for(tmp_path):
    probe._await_exec(str(tmp_path / "gone"))
