# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import sys

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import cpu, probe, qemu
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.elf import program
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.probe import Run
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES, Platform, by_machine

LEVELS = {
    "v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
    "v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
}


@pytest.fixture
def machine(monkeypatch):
    """Let the kernel say what machine this is, and let programs of these architectures run."""

    def be(name, *runs):
        monkeypatch.setattr(cpu.os, "uname", lambda: os.uname_result(("Linux", "h", "6.12", "v", name)))
        ends = {True: Run(3), False: Run(None, "Exec format error")}
        monkeypatch.setattr(probe, "run", lambda architecture, **_options: ends[architecture.oci in runs])

    return be


@pytest.mark.parametrize(
    ("name", "runs", "native"),
    [
        ("x86_64", ["386"], {"amd64", "386"}),
        ("x86_64", [], {"amd64"}),
        ("i686", ["amd64"], {"386", "amd64"}),
        ("aarch64", ["arm"], {"arm64", "arm"}),
        ("aarch64", [], {"arm64"}),
        ("armv8l", ["arm64"], {"arm", "arm64"}),
        ("armv7l", [], {"arm"}),
        ("alpha", ["amd64"], set()),
    ],
)
def test_relatives_are_native_where_a_program_of_them_runs(machine, name, runs, native):
    machine(name, *runs)
    assert {oci for oci, architecture in ARCHITECTURES.items() if cpu.is_native(architecture)} == native


@pytest.mark.parametrize(("order", "own"), [("big", "mips64"), ("little", "mips64le")])
def test_a_mips_is_native_in_its_own_byte_order(machine, monkeypatch, order, own):
    machine("mips64")
    monkeypatch.setattr(sys, "byteorder", order)
    assert [oci for oci, architecture in ARCHITECTURES.items() if cpu.is_native(architecture)] == [own]


@pytest.mark.parametrize(
    ("uname", "platform"),
    [("armv5tel", "v5"), ("armv6l", "v6"), ("armv7l", "v7")],
)
def test_an_old_arm_is_not_read_as_a_newer_one(uname, platform):
    assert str(by_machine(uname)) == f"linux/arm/{platform}"


@pytest.mark.parametrize("have", ["", "v2", "v3", "v4"])
@pytest.mark.parametrize("want", ["", "v2", "v3", "v4"])
def test_a_level_of_x86_is_native_only_where_every_cpu_has_its_flags(monkeypatch, tmp_path, have, want):
    levels = ["", *LEVELS]
    flags = " ".join(LEVELS[level] for level in levels[1 : levels.index(have) + 1])
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor: 0\nflags\t\t: fpu {flags}\n\nprocessor: 1\nflags\t\t: fpu {flags} extra\n")
    monkeypatch.setattr(cpu, "CPUINFO", str(info))
    lacking = cpu.lacking(Platform("linux", "amd64", want))
    assert bool(lacking) is (levels.index(want) > levels.index(have)), lacking


@pytest.mark.parametrize(
    ("uname", "variant", "runs"),
    [
        ("armv6l", "v7", False),
        ("armv6l", "v6", True),
        ("armv5tel", "v6", False),
        ("armv7l", "v7", True),
        ("armv7l", "v8", False),
        ("armv8l", "v8", True),
        ("aarch64", "v7", True),
    ],
)
def test_a_variant_of_arm_is_native_only_where_the_cpu_is_as_new(machine, uname, variant, runs):
    machine(uname)
    assert (cpu.lacking(Platform("linux", "arm", variant)) == "") is runs


def test_a_qemu_of_32_bits_serves_a_userland_of_32_bits(machine, tmp_path):
    path = tmp_path / "qemu-s390x"
    path.write_bytes(program(ARCHITECTURES["arm"]))
    path.chmod(0o755)
    machine("aarch64", "arm")
    assert qemu.unusable(str(path)) == ""
    machine("aarch64")
    assert "for another CPU than this host's aarch64" in qemu.unusable(str(path))
