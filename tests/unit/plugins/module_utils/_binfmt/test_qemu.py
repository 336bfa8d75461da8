# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import probe, qemu
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.cpu import is_native
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.elf import program
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.probe import Run
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES, by_machine
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

OWN = by_machine(os.uname().machine).arch
ARM64 = ARCHITECTURES["arm64"]


def no_memory():
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("run", "trouble"),
    [
        (Run(3), ""),
        (Run(2), "an argument of each program is swallowed: flag P does not fit the interpreter"),
        (Run(None, "Exec format error"), r"a program for it does not run \(Exec format error\)"),
        (Run(0), "ends with 0 instead of 3$"),
        (Run(255, "no such file"), "ends with 255 instead of 3, printing 'no such file'"),
        (Run(-11), "ends with -11 instead of 3"),
    ],
)
def test_how_a_program_ends_tells_what_is_wrong(run, trouble):
    assert re.search(trouble, run.trouble) if trouble else run.trouble == ""


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("memory", [True, False])
def test_the_cpus_own_program_counts_its_arguments(monkeypatch, unseen, memory):
    if not memory:  # vm.memfd_noexec=2
        monkeypatch.setattr(probe, "_memory", no_memory)
    seen = []
    assert probe.run(OWN, lambda exe: seen.append(os.readlink(exe)), unseen=unseen).trouble == ""
    assert "multiarch" in seen[0]


def test_the_environment_of_the_task_does_not_reach_the_program(monkeypatch):
    monkeypatch.setenv("QEMU_LOG_FILENAME", "/nowhere/log")
    environment = []
    probe.run(OWN, lambda exe: environment.append(Path(exe).with_name("environ").read_bytes()))
    assert environment == [b""]


def test_a_program_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(probe, "PATIENCE", 0.05)
    monkeypatch.setattr(probe, "ARGUMENTS", ("probe",))
    monkeypatch.setattr(probe, "_memory", no_memory)
    monkeypatch.setattr(probe.elf, "program", lambda *_unused, **_options: b"#!/usr/bin/tail -f\n")
    assert "did not end" in probe.run(OWN).said


def test_the_cpus_own_architecture_is_native_and_a_foreign_one_is_not():
    assert is_native(OWN)
    assert not is_native(ARCHITECTURES["s390x" if OWN.oci != "s390x" else "riscv64"])


