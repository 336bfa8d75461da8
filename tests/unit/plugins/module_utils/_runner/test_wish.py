# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._change import Plan
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.module_utils._files import File
from ansible_collections.multiarch.drone.plugins.module_utils._platform import Platform, by_machine
from ansible_collections.multiarch.drone.plugins.module_utils._preflight import in_words_of_the_role, variable_of, wrong
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.module_utils._runner import variables as _variables
from ansible_collections.multiarch.drone.plugins.module_utils._runner import world as _world
from ansible_collections.multiarch.drone.plugins.module_utils._runner.bridges import hidden
from ansible_collections.multiarch.drone.plugins.module_utils._runner.plan import (
    as_diff,
    plan,
    plan_absent,
    plan_drained,
)
from ansible_collections.multiarch.drone.plugins.module_utils._runner.variables import quoted
from ansible_collections.multiarch.drone.plugins.module_utils._runner.wish import Tools, declare
from ansible_collections.multiarch.drone.plugins.module_utils._runner.world import Container, Policy, Service, World
from ansible_collections.multiarch.drone.plugins.modules import drone_runner

DOCUMENTATION = yaml.safe_load(drone_runner.DOCUMENTATION)
DEFAULTS = {name: option.get("default") for name, option in DOCUMENTATION["options"].items()}
NEEDED = {"drone_url": "https://drone.example.com", "rpc_secret": "b0t-secret", "name": "runner-1"}
POLICY = Policy(60, "fail", None, "runner-1")


def refusal(settings, names=None):
    """Return what the checks before a play say: the role's variables are the module's options."""
    values = {variable_of(option): value for option, value in settings.items()}
    return "".join(wrong(["drone_runner"], values, names or {}))


def declared(machine="x86_64", **options):
    tools = Tools("/usr/bin/docker", "/usr/bin/python3", "# prunes\n", {})
    return declare({**DEFAULTS, **NEEDED, **options}, tools, by_machine(machine))


def world(runner, *, image="sha256:1", pinged=True, **changes):
    found = {
        "files": dict(runner.files),
        "service": Service("active", True),
        "timer": Service("active", True),
        "docker": True,
        "container": Container(True, runner.mark, image, 1000.0),
        "image": image,
        "pinged": pinged,
    }
    return World(**{**found, **changes})


def steps(runner, found, refused=""):
    return [step.summary for step in plan(runner, found, POLICY, 10, refused).steps]


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ({"drone_url": "http://ci:8080/"}, {"DRONE_RPC_PROTO": "http", "DRONE_RPC_HOST": "ci:8080"}),
        ({"drone_url": "https://ci.example.com/drone/"}, {"DRONE_RPC_HOST": "ci.example.com/drone"}),
        ({"validate_certs": False}, {"DRONE_RPC_SKIP_VERIFY": "true"}),
        ({"capacity": 4, "max_procs": 8}, {"DRONE_RUNNER_CAPACITY": "4", "DRONE_RUNNER_MAX_PROCS": "8"}),
        ({"labels": {"b": 1, "a": "x"}}, {"DRONE_RUNNER_LABELS": "a:x,b:1"}),
        ({"volumes": {"/cache": "/cache"}}, {"DRONE_RUNNER_VOLUMES": "/cache:/cache"}),
        ({"devices": ["/dev/kvm"], "networks": ["a", "b"]}, {"DRONE_RUNNER_DEVICES": "/dev/kvm", "DRONE_RUNNER_NETWORKS": "a,b"}),
        ({"privileged_images": ["thegeeklab/drone-docker-buildx"]}, {"DRONE_RUNNER_PRIVILEGED_IMAGES": "thegeeklab/drone-docker-buildx"}),
        ({"secrets": {"password": "hunter2"}}, {"DRONE_RUNNER_SECRETS": "password:hunter2"}),
        ({"limit_repos": ["octocat/*"], "limit_events": ["push", "tag"]}, {"DRONE_LIMIT_REPOS": "octocat/*", "DRONE_LIMIT_EVENTS": "push,tag"}),
        ({"limit_trusted": True}, {"DRONE_LIMIT_TRUSTED": "true"}),
        ({"memory": "2g", "shm_size": "64MiB"}, {"DRONE_MEMORY_LIMIT": "2147483648", "DRONE_SHM_SIZE": "67108864"}),
        ({"docker_config": "/root/.docker/config.json"}, {"DRONE_DOCKER_CONFIG": "/etc/drone-runner/docker.json"}),
        ({"ca_path": "/etc/ca.pem"}, {"SSL_CERT_FILE": "/etc/drone-runner/ca.pem"}),
        ({"env": {"DRONE_DEBUG": True, "HTTPS_PROXY": "http://p:3128"}}, {"DRONE_DEBUG": "true", "HTTPS_PROXY": "http://p:3128"}),
        ({"build_environment": {"A": "b"}}, {"DRONE_RUNNER_ENV_FILE": "/etc/drone-runner/builds.env"}),
        ({"ui_bind": "127.0.0.1:3000", "ui_username": "root", "ui_password": "x"}, {"DRONE_UI_USERNAME": "root", "DRONE_UI_PASSWORD": "x"}),
    ],
)  # fmt: skip
def test_options_become_the_runners_variables(options, variables):
    environment = declared(**options).environment
    assert {name: environment.get(name) for name in variables} == variables


