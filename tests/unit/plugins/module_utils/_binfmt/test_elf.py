# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import struct

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import elf
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

# Written by hand from the ELF specification, to hold the table to: class, data, e_machine.
IDENT = {
    "amd64": "02013e00",
    "arm64": "0201b700",
    "arm": "01012800",
    "riscv64": "0201f300",
    "s390x": "02020016",
    "ppc64le": "02011500",
    "386": "01010300",
    "mips64le": "02010800",
    "mips64": "02020008",
    "loong64": "02010201",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_header_is_that_of_the_architecture(name):
    head = elf.header(ARCHITECTURES[name])
    assert len(head) == 20
    assert (head[:4], (head[4:6] + head[18:20]).hex()) == (b"\x7fELF", IDENT[name])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_program_is_a_static_executable_of_some_hundred_bytes(name, tmp_path):
    program = elf.program(ARCHITECTURES[name])
    assert program.startswith(elf.header(ARCHITECTURES[name]))
    assert len(program) < 160
    path = tmp_path / "program"
    path.write_bytes(program)
    assert elf.read(str(path)) == (ARCHITECTURES[name].machine, True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_program_that_no_handler_sees_differs_in_its_padding_alone(name):
    plain, unseen = (elf.program(ARCHITECTURES[name], unseen=unseen) for unseen in (False, True))
    assert plain[:9] + plain[16:] == unseen[:9] + unseen[16:]
    assert any(unseen[9:16])


def test_a_program_with_an_interpreter_is_dynamic(tmp_path):
    program = bytearray(elf.program(ARCHITECTURES["arm64"]))
    struct.pack_into("<I", program, 64, elf.PT_INTERP)
    (tmp_path / "dynamic").write_bytes(program)
    assert not elf.read(str(tmp_path / "dynamic")).static


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not an ELF file"),
        (b"#!/bin/sh\n", "is not an ELF file"),
        (b"\x7fELF", "is not an ELF file"),
        (b"\x7fELF\x09\x09" + bytes(80), "is not an ELF file"),
        (b"\x7fELF\x02\x01\x01" + bytes(80), "no program headers"),
        (b"\x7fELF\x02\x01\x01" + b"\xff" * 80, "no program headers"),
        (None, "No such file"),
    ],
)
def test_what_is_no_program_is_told(tmp_path, content, told):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Problem, match=told):
        elf.read(str(path))
