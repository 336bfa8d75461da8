# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The deep check: its programs, what their ends mean, how it is asked for, and versions that are known to break."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import deep, elf, known
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.probe import Run
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.wish import depth
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES, by_machine
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

ROOT = Path(__file__).parents[5]
sys.path.insert(0, str(ROOT / "tests/tools"))
import programs  # noqa: E402  # pylint: disable=wrong-import-position

OWN = by_machine(os.uname().machine).arch
BEGUN = "numbers\nmemory\nheap\nsignals\nthreads\n"


def forbid(*_arguments):
    raise PermissionError(13, "Permission denied")


@pytest.fixture(scope="module")
def toolchain():
    if platform.machine() != "x86_64":
        pytest.skip("the compiler of the programs is one for x86-64")
    try:
        return programs.Toolchain()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"clang {programs.VERSION} cannot be fetched here: {error}")


@pytest.mark.parametrize("oci", ARCHITECTURES)
def test_each_program_is_what_its_source_makes(toolchain, oci):
    assert programs.kept()[oci] == toolchain.deep(oci)


@pytest.mark.parametrize("oci", ARCHITECTURES)
def test_the_small_programs_are_what_their_assembly_makes(toolchain, oci):
    assert elf.program(ARCHITECTURES[oci]).endswith(toolchain.argc(oci))
    assert bytes.fromhex(elf.ARGC[oci]) == toolchain.argc(oci)


@pytest.mark.parametrize("oci", ARCHITECTURES)
def test_each_program_is_one_of_its_architecture(tmp_path, oci):
    (tmp_path / "program").write_bytes(programs.kept()[oci])
    assert elf.read(str(tmp_path / "program")) == elf.Binary(ARCHITECTURES[oci].machine, True)
    assert programs.kept()[oci].startswith(elf.header(ARCHITECTURES[oci]))


def test_the_cpus_own_program_runs_well():
    assert deep.trouble(OWN) == ""
    assert deep.unproven() == ""


def test_without_memfd_and_without_a_directory_that_may_execute_it_runs_well(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "memfd_create", forbid)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert deep.trouble(OWN) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_steps_are_those_of_the_source():
    source = (ROOT / "plugins/module_utils/_binfmt/deep.c").read_text()
    named = [line.split('"')[1] for line in source.splitlines() if line.strip().startswith("begin_step(")]
    assert tuple(named) == deep.STEPS


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (Run(0, BEGUN + "done\n"), ""),
        (Run(-signal.SIGSEGV, BEGUN), "threads: it ended by SIGSEGV"),
        (
            Run(-signal.SIGSEGV, BEGUN + "qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n"),
            "threads: it ended by SIGSEGV, saying 'qemu: uncaught target signal 11 (Segmentation fault) - core dumped'",
        ),
        (Run(1, BEGUN + "threads: futex, error 38\n"), "threads: futex, error 38"),
        (Run(1, "numbers\nnumbers: a root is wrong\n"), "numbers: a root is wrong"),
        # It says that it is done, and ends otherwise; it ends well, and is not done.
        (Run(3, BEGUN + "done\n"), "done: it ended with status 3"),
        (Run(0, BEGUN), "threads: it ended with status 0"),
        (Run(0, ""), "start: it ended with status 0"),
        (Run(None, "Exec format error"), "start: Exec format error"),
        (Run(None, BEGUN + "\nit does not go on (60 s)"), "threads: it does not go on (60 s)"),
        (Run(255, "Error while loading\n"), "start: it ended with status 255, saying 'Error while loading'"),
        (Run(-33, BEGUN), "threads: it ended by signal 33"),
    ],
)
def test_what_the_end_of_the_program_says(run, told):
    assert deep.judge(run) == told


def test_a_program_that_does_not_end_is_killed_with_its_children(monkeypatch):
    monkeypatch.setattr(deep, "PATIENCE", 0.3)
    script = b"#!/bin/sh\necho numbers; sleep 1000 & sleep 1000\n"
    monkeypatch.setattr(deep.zlib, "decompress", lambda _packed: script)
    # A shell opens its script again, so it is no file in memory.
    monkeypatch.setattr(os, "memfd_create", forbid)
    assert deep.trouble(OWN) == "numbers: it does not go on (0 s)"


@pytest.mark.parametrize("value", [True, "yes", "on", "1", "true", "True", " YES ", "t", "y", 1, 1.0])
def test_every_spelling_of_yes_is_the_small_program(value):
    assert depth(value) == (True, False)


@pytest.mark.parametrize("value", [False, "no", "off", "0", "false", "FALSE", "f", "n", 0, 0.0])
def test_every_spelling_of_no_is_none(value):
    assert depth(value) == (False, False)


@pytest.mark.parametrize("value", ["deep", "Deep", " deep\n"])
def test_deep_is_both(value):
    assert depth(value) == (True, True)


@pytest.mark.parametrize("value", ["depe", "", 2, [], {}, ["deep"], {"deep": True}, "deeper", 1.5, "None"])
def test_other_values_are_refused_with_what_may_be_written(value):
    with pytest.raises(Problem, match=r"is not a value of verify; write true, false or deep"):
        depth(value)


@pytest.mark.parametrize(
    ("architecture", "version", "what"),
    [
        ("arm64", "4.2.1", "moby/issues/43039"),
        ("arm64", "5.0.0", ""),
        ("arm64", "5.2.0", "buildx/issues/542"),
        ("arm64", "6.2.0", ""),
        ("s390x", "5.2.0", "signals"),
        ("s390x", "7.0.0", "wasmtime"),
        ("s390x", "7.1.0", ""),
        ("arm64", "9.2.2", "binfmt/issues/245"),
        ("arm", "9.2.2", ""),
        ("arm64", "10.0.13", ""),
        ("arm64", "10.0.0-rc1", ""),
        ("arm64", "10.1.3", "binfmt/issues/298"),
        ("arm64", "10.1.2", ""),
        ("arm64", "7.2.22", ""),
        ("arm64", None, ""),
        ("arm64", "unknown", ""),
    ],
)
def test_versions_that_are_known_to_break_are_warned_of_and_others_are_not(architecture, version, what):
    told = known.warning(architecture, version)
    assert (what in told and f"QEMU {version}" in told and "source: image" in told) if what else told == ""


def test_the_documentation_has_every_source_of_the_table():
    text = (ROOT / "docs/qemu-versions.md").read_text()
    assert [b.source for b in known.BREAKAGES if b.source.startswith("https") and b.source not in text] == []