@pytest.mark.parametrize(
    ("machine", "platform", "words"),
    [
        ("x86_64", None, ("amd64", None)),
        ("aarch64", None, ("arm64", "v8")),
        ("armv7l", None, ("arm", "v7")),
        ("x86_64", "linux/s390x", ("s390x", None)),
    ],
)
def test_the_platform_is_the_hosts_own_unless_told(machine, platform, words):
    environment = declared(machine, platform=platform).environment
    assert (environment["DRONE_PLATFORM_ARCH"], environment.get("DRONE_PLATFORM_VARIANT")) == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rpc_secret": ""}, "rpc_secret is empty"),
        ({"rpc_secret": "two words"}, "has a space"),
        ({"rpc_secret": "$ANSIBLE_VAULT;1.1;AES256"}, "still encrypted"),
        ({"drone_url": "drone.example.com"}, "did you mean https://drone.example.com?"),
        ({"drone_url": ""}, "drone_url is empty"),
        ({"name": "runner 1"}, "is not a valid name for a runner"),
        ({"capacity": 0}, "at least one build"),
        ({"capacity": True}, "capacity is true, which is not a number"),
        ({"stop_timeout": 10**12}, "stop_timeout is 1000000000000, which is too large"),
        ({"docker_config": "/root/a\0b"}, "docker_config has a NUL character"),
        ({"build_environment": {"A": "b\0"}}, "build_environment: A has a NUL character"),
        ({"env": {"A": None}}, "env: A has no value"),
        ({"image": "Drone/Runner"}, "is not an image reference"),
        ({"platform": "linux/amd65"}, "is not a platform"),
        ({"volumes": {"/a": "/b:ro"}}, "volumes: '/a:/b:ro' has more colons or commas than a map of the runner takes"),
        ({"labels": {"a": "b:c"}}, "labels: 'a' has more colons"),
        ({"labels": {"a": ""}}, "lacks its half"),
        ({"env": {"DRONE_RUNNER_NETWORK_OPTS": {"a": "b:c"}}}, "has more colons"),
        ({"env": {"DRONE_RUNNER_ENVIRON": "x:y"}}, "use build_environment"),
        ({"env": {"DRONE_RPC_SECRET": "x"}}, "use rpc_secret"),
        ({"env": {"DRONE_RUNER_NAME": "x"}}, "did you mean DRONE_RUNNER_NAME?"),
        ({"env": {"DRONE_TMATE_ENABLED": "yes"}}, "neither true nor false"),
        ({"env": {"A": "b\nc"}}, "several lines"),
        ({"networks": ["a,b"]}, "without commas"),
        ({"limit_events": ["pushed"]}, "did you mean push?"),
        ({"memory": "much"}, "is not a valid size"),
        ({"plugin_defaults": {"mirror": "mirror:5000"}}, "did you mean https://mirror:5000?"),
        ({"plugin_defaults": {"bip": "10.1.0.1/24"}, "build_environment": {"PLUGIN_BIP": "10.2.0.1/24"}}, "leave one of them out"),
        ({"build_environment": {"PATH": "/bin"}}, "would break builds"),
        ({"build_environment": {"A": "'#'"}}, "both # and quotes"),
        ({"stop_timeout": 60, "drain_timeout": 61}, "no longer than systemd does"),
        ({"on_drain_timeout": "cancel"}, "drone_token"),
        ({"ui_bind": "everywhere"}, "ADDRESS:PORT"),
        ({"ui_password": "x", "ui_bind": "3000"}, "one of ui_username and ui_password"),
        ({"ui_password": "x", "ui_username": "x"}, "say with ui_bind"),
        ({"prune_age": 1}, "a build may run longer"),
    ],
)  # fmt: skip
def test_what_the_runner_would_refuse_or_misread_is_refused_before(options, message):
    with pytest.raises(Problem) as problem:
        declared(**options)
    assert message in str(problem.value)
    assert refusal({**DEFAULTS, **NEEDED, **options}) == in_words_of_the_role(str(problem.value))


