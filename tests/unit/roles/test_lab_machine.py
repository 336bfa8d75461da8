# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab on machines that are not as molecule's scenarios and the quickstart, its other tests, find them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

MACHINE = Path(__file__).resolve().parents[3] / "roles/lab/files/machine"


@pytest.fixture
def machine(tmp_path):
    """Run it with other programs in the place of some: name => what a shell does instead."""

    def run(*words, **programs):
        for name, script in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LAB_CACHE": str(tmp_path / "cache")}
        return subprocess.run([MACHINE, *words], env=env, capture_output=True, text=True, check=False)

    return run


def test_where_no_engine_runs_there_are_no_hosts_to_take_down(machine):
    done = machine("down", "lab", docker="exit 1", id="echo 0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_root_nobody_knows_whether_there_are_hosts(machine):
    done = machine("down", "lab", docker="exit 1", id="echo 1000")
    assert done.returncode == 1
    assert "run this as root" in done.stderr


@pytest.mark.parametrize(("clone", "removed"), [("/gone", ["rm -fv lab-drone"]), ("/here", [])])
def test_the_stand_in_of_another_clone_is_made_anew(machine, tmp_path, clone, removed):
    log = tmp_path / "log"
    answers = f"""
        echo "$*" >>{log}
        case "$*" in *Mounts*) echo {clone}/tests ;; *multiarch.lab*) echo lab ;; *Running*) echo true ;; esac"""
    done = machine("standin", "lab", "trixie", "/here/tests", docker=answers)
    assert done.returncode == 0, done.stderr
    assert [line for line in log.read_text().splitlines() if line.startswith("rm")] == removed


def test_an_engine_that_is_dead_and_that_nobody_collects_has_stopped():
    """In a container without an init, `make clean` waited for ever."""
    stop = re.search(r"^stop\(\).*?^\}", MACHINE.read_text(), re.MULTILINE | re.DOTALL).group()
    engine = subprocess.Popen(["sleep", "60"])  # ours to collect, which we do not
    try:
        subprocess.run(["bash", "-euc", f"{stop}\nstop {engine.pid}\nstop {engine.pid}"], check=True, timeout=20)
        assert "(zombie)" in Path(f"/proc/{engine.pid}/status").read_text()
    finally:
        engine.kill()
        engine.wait()


def test_clean_goes_on_where_an_image_is_still_used_and_says_what_is_left(tmp_path):
    """`make clean` stopped there, and then neither put the handlers back nor stopped the engine."""
    clean = re.search(r"^clean\(\).*?^\}", MACHINE.read_text(), re.MULTILINE | re.DOTALL).group()
    log = tmp_path / "log"
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "docker").write_text(
        '#!/bin/sh\ncase "$1 $2" in "image ls") printf "used\\nfree\\n" ;; "rmi -f") [ "$3" = free ] ;; esac\n'
    )
    (tmp_path / "python3").write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    for name in ("docker", "python3"):
        (tmp_path / name).chmod(0o755)
    script = f"set -o pipefail\nstate={state}\nhere=/here\n{clean}\nclean"
    done = subprocess.run(
        ["bash", "-euc", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CHANGED removed the host image free" in done.stdout
    assert "left: used" in done.stdout
    assert "handlers.py restore" in log.read_text()
    assert not state.exists()
