# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import restart
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.regular import read_regular

UNIT = "usr/lib/systemd/system/systemd-binfmt.service"
DROP_IN = "etc/systemd/system/systemd-binfmt.service.d/x.conf"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A host with systemd: root("path", "text") writes a file."""
    monkeypatch.setattr(restart, "ROOT", str(tmp_path))

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(text[3:]) if text.startswith("-> ") else (tmp_path / path).write_text(text)

    write("run/systemd/system/.keep", "")
    return write


@pytest.mark.parametrize(
    ("files", "trouble"),
    [
        ({UNIT: "[Unit]\n"}, ""),
        ({}, "is not installed"),
        ({UNIT: "[Unit]\n", "etc/systemd/system/systemd-binfmt.service": "-> /dev/null"}, "is masked"),
        ({UNIT: "[Unit]\n", "run/systemd/system/systemd-binfmt.service": ""}, "is masked"),
        ({UNIT: "[Unit]\n", "etc/systemd/system/systemd-binfmt.service": "[Unit]\n#mine\n"}, ""),
        ({UNIT: "[Unit]\n", DROP_IN: "[Unit]\nConditionPathExists=/nowhere\n"}, "ConditionPathExists=/nowhere"),
        ({UNIT: "[Unit]\n", DROP_IN: "[Unit]\nConditionPathExists=!/nowhere\n"}, ""),
        ({UNIT: "[Unit]\nConditionPathExists=/nowhere\n", DROP_IN: "[Unit]\nConditionPathExists=\n"}, ""),
        ({UNIT: "ConditionDirectoryNotEmpty=|/usr/lib/binfmt.d\nConditionDirectoryNotEmpty=|/etc/binfmt.d\n"}, ""),
        ({UNIT: "ConditionDirectoryNotEmpty=|/usr/lib/binfmt.d\n"}, "ConditionDirectoryNotEmpty"),
        ({UNIT: "ConditionVirtualization=!wsl\n", "proc/sys/kernel/osrelease": "5.15-microsoft-standard-WSL2"}, "!wsl"),
        ({UNIT: "ConditionVirtualization=!wsl\n", "proc/sys/kernel/osrelease": "6.1.0-9-amd64"}, ""),
        ({UNIT: "ConditionVirtualization=!container\n", ".dockerenv": ""}, "!container"),
        ({UNIT: "ConditionPathIsMountPoint=/proc/sys/fs/binfmt_misc\n"}, "ConditionPathIsMountPoint"),
        (
            {
                UNIT: "ConditionPathIsMountPoint=/proc/sys/fs/binfmt_misc\n",
                "usr/lib/systemd/system/proc-sys-fs-binfmt_misc.automount": "[Unit]\n",
            },
            "",
        ),
        (
            {
                UNIT: "ConditionPathIsMountPoint=/proc/sys/fs/binfmt_misc\n",
                "usr/lib/systemd/system/proc-sys-fs-binfmt_misc.automount": "ConditionPathIsReadWrite=/proc/sys/\n",
            },
            "ConditionPathIsMountPoint",
        ),
    ],
)
def test_whether_systemd_applies_the_files_is_known_from_its_units(root, files, trouble):
    for path, text in files.items():
        root(path, text)
    found = restart.read().trouble
    assert trouble in found if trouble else found == ""


@pytest.mark.parametrize("level", [None, "boot", "default"])
def test_openrc_applies_them_where_its_service_is_in_a_runlevel(root, tmp_path, level):
    (tmp_path / "run/systemd/system/.keep").unlink()
    (tmp_path / "run/systemd/system").rmdir()
    root("run/openrc/softlevel", "default")
    if level:
        root(f"etc/runlevels/{level}/binfmt", "-> /etc/init.d/binfmt")
    assert (restart.read().trouble == "") is bool(level)


def test_the_formats_of_binfmt_support_are_read_where_it_is_installed(root):
    lines = [
        "qemu-user-static",
        "magic",
        "0",
        r"\x7f\x45\x4c\x46",
        r"\xff\xff\xff\xff",
        "/usr/bin/qemu",
        "",
        "no",
        "yes",
        "yes",
    ]
    root("var/lib/binfmts/qemu-x", "\n".join(lines) + "\n")
    root("var/lib/binfmts/jar", "openjdk\nextension\n0\njar\n\n/usr/bin/jexec\n\n\n\n\n")
    root("var/lib/binfmts/broken", "x\n")
    assert restart.read().formats == ()
    root("usr/sbin/update-binfmts", "")
    formats = {os.path.basename(form.path): form.handler for form in restart.read().formats}
    assert formats["jar"] is None
    assert (formats["qemu-x"].flags, formats["qemu-x"].magic) == ("PF", b"\x7fELF")
    root("etc/systemd/system/binfmt-support.service", "-> /dev/null")
    assert restart.read().formats == ()


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "link to a fifo"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    with pytest.raises(OSError, match="Is a directory" if kind == "directory" else "Not a regular file"):
        read_regular(str(path))
