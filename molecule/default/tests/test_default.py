# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json

import pytest

HANDLERS = ["qemu-aarch64", "qemu-arm", "qemu-s390x", "qemu-riscv64"]
BINFMT = "/proc/sys/fs/binfmt_misc"


@pytest.mark.parametrize("name", HANDLERS)
def test_handler_is_on_fixed_and_keeps_credentials(host, name):
    lines = host.file(f"{BINFMT}/{name}").content_string.splitlines()
    flags = dict(line.partition(" ")[::2] for line in lines)["flags:"]
    assert lines[0] == "enabled"
    assert {"F", "C"} <= set(flags)


@pytest.mark.parametrize("name", HANDLERS)
def test_handler_comes_back_at_boot_by_the_file_that_wins_over_the_packages(host, name):
    ours = host.file(f"/etc/binfmt.d/{name}.conf").content_string
    assert f":{name}:M:" in ours
    assert host.file(f"/usr/lib/binfmt.d/{name}.conf").exists


def test_what_somebody_else_wrote_into_daemon_json_is_still_there(host):
    daemon = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert daemon["log-opts"] == {"max-size": "10m"}
    assert daemon["labels"] == ["kept=yes"]
    assert daemon["insecure-registries"] == ["registry:5000"]
    assert daemon["features"]["containerd-snapshotter"] is True


def test_a_build_runs_commands_of_a_foreign_platform_with_no_image_pulled_from_anywhere(host):
    host.run_expect(
        [0],
        "mkdir -p /srv/probe && cp /usr/bin/dpkg /srv/probe/ && cp /usr/sbin/docker-registry /srv/probe/ 2>/dev/null; true",
    )
    host.run_expect([0], "printf 'FROM scratch\\nCOPY dpkg /dpkg\\n' >/srv/probe/Dockerfile")
    build = host.run("docker buildx build --platform linux/amd64,linux/arm64,linux/s390x -t probe /srv/probe")
    assert build.rc == 0, build.stderr
    images = host.check_output("docker buildx inspect --bootstrap default")
    assert "linux/arm64" in images
    assert "linux/s390x" in images


def test_drift_is_predicted_in_check_mode_and_mended_by_the_run(host, play):
    host.run_expect([0], f"echo 0 >{BINFMT}/qemu-riscv64")
    name = host.check_output("hostname")
    only = ["--limit", name]
    predicted = play("multiarch.drone.provision_runners", "--check", "--diff", *only)[name]
    assert predicted["changed"] == 1
    assert host.file(f"{BINFMT}/qemu-riscv64").content_string.startswith("disabled")
    assert play("multiarch.drone.provision_runners", *only)[name]["changed"] == 1
    assert host.file(f"{BINFMT}/qemu-riscv64").content_string.startswith("enabled")
    assert play("multiarch.drone.provision_runners", *only)[name]["changed"] == 0


def test_verify_names_what_does_not_hold(host, play):
    name = host.check_output("hostname")
    host.run_expect([0], f"echo 0 >{BINFMT}/qemu-riscv64")
    try:
        assert play("multiarch.drone.verify", "--limit", name)[name]["failures"] == 1
    finally:
        host.run_expect([0], f"echo 1 >{BINFMT}/qemu-riscv64")
    assert play("multiarch.drone.verify", "--limit", name)[name]["failures"] == 0
