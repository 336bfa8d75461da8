# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The docker-container driver for real: drift, cache, and every step broken."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[3] / "plugins/module_utils"
AT = "/opt/test/ansible_collections/multiarch/drone/plugins"
DEFAULTS = {
    "docker_cli": "docker", "state": "present", "driver": "docker-container", "nodes": [], "buildkitd_config": {},
    "default": None, "bootstrap": True, "recreate": "auto", "keep_cache": None, "exclusive": None, "remove_orphans": [],
    "timeout": 60,
}  # fmt: skip
RUN = """
import json, sys
sys.path.insert(0, "/opt/test")
from ansible_collections.multiarch.drone.plugins.module_utils._buildx import declare, info
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
what, params, check = json.load(sys.stdin)
try:
    result = info.describe(params) if what == "info" else declare.declare(params, check_mode=check)
    print(json.dumps(result))
except Problem as problem:
    print(json.dumps({"failed": True, "msg": str(problem), **problem.facts}))
"""
# A Docker CLI that fails, kills the task, or counts, where the command line matches.
WRAPPER = """#!/bin/sh
echo $* >>/run/docker-calls
if [ -n "$BREAK" ] && printf '%s' "$*" | grep -qE -- "$BREAK"; then
    case $HOW in
        fail) echo 'ERROR: broken by the test' >&2; exit 1 ;;
        kill-before) kill -9 $PPID; exit 1 ;;
        kill-after) /usr/bin/docker "$@"; kill -9 $PPID; exit 1 ;;
    esac
fi
exec /usr/bin/docker "$@"
"""


