# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import kernel as _binfmt
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import kernel_write
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.kernel import Handler, Kernel
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

# What Linux 6.18 shows after the registrations of each, the newest first; and the lines that were registered.
RECORDED = Path(__file__).parents[3] / "fixtures/binfmt"
SOURCES = ("debian-12", "debian-13", "tonistiigi")
ARM64 = ARCHITECTURES["arm64"]


def recorded(source):
    texts = json.loads((RECORDED / f"{source}.json").read_text())
    return {name: Handler.from_kernel(name, text) for name, text in texts.items()}


def lines(source):
    return (RECORDED / f"{source}.conf").read_text().splitlines()


@pytest.mark.parametrize("source", SOURCES)
def test_a_rule_and_what_the_kernel_makes_of_it_are_the_same_handler(source):
    by_line = {handler.name: handler for handler in map(Handler.from_line, lines(source)) if handler}
    by_kernel = {name: handler for name, handler in recorded(source).items() if handler}
    assert len(by_kernel) >= 8
    assert by_line == by_kernel


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_written_is_read_back(source):
    for handler in recorded(source).values():
        assert Handler.from_line(handler.line()) == handler
        assert len(handler.line()) <= _binfmt.LONGEST_LINE


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_masks_fit_their_platforms_though_the_strings_differ(source):
    handlers = recorded(source)
    for architecture in ARCHITECTURES.values():
        handler = handlers.get(f"qemu-{architecture.qemu}")
        if handler is not None:
            assert handler.fits(architecture), handler
            others = [
                other.qemu for other in ARCHITECTURES.values() if other is not architecture and handler.runs(other)
            ]
            assert others == []


def test_sources_do_differ_in_their_strings():
    assert recorded("debian-12")["qemu-s390x"].mask != recorded("tonistiigi")["qemu-s390x"].mask


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_own_handler_fits_its_platform_alone(name):
    handler = Handler.for_architecture(ARCHITECTURES[name], "/usr/bin/qemu", "FC")
    assert handler.fits(ARCHITECTURES[name])
    assert handler.flags == "OCF"
    assert handler.is_qemu


def test_pythons_handler_is_nobodys_emulator():
    handlers = recorded("debian-12")
    assert not handlers["python3.11"].is_qemu
    assert all(handler.is_qemu for name, handler in handlers.items() if name != "python3.11")


@pytest.mark.parametrize(
    ("name", "interpreter", "magic", "qemu"),
    [
        ("qemu-aarch64", "/usr/bin/qemu-aarch64", b"\x7fELF", True),
        ("my-arm", "/opt/qemu-arm-static", b"\x7fELF", True),
        ("my-arm", "/usr/libexec/qemu-binfmt/arm-binfmt-P", b"\x7fELF", True),
        ("box64", "/usr/bin/box64", b"\x7fELF", False),
        ("wine", "/usr/bin/wine", b"MZ", False),
        ("jar", "/usr/bin/jexec", b"PK\x03\x04", False),
        ("qemu-notes", "/usr/bin/less", b"QEMU", False),
    ],
)
def test_qemu_handlers_are_told_from_others(name, interpreter, magic, qemu):
    assert Handler(name, interpreter, "", magic, b"\xff" * len(magic)).is_qemu is qemu


def test_the_handler_that_was_registered_last_gets_the_programs():
    old = Handler.for_architecture(ARM64, "/old", "F")
    kernel = Kernel("on", (old._replace(name="new"), old, old._replace(name="off", enabled=False)))
    assert [handler.name for handler in kernel.of(ARM64)] == ["new", "qemu-aarch64"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        ":a:E::ext::/bin/x:",
        ":a:M::\\xzz::/bin/x:",
        ":a:M:q:x::/bin/x:",
        ":a:M::x:/bin/x:",
        "# a",
        ":::::",
    ],
)
def test_rules_that_are_none_are_passed_over(text):
    assert Handler.from_line(text) is None


def test_a_rule_may_choose_its_delimiter_and_write_bytes_as_they_are():
    handler = Handler.from_line(r",qemu-aarch64,M,,\x7fELF,,/usr/bin/qemu,F")
    assert (handler.magic, handler.mask, handler.interpreter) == (b"\x7fELF", b"\xff" * 4, "/usr/bin/qemu")


def test_an_extension_is_no_handler_of_ours():
    assert Handler.from_kernel("a", "enabled\ninterpreter /bin/x\nflags: \nextension .x\n") is None


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A directory in place of the kernel's."""
    monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
    return tmp_path


def test_the_kernels_files_are_read(files):
    (files / "register").touch()
    (files / "status").write_text("enabled\n")
    for name, text in json.loads((RECORDED / "debian-13.json").read_text()).items():
        (files / name).write_text(text)
    (files / "off").write_text("disabled\ninterpreter /bin/x\nflags: F\noffset 2\nmagic 0102\n")
    kernel = _binfmt.read()
    assert kernel.state == "on"
    assert kernel.named("off") == Handler("off", "/bin/x", "F", b"\x01\x02", b"\xff\xff", 2, False)
    assert kernel.named("qemu-aarch64").flags == "POF"
    (files / "status").write_text("disabled\n")
    assert _binfmt.read().state == "off"


