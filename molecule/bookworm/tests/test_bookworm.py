# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations


def test_the_distributions_engine_has_the_plugin_that_came_from_a_path(host):
    assert host.check_output("docker version --format '{{.Server.Version}}'").startswith("20.10.")
    assert "buildx" in host.check_output("docker buildx version")


def test_handlers_are_debian_12s_qemu_with_every_flag(host):
    for name in ("qemu-aarch64", "qemu-s390x"):
        entry = host.file(f"/proc/sys/fs/binfmt_misc/{name}").content_string
        assert entry.startswith("enabled")
        assert set(entry.split("flags: ")[1].split()[0]) == set("POCF")
    assert "version 7.2" in host.check_output("/usr/bin/qemu-aarch64-static --version")


def test_taking_everything_back_leaves_no_handler_no_file_and_no_engine(host, play):
    name = host.check_output("hostname")
    assert play("multiarch.drone.teardown", "--limit", name)[name]["failures"] == 0
    assert not host.file("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists
    assert not host.file("/etc/binfmt.d/qemu-aarch64.conf").exists
    assert not host.package("docker.io").is_installed
    assert play("multiarch.drone.teardown", "--limit", name)[name]["changed"] == 0


def test_a_fleet_that_could_build_for_one_platform_only_is_refused_before_any_change(host, play):
    name = host.check_output("hostname")
    arguments = ["-e", '{"builder_builders": [{"name": "default", "driver": "docker"}]}', "--limit", name]
    stats = play("multiarch.drone.provision_runners", *arguments)[name]
    assert (stats["failures"], stats["changed"]) == (1, 0)