def test_a_secret_is_not_in_the_message_that_refuses_it():
    with pytest.raises(Problem) as problem:
        declared(secrets={"password": "hun:ter2"})
    assert "hun:ter2" not in str(problem.value)


def test_a_secret_of_the_wrong_type_is_refused_and_not_shown():
    said = refusal({**DEFAULTS, **NEEDED, "secrets": "hun:ter2"})
    assert "secrets" in said
    assert "hun:ter2" not in said


def test_values_are_read_as_the_module_reads_them():
    """From `-e drone_runner_capacity=3` comes a text."""
    settings = {
        **DEFAULTS,
        **NEEDED,
        "capacity": "3",
        "prune": "no",
        "privileged_images": "a,b",
        "cpu_quota": "",
        "memory": "",
    }
    assert refusal(settings) == ""
    assert "at least one build" in refusal({**settings, "capacity": "0"})
    assert "capacity" in refusal({**settings, "capacity": "many"})
    assert "on_drain_timeout" in refusal({**settings, "on_drain_timeout": "hope"})


def test_a_name_that_two_hosts_of_the_fleet_have_is_refused():
    settings = {**DEFAULTS, **NEEDED}
    assert refusal(settings, {"a": "runner-1", "b": "runner-2"}) == ""
    assert "a, b have one drone_runner_name" in refusal(settings, {"a": "runner-1", "b": "runner-1"})
    assert "b, runner-1 have one" in refusal(settings, {"runner-1": "", "b": "runner-1"})


@pytest.mark.parametrize(
    ("bip", "message"),
    [
        ("10.231.0.1/24", ""),
        ("10.231.0.1", "is not a valid address of a bridge"),
        ("10.231.0.0/24", "is not a valid address of a bridge"),
        ("bridge", "is not a valid address of a bridge"),
        ("192.168.7.1/24", "overlaps 192.168.7.0/24, which this host reaches through eth0"),
        ("172.17.0.1/16", "overlaps 172.17.0.0/16"),
        ("10.9.0.1/16", "hides registry.example.com (10.9.0.7)"),
    ],
)
def test_a_bridge_that_hides_what_builds_need_is_refused(bip, message):
    networks = {
        "which this host reaches through eth0": "192.168.7.0/24",
        "of Docker": "172.17.0.0/16",
        "default": "0.0.0.0/0",
    }
    registries = {"registry.example.com": ["10.9.0.7", "2001:db8::7"], "unknown": []}
    if not message:
        hidden(bip, networks, registries)
        return
    with pytest.raises(Problem) as problem:
        hidden(bip, networks, registries)
    assert message in str(problem.value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("http://mirror:5000", "'http://mirror:5000'"),
        ("it's $HOME", "'it's $HOME'"),
        ("a#b", "'a#b'"),
        ('a\n$b "c" \\', '"a\\n\\$b \\"c\\" \\\\"'),
    ],
)
def test_values_are_written_as_the_runners_parser_reads_them_back(value, written):
    # Compared with godotenv 1.3.0 itself: 2,882 values of its special characters came back the same.
    assert quoted("A", value) == written


