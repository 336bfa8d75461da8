# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest


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
    now = host.check_output(
        "dpkg-query --show --showformat '${binary:Package} ${db:Status-Status}\\n' | grep ' installed$' | sort"
    )
    before = host.check_output("grep ' installed$' /root/packages.before")
    assert set(now.splitlines()) == set(before.splitlines())
    assert host.check_output("find /etc/binfmt.d -lname /dev/null") == ""
    assert not host.file("/var/lib/multiarch.drone/record.json").exists
    assert play("multiarch.drone.teardown", "--limit", name)[name]["changed"] == 0


def test_a_fleet_that_could_build_for_one_platform_only_is_refused_before_any_change(host, play):
    name = host.check_output("hostname")
    arguments = ["-e", '{"builder_builders": [{"name": "default", "driver": "docker"}]}', "--limit", name]
    stats = play("multiarch.drone.provision_runners", *arguments)[name]
    assert (stats["failures"], stats["changed"]) == (1, 0)


@pytest.fixture
def package(host):
    """Install an empty package of a name, as somebody else's packages have it."""
    made = []

    def install(name, *fields):
        control = ["Package: " + name, "Version: 99", "Architecture: all", "Maintainer: x <x@example.com>", *fields]
        text = "\\n".join([*control, "Description: empty", ""])
        host.run_expect([0], f"mkdir -p /tmp/{name}/DEBIAN && printf '{text}' >/tmp/{name}/DEBIAN/control")
        host.run_expect([0], f"dpkg-deb --build /tmp/{name} /tmp/{name}.deb && dpkg --install /tmp/{name}.deb")
        made.append(name)

    yield install
    for name in made:
        host.run_expect([0], f"dpkg --purge {name}")


def test_docker_s_own_engine_is_neither_removed_nor_replaced(host, play, package):
    package("docker-ce", "Provides: docker-engine", "Conflicts: docker.io", "Replaces: docker.io")
    name = host.check_output("hostname")
    only = ["--limit", name, "-e", '{"builder_builders": []}']
    # Declared otherwise, it is refused before any change.
    stats = play("multiarch.drone.provision_runners", *only, "-e", "docker_engine_source=distribution")[name]
    assert (stats["failures"], stats["changed"]) == (1, 0)
    # Left alone, it is taken: the rest of Docker's own packages is what is missing, and no archive of this host has them.
    stats = play("multiarch.drone.provision_runners", *only)[name]
    assert (stats["failures"], stats["changed"]) == (1, 0)
    assert host.package("docker-ce").is_installed
    assert not host.package("docker.io").is_installed


def test_podman_under_docker_s_name_is_refused_before_any_change(host, play, package):
    package("podman-docker", "Conflicts: docker.io")
    name = host.check_output("hostname")
    stats = play("multiarch.drone.provision_runners", "--limit", name, "-e", '{"builder_builders": []}')[name]
    assert (stats["failures"], stats["changed"]) == (1, 0)
    assert host.package("podman-docker").is_installed


def test_what_was_there_before_stays_and_has_its_handlers_again(host, play):
    """An engine and a QEMU of somebody else's: provisioned, torn down, and there as before, the engine running."""
    name = host.check_output("hostname")
    host.run_expect([0], "apt-get install -qy --no-install-recommends docker.io qemu-user-static")
    before = host.check_output("dpkg-query --show | sort")
    entry = host.file("/proc/sys/fs/binfmt_misc/qemu-s390x")
    own = entry.content_string if entry.exists else ""
    converge = __file__.replace("tests/test_bookworm.py", "converge.yml")
    assert play(converge, "--limit", name)[name]["failures"] == 0
    predicted = play("multiarch.drone.teardown", "--check", "--limit", name)[name]
    done = play("multiarch.drone.teardown", "--limit", name)[name]
    assert done["failures"] == predicted["failures"] == 0
    assert done["changed"] == predicted["changed"]
    after = host.check_output("dpkg-query --show | sort")
    assert set(before.splitlines()) <= set(after.splitlines())
    assert host.service("docker").is_running
    assert not host.file("/etc/binfmt.d/qemu-s390x.conf").exists
    if own:
        assert host.file("/proc/sys/fs/binfmt_misc/qemu-s390x").content_string == own
    assert play("multiarch.drone.teardown", "--limit", name)[name]["changed"] == 0
    assert play("multiarch.drone.teardown", "-e", "teardown_purge=true", "--limit", name)[name]["failures"] == 0
    assert not host.package("docker.io").is_installed
    assert not host.package("qemu-user-static").is_installed
