# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Full disks, corrupt files and broken steps: each is a clear error, and the old builder still builds."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _files
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Transaction
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.fixture
def small(tmp_path):
    """Return a file system of 256 kB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(directory):
    done = subprocess.run(["dd", "if=/dev/zero", f"of={directory}/filler", "bs=4k"], capture_output=True, check=False)
    assert b"No space left" in done.stderr


def files(directory):
    """Return what a directory holds, with the content of the files, less the locks."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_a_full_disk_is_an_error_that_names_it_and_the_old_builder_builds(user, daemon, small, monkeypatch):
    monkeypatch.setenv("BUILDX_CONFIG", str(small))
    wish = {"nodes": [{"endpoint": daemon.address}], "default": True}
    user.declare(**wish)
    fill(small)
    before = files(small)
    with pytest.raises(
        Problem, match=r"instances/ci: No space left on device; free some space on that disk; taken back"
    ):
        user.declare(nodes=[{"endpoint": daemon.address, "platforms": ["amd64"]}])
    assert files(small) == before
    assert user.declare(**wish)["changed"] is False
    os.remove(small / "filler")
    user.build()


def test_a_home_without_space_for_the_first_builder_stays_as_it_is(user, daemon, small, monkeypatch):
    monkeypatch.setenv("BUILDX_CONFIG", str(small / "buildx"))
    fill(small)
    with pytest.raises(Problem, match="No space left on device; free some space"):
        user.declare(nodes=[{"endpoint": daemon.address}])
    assert not list(small.rglob("ci"))


def test_a_full_tmp_is_an_error_before_anything_is_changed(user, daemon, small, monkeypatch):
    user.declare(nodes=[{"endpoint": daemon.address}])
    before = user.instance()
    # Root's temporary files are below RUN, everybody else's in tempfile's directory.
    monkeypatch.setattr(_files, "RUN", str(small / "run"))
    monkeypatch.setattr("tempfile.tempdir", str(small))
    os.mkdir(small / "run", 0o700)
    fill(small)
    with pytest.raises((Problem, OSError), match=r"[Nn]o space left on device"):
        user.declare(nodes=[{"endpoint": daemon.address, "platforms": ["amd64"]}])
    assert user.instance() == before
    assert (sorted(os.listdir(small)), os.listdir(small / "run")) == (["filler", "run"], [])
    user.build()


@pytest.mark.parametrize("place", ["instances/ci", "current", "defaults/"])
@pytest.mark.parametrize("stays_full", [True, False])
def test_whatever_file_cannot_be_written_all_files_are_what_they_were(user, daemon, monkeypatch, place, stays_full):
    user.declare(nodes=[{"endpoint": daemon.address}])
    user.declare("other", nodes=[{"endpoint": daemon.address}], default=True)
    before = files(user.state)
    write, full = Transaction.write, []

    def broken(self, relative, data):
        if relative.startswith(place) or (full and stays_full):
            full.append(relative)
            raise Problem(f"{relative}: No space left on device", "free some space")
        write(self, relative, data)

    monkeypatch.setattr(Transaction, "write", broken)
    with pytest.raises(Problem, match="No space left on device") as caught:
        user.declare(nodes=[{"endpoint": daemon.address, "platforms": ["amd64"]}], default=True)
    assert "not taken back" not in str(caught.value)
    monkeypatch.undo()
    assert full
    assert files(user.state) == before


def test_a_corrupt_neighbour_is_no_reason_not_to_declare_a_builder(user, daemon):
    (user.state / "instances").mkdir(parents=True)
    (user.state / "instances/broken").write_text("{")
    assert user.declare(nodes=[{"endpoint": daemon.address}])["changed"]
    with pytest.raises(Problem, match="instances/broken is not a builder that buildx can read"):
        user.declare(nodes=[{"endpoint": daemon.address}], exclusive=["ci"])
    assert (user.state / "instances/broken").exists()
    assert user.declare(nodes=[{"endpoint": daemon.address}])["changed"] is False


def test_nothing_of_a_change_stays_behind(user, daemon):
    for platforms in (["amd64"], [], ["386"]):
        user.declare(nodes=[{"endpoint": daemon.address, "platforms": platforms}], default=True)
    left = [name for name in os.listdir(user.state) if name.startswith((".tmp", ".multiarch"))]
    assert left == [".multiarch.drone.lock"]
    user.declare(state="absent")
    assert os.listdir(user.state / "instances") == []
