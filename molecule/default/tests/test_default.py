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


@pytest.fixture
def only(host):
    """Restrict a playbook to this host; the other one is left alone, for what is told here is the same for both, and takes minutes."""
    if not host.check_output("hostname").endswith("-2"):
        pytest.skip("shown on the other host")
    return ["--limit", f"localhost,{host.check_output('hostname')}", "-e", "report=false"]


def files(host):
    """Return the names of files that the roles might leave behind; what Docker and its packages write as they run counts for nothing."""
    found = host.check_output(
        "find /etc /usr/local /var/lib/multiarch.drone /root -xdev 2>/dev/null | grep -v"
        " -e '^/etc/docker' -e ld.so.cache -e '/etc/.*-$' -e /root/.ansible -e /root/.cache | sort"
    )
    return set(found.splitlines())


def test_a_drift_of_each_layer_is_predicted_task_by_task(host, predicted, only):
    """The engine's configuration and its start at boot, a package, a handler, and the record of nothing else."""
    host.run_expect([0], "systemctl disable docker.service")
    host.run_expect([0], "sed -i /registry:5000/d /etc/docker/daemon.json && systemctl reload docker")
    host.run_expect([0], f"echo 0 >{BINFMT}/qemu-riscv64")
    host.run_expect([0], "rm /etc/binfmt.d/qemu-s390x.conf")
    host.run_expect([0], "apt-get remove -qy docker-buildx")
    (changed,) = predicted("multiarch.drone.site", *only).values()
    assert len(changed) == 5
    assert host.service("docker").is_enabled
    assert json.loads(host.file("/etc/docker/daemon.json").content_string)["labels"] == ["kept=yes"]


def test_what_an_engine_would_be_stopped_with_is_never_there_after_a_change(host, play, only):
    """Each kind of change of daemon.json: what a run calls a success is one at the engine's next start as well."""
    for option in (
        {"log-opts": {"max-file": "3"}},
        {"debug": True},
        {"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 999, "Soft": 999}}},
        {},
    ):
        wish = json.dumps({"docker_engine_daemon_options": option})
        (stats,) = play("multiarch.drone.provision_runners", *only, "-e", wish).values()
        assert (stats["failures"], stats["changed"]) == (0, 1)
        host.run_expect(
            [0],
            "systemctl stop docker.socket docker.service && systemctl reset-failed docker && systemctl start docker",
        )
        assert host.run("docker info").rc == 0
    assert "max-file" not in host.file("/etc/docker/daemon.json").content_string


def test_a_node_of_a_swarm_does_without_live_restore_and_a_wish_for_it_is_refused(host, play, refusal, only):
    # An engine with it refuses to become a node: these come together in the other order alone.
    play("multiarch.drone.provision_runners", *only, "-e", "docker_engine_live_restore=false")
    host.run_expect([0], "docker swarm init --advertise-addr 127.0.0.1")
    try:
        refused = refusal(
            "multiarch.drone.provision_runners", *only, "-e", '{"docker_engine_daemon_options": {"live-restore": true}}'
        )
        assert "swarm" in str(refused)
        (stats,) = play("multiarch.drone.provision_runners", *only).values()
        assert (stats["failures"], stats["changed"]) == (0, 1)
        assert "live-restore" not in json.loads(host.file("/etc/docker/daemon.json").content_string)
        host.run_expect([0], "systemctl restart docker")
        assert host.check_output("docker info --format '{{.Swarm.LocalNodeState}}'") == "active"
        assert play("multiarch.drone.verify", *only)[host.check_output("hostname")]["failures"] == 0
    finally:
        host.run_expect([0], "docker swarm leave --force")
    (stats,) = play("multiarch.drone.provision_runners", *only).values()
    assert (stats["failures"], stats["changed"]) == (0, 1)
    assert json.loads(host.file("/etc/docker/daemon.json").content_string)["live-restore"] is True


def test_teardown_and_a_host_without_python_are_predicted_too_and_leave_what_was_there_before(
    host, predicted, play, only
):
    """Taken back, without Python at all, provisioned as a fresh host, and taken back again."""
    (changed,) = predicted("multiarch.drone.teardown", *only).values()
    assert len(changed) > 3
    assert json.loads(host.file("/etc/docker/daemon.json").content_string) == {
        "log-opts": {"max-size": "10m"},
        "labels": ["kept=yes"],
    }
    assert not host.file("/var/lib/multiarch.drone").exists
    before = files(host)
    (changed,) = predicted("multiarch.drone.site", *only).values()
    assert len(changed) > 3
    (changed,) = predicted("multiarch.drone.teardown", *only).values()
    assert files(host) == before
    # The packages of this host that need Python go with it, by hand; what the playbooks bring instead is the playbooks' own.
    host.run_expect([0], "apt-get remove -qy --autoremove python3 python3-minimal")
    assert host.run("python3 --version").rc == 127
    packages = host.check_output("dpkg-query --show | sort")
    (stats,) = play("multiarch.drone.provision_runners", *only, "-e", "runner_bootstrap_python=false").values()
    assert (stats["failures"], stats["changed"]) == (1, 0)
    (stats,) = play("multiarch.drone.provision_runners", *only, "--check").values()
    assert (stats["failures"], stats["changed"]) == (0, 1)
    assert play("multiarch.drone.teardown", *only)[host.check_output("hostname")]["changed"] == 0
    (stats,) = play("multiarch.drone.provision_runners", *only).values()
    assert stats["failures"] == 0
    (changed,) = predicted("multiarch.drone.teardown", *only).values()
    assert any("Python" in task for task in changed)
    assert host.check_output("dpkg-query --show | sort") == packages