class Builders:
    """The module on the host, without Ansible around it: a test then takes moments, and can kill it."""

    def __init__(self, host):
        self.host = host
        self.name = host.backend.get_hostname()
        if not host.file("/opt/test/docker").exists:
            host.check_output(f"mkdir -p {AT}")
            subprocess.run(["docker", "cp", UTILS, f"{self.name}:{AT}/"], check=True, capture_output=True)
            self.put("/opt/test/run.py", RUN)
            self.put("/opt/test/docker", WRAPPER)
            host.check_output("chmod 755 /opt/test/docker")

    def put(self, path, text):
        command = ["docker", "exec", "-i", self.name, "sh", "-c", f"cat >{path}"]
        subprocess.run(command, input=text, text=True, check=True)

    def call(self, what, params, check=False, **env):
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in {"HOME": "/root", **env}.items())
        command = f"{words} python3 /opt/test/run.py"
        done = subprocess.run(
            ["docker", "exec", "-i", self.name, "sh", "-c", command],
            input=json.dumps([what, params, check]), text=True, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode and env.get("HOW", "").startswith("kill"):
            return {"killed": True}
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    def declare(self, name="t", check=False, env=None, **params):
        return self.call("declare", {**DEFAULTS, "name": name, **params}, check, **(env or {}))

    def info(self, **params):
        return self.call("info", {"docker_cli": "docker", "names": None, "cache": True, "orphans": True, **params})

    def build(self, builder="t"):
        """Build an image with one step that takes a context, and return what buildx says."""
        return self.host.check_output(
            "mkdir -p /root/c && cd /root/c && cp -p /bin/true . && printf 'FROM scratch\\nCOPY true /true\\n' >Dockerfile"
            f" && docker buildx build --builder {builder} --progress=plain -o type=cacheonly . 2>&1"
        )

    def container(self, node="t0"):
        return self.host.run(f"docker inspect -f '{{{{.Id}}}}' buildx_buildkit_{node}").stdout.strip()

    def leftovers(self):
        names = self.host.check_output("docker ps -a --format '{{.Names}}'").split()
        return [name for name in names if name.endswith(".replaced")]

    def instance(self, name="t"):
        return self.host.run(f"cat /root/.docker/buildx/instances/{name}").stdout


@pytest.fixture
def builders(host):
    builders = Builders(host)
    yield builders
    assert "failed" not in builders.declare(state="absent")


def cached(told):
    return "CACHED" in told


def test_root_and_a_user_have_builders_of_their_own(host):
    assert "main*" in host.check_output("docker buildx ls")
    users = host.check_output("sudo -u ci -H docker buildx ls")
    assert "user*" in users
    assert "main" not in users


def test_the_declared_configuration_is_in_force(host):
    told = host.check_output("docker buildx inspect main")
    assert "running" in told
    assert (
        host.check_output(
            "docker exec buildx_buildkit_main0 cat /etc/buildkit/buildkitd.toml | grep -c 'registry:5000'"
        )
        == "1"
    )


def test_a_converged_builder_costs_two_docker_processes(builders):
    builders.declare()
    builders.host.check_output("rm -f /run/docker-calls")
    assert builders.declare(docker_cli="/opt/test/docker")["changed"] is False
    calls = builders.host.file("/run/docker-calls").content_string.splitlines()
    assert len(calls) <= 2
    assert not any(" run " in call or " create " in call for call in calls)


CHANGES = [
    {"nodes": [{"driver_opts": {"memory": "1g"}}]},
    {"nodes": [{"driver_opts": {"image": "moby/buildkit:next"}}]},
    {"nodes": [{"driver_opts": {"env.TOKEN": "s3cret", "cpu-shares": "512", "restart-policy": "always"}}]},
    {"nodes": [{"flags": ["--debug"]}]},
    {"buildkitd_config": {"debug": True, "worker": {"oci": {"gcpolicy": [{"all": True, "maxUsedSpace": "1GB"}]}}}},
]


@pytest.mark.parametrize("change", CHANGES, ids=["memory", "image", "environment", "flags", "config"])
def test_a_change_makes_the_container_anew_as_predicted_and_keeps_the_cache(builders, change):
    builders.declare()
    builders.build()
    before = builders.container()
    predicted = builders.declare(check=True, **change)
    assert builders.container() == before
    done = builders.declare(**change)
    for key in ("changed", "steps", "diff", "drift"):
        assert done[key] == predicted[key]
    assert done["changed"]
    assert "s3cret" not in json.dumps(done)
    assert builders.container() not in ("", before)
    assert cached(builders.build())
    assert builders.declare(**change)["changed"] is False
    assert builders.leftovers() == []


def test_the_cache_is_emptied_where_that_is_wished(builders):
    builders.declare()
    builders.build()
    done = builders.declare(nodes=[{"driver_opts": {"memory": "1g"}}], keep_cache=False)
    assert done["steps"][-1] == "empty the cache of t0"
    assert not cached(builders.build())


# What somebody else does to a container. {version} is what its BuildKit says of itself, {other} what another one says.
RESTART = (
    "docker restart buildx_buildkit_t0; until docker exec buildx_buildkit_t0 buildctl debug workers; do sleep 0.1; done"
)
DRIFTS = {
    "memory": "docker update --memory 2g --memory-swap 4g buildx_buildkit_t0",
    "restart-policy": "docker update --restart no buildx_buildkit_t0",
    "config in the container": "docker exec buildx_buildkit_t0 sed -i s/20GB/1GB/ /etc/buildkit/buildkitd.toml",
    # The file is as declared again, and only the daemon still goes by the other one.
    "gc policy": (
        "docker exec buildx_buildkit_t0 sed -i.kept s/20GB/1GB/ /etc/buildkit/buildkitd.toml;"
        f"{RESTART}; docker exec buildx_buildkit_t0 mv /etc/buildkit/buildkitd.toml.kept /etc/buildkit/buildkitd.toml"
    ),
    "image": "docker tag moby/buildkit:next moby/buildkit:{version}",
    # The image is the declared one, and only the program in the container is another.
    "version": (
        "docker cp buildx_buildkit_t0:/usr/bin/buildkitd /root/buildkitd; sed -i s/{version}/{other}/g /root/buildkitd;"
        f"docker cp /root/buildkitd buildx_buildkit_t0:/usr/bin/buildkitd; {RESTART}"
    ),
}
CAPPED = {"worker": {"oci": {"gcpolicy": [{"all": True, "maxUsedSpace": "20GB"}]}}}


@pytest.fixture
def version(host):
    """Return what the BuildKit of the images says that it is, and a tag for it."""
    version = host.check_output("docker run --rm moby/buildkit:buildx-stable-1 --version").split()[2]
    host.check_output(f"docker tag moby/buildkit:buildx-stable-1 moby/buildkit:{version}")
    return version


def caps(host):
    """Return the caps of the cache that the daemon itself says are in force."""
    told = host.check_output("docker exec buildx_buildkit_t0 buildctl debug workers --format '{{json .}}'")
    return [rule["maxUsedSpace"] for rule in json.loads(told)[0]["gcPolicy"]]


@pytest.mark.parametrize("drift", DRIFTS)
def test_what_drifted_is_named_foretold_and_mended(builders, version, drift):
    host = builders.host
    wish = {"nodes": [{"driver_opts": {"image": f"moby/buildkit:{version}"}}], "buildkitd_config": CAPPED}
    builders.declare(**wish)
    builders.build()
    host.check_output(DRIFTS[drift].format(version=version, other=f"v9{version[2:]}"))
    refused = builders.declare(recreate="never", **wish)
    assert refused["failed"]
    assert drift in refused["msg"]
    problems = builders.info(names=["t"])["builders"][0]["nodes"][0]["problems"]
    assert [problem.split(":")[0] for problem in problems] == [drift]
    before = builders.container()
    predicted = builders.declare(check=True, **wish)
    assert builders.container() == before
    done = builders.declare(**wish)
    for key in ("changed", "steps", "diff", "drift"):
        assert done[key] == predicted[key]
    assert done["drift"] == [f"t0: {problem}" for problem in problems]
    assert builders.container() != before
    assert done["builder"]["nodes"][0]["buildkit_version"] == version
    assert caps(host) == [20 * 2**30]
    assert cached(builders.build())
    assert builders.declare(**wish)["changed"] is False


def test_a_builder_that_somebody_made_again_with_buildx_is_foretold_and_mended(builders):
    wish = {"buildkitd_config": CAPPED}
    builders.declare(**wish)
    builders.build()
    builders.host.check_output("docker buildx rm --keep-state t")
    builders.host.check_output("docker buildx create --name t --driver-opt image=moby/buildkit:next --bootstrap")
    assert caps(builders.host) != [20 * 2**30]
    predicted = builders.declare(check=True, **wish)
    done = builders.declare(**wish)
    for key in ("changed", "steps", "diff", "drift"):
        assert done[key] == predicted[key]
    named = {text.split(": ")[1] for text in done["drift"]}
    assert named == {"image", "command", "config in the container", "gc policy"}
    assert caps(builders.host) == [20 * 2**30]
    assert cached(builders.build())
    assert builders.declare(**wish)["changed"] is False


def test_an_image_whose_tag_is_no_version_of_buildkit_is_no_drift(builders):
    builders.host.check_output("docker tag moby/buildkit:next registry:5000/ci/buildkit:v1.2.3")
    wish = {"nodes": [{"driver_opts": {"image": "registry:5000/ci/buildkit:v1.2.3"}}]}
    assert "failed" not in builders.declare(**wish)
    assert builders.declare(**wish)["changed"] is False


def test_a_container_of_another_user_is_not_taken_for_drift(builders):
    builders.declare()
    before = builders.container()
    another = {"BUILDX_CONFIG": "/root/another"}
    refused = builders.declare(env=another, **CHANGES[0])
    assert refused["failed"]
    assert "a container buildx_buildkit_t0 is there, and no builder of this user has it: memory" in refused["msg"]
    assert builders.container() == before
    assert builders.declare(env=another, recreate="always", **CHANGES[0])["changed"]
    assert builders.container() != before
    builders.declare(env=another, state="absent")


@pytest.mark.parametrize("command", ["stop", "rm -f", "kill"])
def test_a_container_that_does_not_run_is_started(builders, command):
    builders.declare()
    builders.build()
    builders.host.check_output(f"docker {command} buildx_buildkit_t0")
    done = builders.declare()
    assert done["changed"]
    assert done["builder"]["nodes"][0]["status"] == "running"
    assert cached(builders.build())


CHANGE = {"nodes": [{"driver_opts": {"memory": "1g"}}]}
STEPS = {
    "making the new one": "buildx create",
    "stopping the old container": " stop ",
    "setting it aside": " rename ",
    "starting the new one": "buildx inspect --bootstrap",
}


@pytest.mark.parametrize("how", ["fail", "kill-before", "kill-after"])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_step_breaks_the_old_builder_builds_and_the_next_run_ends_well(builders, step, how):
    builders.declare(default=True)
    builders.build()
    before, container = builders.instance(), builders.container()
    broken = {"BREAK": STEPS[step], "HOW": how}
    told = builders.declare(env=broken, docker_cli="/opt/test/docker", **CHANGE)
    assert told.get("failed") or told.get("killed")
    assert builders.instance() == before
    if how == "fail":
        assert "broken by the test" in told["msg"]
        assert builders.container() == container
        assert builders.leftovers() == []
    assert cached(builders.build())
    assert "t*" in builders.host.check_output("docker buildx ls")
    assert "failed" not in builders.declare(**CHANGE)
    assert builders.declare(**CHANGE)["changed"] is False
    assert builders.leftovers() == []
    assert cached(builders.build())


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"nodes": [{"driver_opts": {"image": "moby/buildkit:nothere"}}]}, "pull moby/buildkit:nothere"),
        ({"nodes": [{"driver_opts": {"cpuset-cpus": "99"}}]}, "Requested CPUs are not available"),
        ({"nodes": [{"flags": ["--no-such-flag"]}]}, "does not answer"),
        ({"nodes": [{"platforms": ["amd64", "linux/arm64/v9"]}]}, "declares linux/arm64/v9"),
        ({"nodes": [{"driver_opts": {"network": "nowhere"}}]}, "nowhere"),
    ],
)
def test_a_builder_that_cannot_start_is_put_back(builders, wish, message):
    builders.declare()
    builders.build()
    before, container = builders.instance(), builders.container()
    told = builders.declare(**wish)
    assert told["failed"]
    assert message in told["msg"]
    assert (builders.instance(), builders.container(), builders.leftovers()) == (before, container, [])
    assert cached(builders.build())