def test_plugins_defaults_go_where_colons_do_no_harm():
    builds = declared(plugin_defaults={"mirror": "http://m:5000", "bip": "10.1.0.1/24", "insecure": True}).builds
    assert builds == {"DOCKER_PLUGIN_MIRROR": "http://m:5000", "PLUGIN_BIP": "10.1.0.1/24", "PLUGIN_INSECURE": "true"}


def test_the_secret_is_in_one_file_that_root_alone_reads():
    runner = declared()
    holders = [path for path, file in runner.files.items() if "b0t-secret" in file.text]
    assert holders == ["/etc/drone-runner/environment"]
    assert runner.files[holders[0]].mode == 0o600
    assert "b0t-secret" not in " ".join([*runner.run, *runner.rehearse])
    assert "b0t-secret" not in repr(as_diff(runner, world(declared(rpc_secret="an0ther"))))


def test_a_rehearsal_can_reach_neither_docker_nor_a_server():
    runner = declared(ui_bind="127.0.0.1:3000", network="drone", plugin_defaults={"mtu": 1400})
    assert "--volume=/var/run/docker.sock:/var/run/docker.sock" in runner.run
    assert "--network=none" in runner.rehearse
    assert not [word for word in runner.rehearse if "docker.sock" in word or "publish" in word or "=drone" in word]
    assert "--volume=/etc/drone-runner/builds.env:/etc/drone-runner/builds.env:ro" in runner.rehearse


def test_the_service_waits_longer_than_docker_does():
    unit = declared(stop_timeout=4000).files["/etc/systemd/system/drone-runner.service"].text
    assert "TimeoutStopSec=4030" in unit
    assert "SuccessExitStatus=1" in unit
    assert "--stop-timeout=4000" in declared(stop_timeout=4000).run


def test_a_runner_as_declared_is_left_alone():
    runner = declared()
    assert steps(runner, world(runner)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"container": None, "pinged": False}, ["drain and restart drone-runner.service"]),
        ({"pinged": False}, ["drain and restart drone-runner.service"]),
        ({"service": Service("inactive", True)}, ["start drone-runner.service"]),
        ({"service": Service("deactivating", True)}, ["drain and restart drone-runner.service"]),
        ({"service": Service("active", False)}, ["enable drone-runner.service"]),
        ({"timer": Service("inactive", True)}, ["enable drone-runner-prune.timer"]),
        ({"image": "sha256:2"}, ["drain and restart drone-runner.service"]),  # the tag has moved
    ],
)
def test_what_is_lacking_is_done(changes, expected):
    runner = declared()
    changes = {"container": Container(True, runner.mark, "sha256:1", 1000.0), **changes}
    assert steps(runner, world(runner, **changes)) == expected


def test_a_change_of_settings_drains_and_a_change_of_the_timer_does_not():
    old = world(declared())
    assert steps(declared(capacity=3), old) == ["write environment, run", "drain and restart drone-runner.service"]
    assert steps(declared(prune_schedule="daily"), old) == ["write drone-runner-prune.timer"]
    assert steps(declared(prune=False), old)[-1] == "disable drone-runner-prune.timer"