def test_a_kernel_without_binfmt_misc_and_one_that_is_not_mounted_are_told_apart(files, monkeypatch):
    filesystems = files / "filesystems"
    monkeypatch.setattr(_binfmt, "FILESYSTEMS", str(filesystems))
    monkeypatch.setattr(_binfmt, "_peek", dict)
    assert _binfmt.read() == Kernel("not mounted")  # nobody can tell
    filesystems.write_text("nodev\tsysfs\nnodev\tbinfmt_misc\n\text4\n")
    assert _binfmt.read() == Kernel("not mounted")
    # Linux has the mount point without the module, and a mount that loads none: its file is gone, or it is blacklisted.
    filesystems.write_text("nodev\tsysfs\n\text4\n")
    assert _binfmt.read() == Kernel("not loaded")
    monkeypatch.setattr(_binfmt, "ROOT", str(files / "nothing"))
    assert _binfmt.read() == Kernel("not loaded")


@pytest.mark.parametrize(
    ("number", "told"),
    [(17, "an entry named qemu-aarch64 already"), (2, "/x is not there"), (22, "older than 4.8"), (30, "Read-only")],
)
def test_what_the_kernel_refuses_is_said_in_words(monkeypatch, number, told):
    def refuse(*_unused):
        raise OSError(number, "Read-only file system" if number == 30 else "")

    monkeypatch.setattr(kernel_write, "_write", refuse)
    with pytest.raises(Problem, match=told):
        kernel_write.register(Handler.for_architecture(ARM64, "/x", "F"))


def test_a_module_that_cannot_be_loaded_is_told_before_anything_is_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "modprobe").write_text(
        "#!/bin/sh\necho 'FATAL: Module binfmt_misc not found in directory /x'; exit 1\n"
    )
    (tmp_path / "modprobe").chmod(0o755)
    monkeypatch.setattr(kernel_write, "MODULES", str(tmp_path))
    monkeypatch.setattr(kernel_write, "MODULES_DISABLED", str(tmp_path / "disabled"))
    with pytest.raises(Problem, match="not found in directory /x") as caught:
        kernel_write.load(dry=True)
    assert "after an upgrade of the kernel, reboot" in caught.value.hint
    (tmp_path / os.uname().release).mkdir()
    with pytest.raises(Problem) as caught:
        kernel_write.load(dry=True)
    assert "CONFIG_BINFMT_MISC" in caught.value.hint
    # `modprobe --dry-run` succeeds there.
    (tmp_path / "disabled").write_text("1\n")
    with pytest.raises(Problem, match=r"kernel\.modules_disabled is 1"):
        kernel_write.load(dry=True)


def test_removing_what_is_gone_is_no_error_and_creates_no_file(files):
    kernel_write.remove("qemu-aarch64")
    assert list(files.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        ":x:M::ELF1:::F",  # no interpreter
        ":x:M::::/bin/true:F",  # no magic
        ":..:M::ELF1::/bin/true:F",
        ":status:M::ELF1::/bin/true:F",
        ":a/b:M::ELF1::/bin/true:F",
        "::M::ELF1::/bin/true:F",
        ":x:M::ELF1::/bin/true:FX",
        ":x:M::ELF1::/bin/true:F # why",
        ":x:M::ELF1::/bin/true",  # no flags, nor the delimiter before them
        ":x:M::ELF1::/bin/true:F:",
        ":x:M:-1:ELF1::/bin/true:F",
        ":x:M: 0:ELF1::/bin/true:F",
        ":x:M:0x4:ELF1::/bin/true:F",
        ":x:M:253:ELF1::/bin/true:F",  # beyond the first 256 bytes
        r":x:M::ELF1:\xff\xff\xff:/bin/true:F",
        r":x:M::ELF\x4:\xff\xff\xff\xff:/bin/true:F",
        r":x:M::ELF\xzz::/bin/true:F",
        ":x:M::" + "A" * 2000 + "::/bin/true:F",
        "\u00e9x\u00e9M\u00e9\u00e9ELF1\u00e9\u00e9/bin/true\u00e9F",
        ":x:E::exe::/bin/true:F",
        "",
    ],
)
def test_a_rule_that_the_kernel_refuses_is_no_handler(line):
    assert Handler.from_line(line) is None


@pytest.mark.parametrize(
    ("line", "magic"),
    [
        (":x:M::ELF1::/bin/true:", b"ELF1"),
        ("  ,x,M,+0,ELF1,,/bin/true,F\r", b"ELF1"),
        (r"xnamexMxx\x7fELFxx/bin/truexF", b"\x7fELF"),  # what ends a field is no end within \xHH
        (r":x:M:252:ELF\\:\xff\xff\xff\xff\xff:/bin/true:F", None),
        (r":x:M:251:ELF\\:\xff\xff\xff\xff\xff:/bin/true:F", rb"ELF\\"),
    ],
)
def test_a_rule_in_odd_words_is_what_the_kernel_makes_of_it(line, magic):
    handler = Handler.from_line(line)
    assert (handler.magic if handler else None) == magic


def test_an_automount_that_fails_for_want_of_the_module_is_a_module_that_is_not_loaded(monkeypatch):
    def listdir(path):
        raise OSError(errno.ENODEV, "No such device", path)

    monkeypatch.setattr(_binfmt.os, "listdir", listdir)
    assert _binfmt.read() == Kernel("not loaded")