def test_a_new_builder_that_cannot_start_leaves_nothing(builders):
    assert builders.declare(nodes=[{"driver_opts": {"cpuset-cpus": "99"}}])["failed"]
    assert builders.instance() == ""
    assert "buildkit_t0" not in builders.host.check_output("docker ps -a; docker volume ls")


def test_a_full_disk_is_an_error_and_the_old_builder_builds(builders):
    host = builders.host
    host.check_output("mkdir -p /root/small && mount -t tmpfs -o size=64k tmpfs /root/small")
    try:
        env = {"BUILDX_CONFIG": "/root/small"}
        assert "failed" not in builders.declare(env=env)
        host.run("dd if=/dev/zero of=/root/small/filler bs=1k")
        told = builders.declare(env=env, **CHANGE)
        assert told["failed"]
        assert "No space left on device" in told["msg"]
        host.check_output("rm /root/small/filler")
        assert builders.declare(env=env)["changed"] is False
    finally:
        builders.declare(env={"BUILDX_CONFIG": "/root/small"}, state="absent")
        host.check_output("umount /root/small")


def test_orphans_are_found_and_removed_by_name(builders):
    builders.declare()
    builders.build()
    builders.declare(state="absent", keep_cache=True)
    names = [orphan["name"] for orphan in builders.info()["orphans"]]
    assert "buildx_buildkit_t0_state" in names
    assert "buildx_buildkit_main0_state" not in names
    assert "is not an orphan of buildx" in builders.declare(remove_orphans=["/etc"], check=True)["msg"]
    predicted = builders.declare(remove_orphans=["buildx_buildkit_gone0_state", "buildx_buildkit_main0"], check=True)
    assert "orphans" not in predicted["diff"]["after"]
    assert cached(builders.declare() and builders.build()), "the kept cache is found again"
    builders.declare(state="absent", keep_cache=True)
    done = builders.declare(
        "main", state="present", remove_orphans=["buildx_buildkit_t0_state"], buildkitd_config=None, check=True
    )
    assert done["diff"]["after"].get("orphans") == []
    assert builders.declare("other", state="absent", remove_orphans=["buildx_buildkit_t0_state"])["changed"]
    assert "t0_state" not in builders.host.check_output("docker volume ls")


