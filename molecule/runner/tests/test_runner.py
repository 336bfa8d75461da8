# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A runner that loses no build. The tests go on from each other, in their order: a host is dear."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import types
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SLUG = "octocat/app1"
RUNNER = "drone/drone-runner-docker"


class Server:
    """The stand-in for Drone."""

    def __init__(self):
        address = subprocess.check_output(["docker", "exec", "molecule-runner-drone", "hostname", "-i"], text=True)
        self.url = f"http://{address.strip()}"

    def ask(self, path, method="GET", body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Authorization": "Bearer lab-token"}, method=method)
        return json.loads(urllib.request.urlopen(request).read() or b"null")

    def start(self, seconds, *commands):
        """Start a build of so many seconds, and wait until it runs; return its number."""
        lines = "".join(f"  - {command}\n" for command in (*commands, f"sleep {seconds}"))
        head = "kind: pipeline\ntype: docker\nname: default\nclone: {disable: true}\n"
        config = f"{head}steps:\n- name: work\n  image: busy:1\n  commands:\n{lines}"
        number = self.ask("/_standin/builds", "POST", {"slug": SLUG, "config": config})["number"]
        self.until(number, "running")
        return number

    def status(self, number):
        return self.ask(f"/api/repos/{SLUG}/builds/{number}")["status"]

    def until(self, number, status, seconds=60):
        deadline = time.monotonic() + seconds
        while self.status(number) != status:
            assert self.status(number) in ("pending", "running", status), f"build {number} is {self.status(number)}"
            assert time.monotonic() < deadline, f"build {number} is {self.status(number)}, not {status}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def server():
    return Server()


@pytest.fixture(scope="module")
def prune(host):
    """Run what the timer runs, with other options; return what it removes: "container drone-x of octocat/app1 #7"."""

    def run(*arguments):
        command = host.file("/etc/systemd/system/drone-runner-prune.service").content_string
        command = command.partition("ExecStart=")[2].partition("\n")[0]
        lines = host.check_output(" ".join([command, *arguments])).splitlines()
        return [re.sub("^(removed|would remove) ", "", line).partition(",")[0] for line in lines]

    return run


@pytest.fixture(scope="module")
def interrupted(server, host):
    """Two builds and two BuildKits of a runner that was killed, and a build and a BuildKit of the one that came after it."""

    def buildkit(name):
        # As buildx makes it, which gives no label.
        state = f"--volume=buildx_buildkit_{name}0_state:/var/lib/buildkit --tmpfs=/var/lib/docker"
        host.check_output(f"docker run -d --name=buildx_buildkit_{name}0 {state} --entrypoint=/bin/sleep busy:1 600")
        host.check_output(f"truncate -s 10MB /var/lib/docker/volumes/buildx_buildkit_{name}0_state/_data/much")

    def build(megabytes, *commands):
        number = server.start(600 if not commands else 0, *commands)
        step = f"docker ps -q --filter label=io.drone.build.number={number} | grep ."
        mounts = "docker inspect --format '{{range .Mounts}}{{println .Source}}{{end}}' $step"
        host.check_output(
            f"until step=$({step}); do sleep 0.1; done; cd /; for mount in $({mounts}); do "
            f"truncate -s {megabytes}MB $mount/much; done"
        )
        return number

    old, young = build(30), build(20)
    time.sleep(1)  # Docker tells the seconds of a container without their fraction
    buildkit("left")
    buildkit("known")
    host.check_output("mkdir -p /root/.docker/buildx/instances")
    host.check_output(
        """echo '{"Name": "known", "Nodes": [{"Name": "known0"}]}' >/root/.docker/buildx/instances/known"""
    )
    host.check_output("docker kill drone-runner")  # systemd starts another, which takes the next build
    alive = build(900, "i=0; until test -e /drone/src/end; do test $i -lt 1200; i=$((i+1)); sleep 0.1; done")
    buildkit("alive")
    return types.SimpleNamespace(old=old, young=young, alive=alive)


@pytest.fixture
def role(host):  # the host only so that pytest keeps the tests in their order
    """Run the role with other variables; return its result, or the message with which it failed."""

    def run(playbook="converge.yml", *arguments, **variables):
        path = Path(__file__).parents[1] / playbook
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-vvv", "--diff", *arguments]
        ran = subprocess.run(
            [*command, "-e", json.dumps(variables), path],
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "lab-secret" not in ran.stdout + ran.stderr, "the secret is shown"
        plays = json.loads(ran.stdout[ran.stdout.index("{") :])["plays"]
        results = [task["hosts"].get("molecule-runner-1", {}) for task in plays[-1]["tasks"]]
        failed = [result["msg"] for result in results if result.get("failed")]
        done = [result for result in results if "steps" in result or "left" in result]
        return failed[-1] if failed else done[-1]  # after what failed, a rescue says what to do

    return run


@pytest.fixture
def id(host):
    return lambda: host.check_output("docker ps -q --no-trunc --filter name=^drone-runner$")


def test_the_runner_is_a_service_that_starts_at_boot_and_with_docker(host):
    assert host.service("drone-runner").is_running
    assert host.service("drone-runner").is_enabled
    assert "drone-runner.service" in host.check_output("systemctl show docker --property=Wants")
    assert host.service("drone-runner-prune.timer").is_running


def test_the_secret_is_only_where_root_alone_reads(host):
    assert host.file("/etc/drone-runner/environment").mode == 0o600
    assert "DRONE_RPC_SECRET=lab-secret" in host.file("/etc/drone-runner/environment").content_string
    assert "lab-secret" not in host.check_output("ps axww")
    assert "lab-secret" not in host.check_output("journalctl --no-pager")
    assert "lab-secret" not in host.check_output("cat /etc/systemd/system/drone-runner* /usr/local/lib/drone-runner/*")


def test_what_a_runner_is_can_be_asked_without_knowing_it(server, role):
    told = role("info.yml")
    assert (told["state"], told["healthy"], told["reaches_server"]) == ("active", True, True)
    assert (told["name"], told["server"]) == ("molecule-runner-1", server.url)
    assert told["privileged_images"] == ["plugins/docker"]


def test_every_build_gets_the_defaults_of_the_runner(server, host):
    number = server.start(
        3, 'test "$PLUGIN_BIP" = 10.231.0.1/24', 'test "$DOCKER_PLUGIN_MIRROR" = http://mirror.example.com:5000'
    )
    server.until(number, "success")


def test_an_image_that_does_not_start_is_found_out_while_the_old_runner_works(role, id):
    before = id()
    message = role(drone_runner_image=f"{RUNNER}:broken")
    assert "this build is broken" in message
    assert "nothing was changed" in message
    assert id() == before


def test_a_secret_that_the_server_does_not_take_is_found_out_while_the_old_runner_works(role, id):
    before = id()
    message = role(drone_runner_rpc_secret="another")
    assert "does not take rpc_secret (401); nothing was changed" in message
    assert id() == before


def test_a_runner_that_does_not_reach_its_server_gives_way_to_the_old_one(role, id, host):
    message = role(drone_runner_image=f"{RUNNER}:deaf", drone_runner_ready_timeout=3)
    assert "has not reached its server within 3 s" in message
    assert "cannot ping the remote server" in message
    assert "taken back" in message
    assert f"{RUNNER}:1.8.3" in host.check_output("docker ps --filter name=^drone-runner$ --format '{{.Image}}'")


def test_an_upgrade_waits_for_the_build_that_runs(server, role):
    number = server.start(8)
    result = role(drone_runner_image=f"{RUNNER}:1.8.4")
    assert result["runner"]["waited_for"] == [f"{SLUG} #{number}"]
    assert result["runner"]["healthy"]
    assert server.status(number) == "success"


def test_the_image_before_the_upgrade_goes_when_the_new_one_has_run_for_long_and_no_container_uses_the_old(host, prune):
    images = "docker images --format '{{.Repository}}:{{.Tag}}' | sort"
    before = host.check_output(images).splitlines()
    old = host.check_output(f"docker images -q {RUNNER}:1.8.3")
    host.check_output(f"docker create --name=kept {RUNNER}:1.8.3")
    assert prune() == prune("--age 0") == []
    host.check_output("docker rm kept")
    host.check_output(f"docker tag {RUNNER}:1.8.3 kept:1")
    assert prune("--age 0") == []
    host.check_output("docker rmi kept:1")
    assert prune("--age 0") == [f"image {RUNNER}:1.8.3"]
    # The one that runs is left, and those that were built after it: deaf and broken.
    assert host.check_output(images).splitlines() == [image for image in before if image != f"{RUNNER}:1.8.3"]
    assert prune("--age 0") == []
    host.check_output(f"docker tag {old} {RUNNER}:1.8.3")  # 1.8.4 was made from it: what Docker needs, it keeps


def test_a_build_that_takes_too_long_is_not_lost_either(server, role, host):
    number = server.start(10)
    message = role(drone_runner_drain_timeout=1)  # and with the old image again, which is a change
    assert f"after 1 s the runner still has {SLUG} #{number}" in message
    assert server.status(number) == "running"
    server.until(number, "success")
    # It starts again by itself, as it was, and takes builds.
    server.until(server.start(1), "success")
    assert f"{RUNNER}:1.8.4" in host.check_output("docker ps --filter name=^drone-runner$ --format '{{.Image}}'")


def test_a_connection_that_breaks_while_the_runner_drains_loses_neither_the_build_nor_the_runner(server, role, host):
    number = server.start(10)
    with ThreadPoolExecutor() as pool:
        message = pool.submit(role, drone_runner_capacity=7)
        host.check_output("until systemctl is-active drone-runner | grep -q deactivating; do sleep 0.1; done")
        host.check_output("pkill -HUP -f '^/usr/bin/python3[.0-9]*$'")
    assert "SIGHUP ended the task; run it again" in message.result()
    assert server.status(number) == "running"
    server.until(number, "success")
    # It starts again by itself, as it was, and takes builds.
    server.until(server.start(1), "success")
    assert "DRONE_RUNNER_CAPACITY=2" in host.file("/etc/drone-runner/environment").content_string


def test_a_build_can_be_cancelled_instead(server, role):
    number = server.start(600)
    result = role(drone_runner_drain_timeout=1, drone_runner_on_drain_timeout="cancel")
    assert result["runner"]["healthy"]
    assert server.status(number) == "killed"


def test_a_build_can_be_killed_with_its_runner_and_drone_is_told(server, role):
    number = server.start(600)
    result = role(drone_runner_capacity=5, drone_runner_drain_timeout=1, drone_runner_on_drain_timeout="kill")
    assert result["runner"]["healthy"]
    assert server.status(number) == "killed"
    assert role()["cancelled"] == []


def test_a_secret_that_was_rotated_on_the_server_while_a_build_ran_reaches_the_runner(server, role):
    """What the old runner reports is refused: its build is lost, and cancelled, and no reason to bring back the old secret."""
    number = server.start(5)
    server.ask("/_standin/rpc-secret", "PUT", {"secret": "lab-secret-2"})
    result = role(drone_runner_rpc_secret="lab-secret-2")
    assert result["runner"]["healthy"]
    assert result["cancelled"] == [f"{SLUG} #{number}"]
    assert server.status(number) == "killed"
    server.until(server.start(1), "success")
    server.ask("/_standin/rpc-secret", "PUT", {"secret": "lab-secret"})
    assert role()["runner"]["healthy"]


def test_whatever_restarts_docker_drains_first(server, host):
    number = server.start(5)
    host.check_output("systemctl restart docker")
    assert server.status(number) == "success"
    server.until(server.start(1), "success")


def test_provisioning_restarts_docker_and_loses_no_build(server, role):
    """The engine's role needs no hook for it: that would drain every host of a fleet before it restarts the first engine."""
    number = server.start(5)
    host_as_it_is = {"builder_builders": [], "qemu_packages": [], "qemu_platforms": ["linux/amd64"]}
    result = role("provision.yml", docker_engine_daemon_options={"log-opts": {"max-size": "9m"}}, **host_as_it_is)
    assert server.status(number) == "success"
    assert result["runner"]["healthy"]


def test_a_runner_outlives_a_docker_that_dies(server, host, id):
    """With live-restore it runs on, and the service finds it again, instead of starting another in its place."""
    before = id()
    host.check_output("kill -9 $(systemctl show docker --property=MainPID --value)")
    deadline = time.monotonic() + 30
    while not (host.service("docker").is_running and host.service("drone-runner").is_running):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert id() == before
    server.until(server.start(1), "success")


def test_what_a_dead_runner_left_is_cancelled_beside_a_build_that_runs(server, role, interrupted):
    assert set(role()["cancelled"]) == {f"{SLUG} #{interrupted.old}", f"{SLUG} #{interrupted.young}"}
    assert server.status(interrupted.old) == server.status(interrupted.young) == "killed"
    assert server.status(interrupted.alive) == "running"


def test_what_is_neither_old_nor_much_stays(prune, interrupted):
    """There are 30 and 20 MB in each of two volumes, and 10 MB in a BuildKit's; what lives counts for nothing."""
    assert prune() == prune("--size 111000000") == []
    assert prune("--size 109000000", "--dry-run") != []


def test_the_oldest_build_goes_as_a_whole_when_there_is_too_much(host, prune, interrupted):
    """One of its volumes alone would be enough, of which Docker refuses the one while the build's container is there."""
    removed = prune("--size 80000000")
    assert sorted(line.split()[0] for line in removed) == ["container", "network", "volume"]
    assert all(line.endswith(f" of {SLUG} #{interrupted.old}") for line in removed)
    assert host.check_output(f"docker ps -aq --filter label=io.drone.build.number={interrupted.old}") == ""


def test_what_a_dead_runner_left_is_cleaned_up_beside_a_build_that_runs(server, host, prune, interrupted):
    removed = prune("--age 0")
    builds = [line for line in removed if SLUG in line]
    assert sorted(line.split()[0] for line in builds) == ["container", "network", "volume"]
    assert all(line.endswith(f" of {SLUG} #{interrupted.young}") for line in builds)
    # The living build may have made its BuildKit, which nothing tells from one that is left.
    assert [line for line in removed if line not in builds] == ["container buildx_buildkit_left0"]
    # The volumes without a name, in which plugins keep their gigabytes: the living build's is left, the dead ones' not.
    assert len([name for name in host.check_output("docker volume ls -q").split() if len(name) == 64]) == 1
    assert server.status(interrupted.alive) == "running"
    host.check_output(
        "touch $(docker volume ls -q --filter label=io.drone=true | xargs docker volume inspect -f '{{.Mountpoint}}')/end"
    )
    server.until(interrupted.alive, "success")
    assert host.check_output("docker ps -aq --filter label=io.drone=true") == ""


def test_a_buildkit_that_is_left_goes_with_its_state_when_no_build_runs_and_a_user_s_stays(host, prune, interrupted):
    assert prune("--age 0") == ["container buildx_buildkit_alive0"]
    assert host.check_output("docker ps --format '{{.Names}}' --filter name=buildx") == "buildx_buildkit_known0"
    assert host.check_output("docker volume ls -q --filter name=buildx") == "buildx_buildkit_known0_state"
    host.check_output("rm -r /root/.docker/buildx")
    assert prune("--age 0", "--dry-run") == prune("--age 0") == ["container buildx_buildkit_known0"]


def test_the_timer_s_service_works(host):
    host.check_output("systemctl start drone-runner-prune.service")


def test_a_drained_runner_waits_for_its_build_and_takes_no_other(server, role, host):
    number = server.start(4)
    assert role("drain.yml")["steps"] == ["drain and stop drone-runner.service"]
    assert server.status(number) == "success"
    assert not host.service("drone-runner").is_running
    assert "What a run would do: ['start drone-runner.service']" in role("look.yml")


def test_a_drained_runner_starts_again_when_it_is_declared_and_is_verified(role):
    assert role()["runner"]["healthy"]
    assert role("look.yml")["runner"]["reaches_server"]


def test_check_mode_changes_nothing_and_foresees_what_a_run_does(role, id):
    before = id()
    foreseen = role("converge.yml", "--check", drone_runner_capacity=3)
    assert id() == before
    assert foreseen["steps"] == ["write environment, run", "drain and restart drone-runner.service"]
    assert role(drone_runner_capacity=3)["steps"] == foreseen["steps"]


def test_nothing_of_the_runner_is_left(role, host):
    result = role(drone_runner_state="absent")
    assert "drain and stop drone-runner.service" in result["steps"]
    for path in ("/etc/drone-runner", "/usr/local/lib/drone-runner", "/etc/systemd/system/drone-runner.service"):
        assert not host.file(path).exists
    assert host.check_output("docker ps -aq --filter name=drone-runner") == ""
    assert "drone-runner" not in host.check_output("systemctl list-unit-files --no-pager")
    assert role("drain.yml")["steps"] == []