def put(path, content=b"", mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or program(OWN))
    path.chmod(mode)
    return str(path)


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A host whose packages put QEMU below tmp_path."""
    monkeypatch.setattr(qemu, "PACKAGED", tuple(f"{tmp_path}{path}" for path in qemu.PACKAGED))
    return tmp_path


def test_the_wrapper_that_the_package_registers_comes_first(packaged):
    plain = put(packaged / "usr/bin/qemu-aarch64")
    assert qemu.find(ARM64) == plain
    static = put(packaged / "usr/bin/qemu-aarch64-static")
    assert qemu.find(ARM64) == static
    wrapper = packaged / "usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    wrapper.parent.mkdir(parents=True)
    wrapper.symlink_to(static)
    assert qemu.find(ARM64) == str(wrapper)


def dynamic():
    content = bytearray(program(OWN))
    content[64 if OWN.bits == 64 else 52] = 3
    return bytes(content)


def test_a_static_qemu_is_found_behind_a_dynamic_one(packaged):
    put(packaged / "usr/libexec/qemu-binfmt/aarch64-binfmt-P", dynamic())
    with pytest.raises(Problem, match=r"is dynamic: .*; install the package qemu-user-static"):
        qemu.find(ARM64)
    static = put(packaged / "usr/bin/qemu-aarch64-static")
    assert qemu.find(ARM64) == static


@pytest.mark.parametrize(
    ("name", "content", "mode", "told"),
    [
        ("q", b"#!/bin/sh\n", 0o755, "is not an ELF file"),
        ("q", b"", 0o644, "is not executable"),
        ("with space", b"", 0o755, "no space"),
        ("with:colon", b"", 0o755, "no space, colon"),
        ("x" * 127, b"", 0o755, "longer than the kernel's 127 bytes"),
        ("q", program(ARCHITECTURES["s390x"]), 0o755, "a program for another CPU"),
    ],
)
def test_what_no_handler_can_use_is_told(tmp_path, name, content, mode, told):
    assert told in qemu.unusable(put(tmp_path / name, content, mode))


@pytest.mark.parametrize(
    ("interpreter", "version", "credentials", "kernel", "flags"),
    [
        ("/usr/libexec/qemu-binfmt/arm-binfmt-P", None, True, "4.9.0", "POCF"),
        ("/usr/libexec/qemu-binfmt/arm-binfmt-P", "5.2.0", False, "6.1.0-9-amd64", "POF"),
        ("/usr/bin/qemu-arm", "10.0.13", True, "6.1.0-9-amd64", "POCF"),
        ("/usr/bin/qemu-arm", "10.0.13", True, "5.10.0", "OCF"),
        ("/usr/bin/qemu-arm", "5.2.0", True, "6.1.0", "OCF"),
        ("/usr/bin/qemu-arm", None, False, "6.1.0", "OF"),
    ],
)
def test_flag_p_goes_with_interpreters_that_take_it(monkeypatch, interpreter, version, credentials, kernel, flags):
    monkeypatch.setattr(qemu.os, "uname", lambda: os.uname_result(("Linux", "h", kernel, "v", "x86_64")))
    assert qemu.flags(interpreter, version, credentials) == flags


def test_equal_content_is_the_same_qemu_and_an_equal_size_is_not(tmp_path):
    programs = qemu.Programs(str(tmp_path / "cache/qemu.json"))
    one, copy, other = (put(tmp_path / name, content) for name, content in (("a", b"xy"), ("b", b"xy"), ("c", b"xz")))
    assert programs.same(one, one)
    assert programs.same(one, copy)
    assert not programs.same(one, other)
    assert not programs.same(one, str(tmp_path / "nothing"))


def test_what_was_learned_is_kept_until_the_file_is_another(tmp_path, monkeypatch):
    cache = tmp_path / "run/qemu.json"
    script = tmp_path / "qemu"
    put(script, b"#!/bin/sh\necho qemu-arm version 9.1.2 '(Debian)'\n")
    programs = qemu.Programs(str(cache))
    assert programs.version(str(script)) == "9.1.2"
    programs.save()
    monkeypatch.setattr(qemu.Programs, "_ask", staticmethod(lambda _path: pytest.fail("asked again")))
    assert qemu.Programs(str(cache)).version(str(script)) == "9.1.2"
    put(tmp_path / "new", b"#!/bin/sh\necho qemu-arm version 10.0.0\n")
    os.replace(tmp_path / "new", script)
    monkeypatch.undo()
    assert qemu.Programs(str(cache)).version(str(script)) == "10.0.0"


@pytest.mark.parametrize("content", ["", "nonsense", "[]", json.dumps({"a": 1}), None])
def test_a_cache_that_cannot_be_used_is_no_error(tmp_path, content):
    cache = tmp_path / "qemu.json"
    if content is not None:
        cache.write_text(content)
    script = put(tmp_path / "qemu", b"#!/bin/sh\necho qemu-arm version 9.1.2\n")
    programs = qemu.Programs(str(cache))
    assert programs.version(script) == "9.1.2"
    programs.save()
    assert qemu.Programs("/proc/nothing/qemu.json").save() is None


def test_a_program_that_tells_no_version_has_none(tmp_path):
    programs = qemu.Programs(str(tmp_path / "cache"))
    assert programs.version(put(tmp_path / "silent", b"#!/bin/sh\nexit 1\n")) is None
    assert programs.version(str(tmp_path / "nothing")) is None


RELEASES = {
    "fedora": ('NAME="Fedora Linux"\nID=fedora\nPRETTY_NAME="Fedora Linux 43 (Server)"\n', "source: image"),
    "alpine": ('ID=alpine\nPRETTY_NAME="Alpine Linux v3.22"\n', "source: image"),
    "arch": ('ID=arch\nPRETTY_NAME="Arch Linux"\n', "source: image"),
    "suse": ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\nPRETTY_NAME="openSUSE Leap 16.0"\n', "source: image"),
    "debian": ('ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', "role multiarch.drone.qemu"),
    "ubuntu": ('ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n', "role multiarch.drone.qemu"),
    "mint": ('ID=linuxmint\nID_LIKE="ubuntu debian"\nPRETTY_NAME="Linux Mint 22"\n', "role multiarch.drone.qemu"),
}


@pytest.mark.parametrize("release", RELEASES)
def test_without_a_qemu_the_way_out_is_the_distributions(tmp_path, monkeypatch, release):
    text, way_out = RELEASES[release]
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr(qemu, "OS_RELEASE", (str(tmp_path / "none"), str(tmp_path / "os-release")))
    monkeypatch.setattr(qemu, "PACKAGED", (f"{tmp_path}/qemu-{{}}",))
    with pytest.raises(Problem, match="there is no static QEMU for linux/arm64 on this host") as raised:
        qemu.find(ARCHITECTURES["arm64"])
    assert way_out in raised.value.hint


def test_a_platform_that_a_releases_qemu_lacks_is_named_with_its_version(tmp_path, monkeypatch):
    (tmp_path / "os-release").write_text(RELEASES["ubuntu"][0])
    (tmp_path / "qemu-aarch64").write_text("")
    monkeypatch.setattr(qemu, "OS_RELEASE", (str(tmp_path / "os-release"),))
    monkeypatch.setattr(qemu, "PACKAGED", (f"{tmp_path}/qemu-{{}}",))
    monkeypatch.setattr(qemu.Programs, "_ask", staticmethod(lambda _path: "6.2.0"))
    with pytest.raises(Problem, match=r"QEMU 6\.2\.0 of Ubuntu 22\.04\.5 LTS has no loong64.*source: image"):
        qemu.find(ARCHITECTURES["loong64"])