def test_another_users_builder_is_not_touched_by_exclusive(host):
    assert os.path.basename(host.check_output("ls /root/.docker/buildx/instances")) == "main"
    assert host.check_output("ls ~ci/.docker/buildx/instances") == "user"


def test_absent_removes_container_and_cache(builders):
    builders.declare(default=True)
    done = builders.declare(state="absent")
    assert done["steps"] == ["remove the builder t", "remove buildx_buildkit_t0 and its cache"]
    assert "buildkit_t0" not in builders.host.check_output("docker ps -a; docker volume ls")


def test_the_role_buildkitd_takes_the_programs_of_an_image_and_they_run_as_a_service(host, play, tmp_path):
    # A builder's host has what this needs of its engine: an image of BuildKit.
    wish = {
        "buildkitd_source": "image", "buildkitd_image": "moby/buildkit:next", "buildkitd_packages": ["runc"],
        "buildkitd_min_free_gib": 1, "buildkitd_instances": [{"name": "taken"}],
    }  # fmt: skip
    playbook = tmp_path / "play.yml"
    role = {"role": "multiarch.drone.buildkitd", **wish}
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "roles": [role]}]))
    name = host.backend.get_hostname()
    try:
        assert play(playbook)[name]["failures"] == 0
        process = host.check_output("systemctl show --property MainPID --value buildkitd@taken")
        programs = os.path.dirname(host.check_output(f"readlink /proc/{process}/exe"))
        assert programs.startswith("/usr/local/lib/multiarch-buildkitd/")
        host.check_output(
            f"mkdir -p /root/taken && cp {programs}/buildctl /root/taken"
            ' && printf \'FROM scratch\nCOPY buildctl /\nRUN ["/buildctl", "--version"]\n\' >/root/taken/Dockerfile'
        )
        built = host.check_output(
            f"{programs}/buildctl --addr unix:///run/buildkit/taken/buildkitd.sock build --frontend dockerfile.v0"
            " --no-cache --local context=/root/taken --local dockerfile=/root/taken --progress plain 2>&1"
        )
        assert " buildctl github.com/moby/buildkit" in built
    finally:
        assert (
            play(playbook, "-e", '{"buildkitd_state": "absent", "buildkitd_keep_cache": false}')[name]["failures"] == 0
        )
    assert not host.file(programs).exists