def test_nothing_is_drained_for_a_server_that_refuses():
    old = world(declared())
    with pytest.raises(Problem) as problem:
        steps(declared(capacity=3), old, "https://drone.example.com does not take rpc_secret (401)")
    assert "nothing was changed" in str(problem.value)
    assert steps(declared(prune_schedule="daily"), old, "out of reach") == ["write drone-runner-prune.timer"]


def test_a_container_that_somebody_else_made_is_not_touched():
    runner = declared()
    stranger = world(runner, container=Container(True, "", "sha256:1", 1000.0))
    for make in (lambda: steps(runner, stranger), lambda: plan_absent(stranger, POLICY)):
        with pytest.raises(Problem, match="docker stop -t 3600"):
            make()


def test_a_unit_that_somebody_else_wrote_is_not_touched():
    runner = declared()
    unit = "/etc/systemd/system/drone-runner.service"
    theirs = world(runner, files={unit: File("[Service]\nExecStart=/usr/bin/docker run drone/drone-runner-docker\n")})
    for make in (lambda: steps(runner, theirs), lambda: plan_absent(theirs, POLICY)):
        with pytest.raises(Problem, match=r"drone-runner\.service is there already, which this module has not made"):
            make()


def test_a_host_without_a_runner_has_none_to_drain_or_remove():
    assert not plan_drained(World(), POLICY).steps
    assert not plan_absent(World(), POLICY).steps


def framed(*lines):
    """Return lines as the engine tells them: before each its stream and its length."""
    return b"".join(b"\1\0\0\0" + len(line).to_bytes(4, "big") + line for line in (line.encode() for line in lines))


STARTS = 'time="2026-11-25T12:00:00Z" level=info msg="starting the server" addr=":3000"\n'
PINGED = 'time="2026-11-25T12:00:01Z" level=info msg="successfully pinged the remote server"\n'
WORKS = 'time="2026-11-25T12:09:00Z" level=info msg="stage received" stage.id=7\n'
REHEARSES = 'time="2026-11-25T12:00:00Z" level=error msg="cannot ping the docker daemon"\n'


@pytest.mark.parametrize(
    ("status", "lines", "pinged"),
    [
        ("200 OK", [STARTS, PINGED], True),
        ("200 OK", [STARTS], False),
        ("200 OK", [REHEARSES], False),
        ("200 OK", [], False),
        ("200 OK", [WORKS] * 200, True),  # what it said at first is in no log any more
        ("404 Not Found", ['{"message":"No such container: drone-runner"}'], False),
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 16])
def test_the_runners_own_log_says_whether_it_has_reached_its_server(monkeypatch, status, lines, pinged, size):
    answer = f"HTTP/1.0 {status}\r\nContent-Type: text/plain\r\n\r\n".encode() + framed(*lines)
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    monkeypatch.setattr(engine, "stream", lambda url: iter(pieces))
    assert _world.has_pinged() is pinged


def test_every_variable_of_the_runner_is_in_the_table_and_each_option_is_documented():
    assert set(_variables.OPTIONS.values()) <= set(_variables.VARIABLES)
    assert set(_variables.FOLLOW) <= set(_variables.VARIABLES)
    assert set(_variables.OPTIONS) <= set(DOCUMENTATION["options"])


def test_the_checks_before_a_play_see_every_option_of_the_module():
    role = Path(__file__).parents[5] / "roles/drone_runner"
    options = set(DOCUMENTATION["options"]) - {"connections"}
    (task,) = yaml.safe_load((role / "tasks/runner.yml").read_text())
    assert set(task["multiarch.drone.drone_runner"]) == options
    declared = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {variable_of(option) for option in options} <= set(declared)


def test_plans_are_plans():
    runner = declared()
    assert isinstance(plan(runner, world(runner), POLICY, 10, ""), Plan)
    assert Platform.parse(runner.platform) == Platform("linux", "amd64")
