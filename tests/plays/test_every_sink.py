# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No secret of any module and any role is anywhere that somebody else can read, whatever its shape.

Looked at are: the output at -vvvvv, the JSON callback, the events as files, the log file, syslog, what every process has for
arguments and environment, facts that are kept, and files that are left. Modules and roles are those that the directories have:
a new one is tested as soon as it is there.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.tests.plays.sinks import Machine
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.every_module import (
    ATTRIBUTES,
    DIRECTORY,
    MARK,
    NEEDED,
    SHAPES,
    URLS,
    filled,
    spec_of,
)

TOKEN = f"{MARK}0123456789abcdef"
ALL_SHAPES = "\n".join(shape for shape in SHAPES.values())
# Programs that end well lead the modules that change a host further than those that fail.
ON_A_HOST = (
    "buildkitd_instances",
    "buildx_builder",
    "buildx_image",
    "docker_engine_config",
    "drone_pipeline",
    "drone_runner",
)
# The kernel's handlers and dpkg's packages are those of the machine, whatever is mounted.
OF_THE_MACHINE = ("binfmt_qemu", "host_record")
EVERY = sorted(path.stem for path in DIRECTORY.glob("*.py"))
PLAY = {"hosts": "localhost", "connection": "local", "gather_facts": False, "ignore_errors": True}

# Arguments that are accepted, with secrets in the places that no option is declared for, or that only a run that goes on reaches.
S3 = f"type=s3,region=eu,bucket=b,access_key_id={MARK}id,secret_access_key={MARK}key,session_token={MARK}tok"
ENVIRONMENT = {"HTTPS_PROXY": URLS["at"], "A_TOKEN": SHAPES["short"], "PLAIN": "value"}
DEEPER = {
    "buildkitd_instances": [
        {
            "instances": [
                {
                    "name": "one",
                    "environment": ENVIRONMENT,
                    "port": 1,
                    "tls": {"ca": "x", "cert": "x", "key": SHAPES["key"]},
                }
            ]
        },
        {"instances": [{"name": "one", "environment": ENVIRONMENT}]},
    ],
    "buildx_builder": [
        {
            "name": "one",
            "nodes": [{"driver_opts": {f"env.{name}": value for name, value in ENVIRONMENT.items()}}],
            "driver": driver,
        }
        for driver in ("docker-container", "kubernetes")
    ],
    "buildx_image": [
        {
            "context": "/context",
            "tags": ["r.example/one"],
            "push": True,
            "cache_from": [S3],
            "cache_to": [f"{S3},mode=max"],
        },
        {
            "context": "/context",
            "build_args": {**ENVIRONMENT, "AUTH_TOKEN": SHAPES["lines"]},
            "secrets": [{"id": "a", "value": ALL_SHAPES}],
        },
        {"context": URLS["token"], "tags": ["r.example/one"], "build_contexts": {"a": URLS["at"]}},
    ],
    "docker_engine_config": [
        {
            "options": {
                "log-opts": {"splunk-token": SHAPES["quotes"]},
                "proxies": {"http-proxy": URLS["slash"], "https-proxy": URLS["at"]},
            }
        },
        {"options": {"registry-mirrors": [URLS["at"]]}, "defaults": {"log-opts": {"splunk-token": ALL_SHAPES}}},
    ],
    "drone_pipeline": [
        {"repos": [{"url": url}], "pipeline": {"repo": "a/b", "tags": ["latest"], "platforms": ["linux/amd64"]}}
        for url in URLS.values()
    ],
    "drone_runner": [
        {
            **NEEDED["drone_runner"],
            "rpc_secret": f"{MARK}rpc-secret",
            "env": {"DRONE_ENV_PLUGIN_TOKEN": SHAPES["short"]},
            "secrets": {"password": SHAPES["short"]},
            "plugin_defaults": {"password": SHAPES["quotes"], "http_proxy": URLS["slash"]},
            "build_environment": {"GITHUB_TOKEN": ALL_SHAPES, "HTTPS_PROXY": URLS["at"]},
            "ui_bind": "127.0.0.1:1",
            "ui_username": "joe",
            "ui_password": SHAPES["quotes"],
        },
    ],
}


@pytest.fixture
def machine():
    """A machine of the test's own, in a directory with a short name: sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="sinks-") as name:
        yield Machine(Path(name))


@pytest.fixture
def drone():
    with DroneServer(tokens={"octocat": TOKEN}) as server:
        yield server


def merged(needed, more):
    """Return arguments with more of them: dictionaries and the first entries of lists are merged."""
    if isinstance(needed, dict) and isinstance(more, dict):
        return {key: merged(needed.get(key), more.get(key)) for key in {**needed, **more}}
    if isinstance(needed, list) and isinstance(more, list) and needed and more:
        return [merged(needed[0], more[0]), *needed[1:]]
    return needed if more is None else more


def tasks_of(name, calls):
    """Return a task for each call of a module, whose arguments come from variables, as secrets do."""
    return [
        {
            "name": f"call {number}",
            f"multiarch.drone.{name}": {option: f"{{{{ calls[{number}][{option!r}] }}}}" for option in call},
        }
        for number, call in enumerate(calls)
    ]


def calls_of(monkeypatch, name, server):
    """Return arguments with secrets of every shape in every place that a module has for one."""
    if name == "preflight":
        return [{"roles": ["docker_engine", "drone_runner"]}]
    if name == "fleet_report":
        return [{"hosts": {"a": {"password": SHAPES["quotes"]}}}]
    spec = spec_of(monkeypatch, name)
    needed = NEEDED.get(name, {})
    access = {"drone_url": server.url, "drone_token": TOKEN} if "drone_token" in spec else {}
    calls = [merged(needed, filled(spec, secret)) for secret in (ALL_SHAPES, SHAPES["short"])]
    calls += [{**merged(needed, filled(spec, shape)), **access} for shape in (ALL_SHAPES, SHAPES["quotes"])]
    calls += [{**filled(spec, url, url=True), **access} for url in (URLS["at"], ATTRIBUTES["cache"])]
    calls += DEEPER.get(name, [])
    return [call for number, call in enumerate(calls) if call not in calls[:number]]


def test_what_a_careless_task_shows_is_found_in_each_place(machine):
    tasks = [
        {"ansible.builtin.debug": {"msg": "{{ secret }}"}},
        {"ansible.builtin.set_fact": {"kept": "{{ secret }}", "cacheable": True}},
        {"ansible.builtin.command": {"argv": ["docker", "login", "{{ secret }}"]}},
        {"ansible.builtin.command": {"argv": ["sleep", "0.3", "{{ secret }}"]}},
        {"ansible.builtin.copy": {"content": "{{ secret }}", "dest": "/etc/.multiarch.drone.tmp"}},
        {"ansible.builtin.copy": {"content": "{{ secret }}", "dest": str(machine.left / "tmp/file")}},
    ]
    seen = machine.play([{**PLAY, "tasks": tasks}], {"secret": TOKEN}, fail=False)
    places = {leak.partition(": ")[0] for leak in seen.leaks()} | {
        leak.split(": ")[1].partition("/")[0] for leak in seen.leaks() if leak.startswith("left")
    }
    assert {"output", "syslog", "processes", "left", "log", "artifacts", "facts", "tmp", "etc"} <= places
    assert any(place.startswith("argv of ") for place in places)
    assert not Path("/etc/.multiarch.drone.tmp").exists()


@pytest.mark.parametrize(("name", "fail"), [*((name, True) for name in EVERY), *((name, False) for name in ON_A_HOST)])
def test_a_module_leaves_its_secrets_nowhere(monkeypatch, machine, drone, name, fail):
    calls = calls_of(monkeypatch, name, drone)
    (machine.directory / "context").mkdir()
    (machine.directory / "context/Dockerfile").write_text("FROM scratch\n")
    calls = json.loads(json.dumps(calls).replace('"/context"', json.dumps(str(machine.directory / "context"))))
    play = {**PLAY, "tasks": tasks_of(name, calls), "check_mode": name in OF_THE_MACHINE}
    seen = machine.play([play], {"calls": calls}, fail=fail)
    assert seen.leaks() == []
    assert f"ok={len(calls)}" in seen.output, seen.output[-3000:]
    assert "Traceback" not in seen.output


# What a role is given, with secrets wherever it takes one, an URL, or a dictionary without declared keys.
ROLES = {
    "builder": {
        "builder_builders": [
            {"name": "one", "nodes": [{"driver_opts": {f"env.{name}": value for name, value in ENVIRONMENT.items()}}]},
            {
                "name": "two",
                "buildkitd_config": {"registry": {"r": {"token": SHAPES["quotes"], "mirrors": [URLS["at"]]}}},
            },
        ]
    },
    "buildkitd": {
        "buildkitd_source": "path",
        "buildkitd_path": "/context",
        "buildkitd_pki": "/context/pki",
        "buildkitd_packages": [],
        "buildkitd_min_free_gib": 0,
        "buildkitd_url": URLS["at"],
        "buildkitd_clients": [{"name": "ci", "instances": ["one"]}],
        "buildkitd_instances": [
            {"name": "one", "port": 1, "environment": ENVIRONMENT},
            {"name": "two", "port": 2, "tls": {"ca": "x", "cert": "x", "key": SHAPES["key"]}},
        ],
    },
    "docker_engine": {
        "docker_engine_registry_logins": [{"registry": "r.example", "username": "joe", "password": ALL_SHAPES}],
        "docker_engine_registry_mirrors": [URLS["at"]],
        "docker_engine_daemon_options": {
            "log-opts": {"splunk-token": SHAPES["quotes"]},
            "proxies": {"https-proxy": URLS["slash"]},
        },
        "docker_engine_source": "docker",
        "docker_engine_source_url": URLS["password"],
        "docker_engine_source_key": URLS["at"],
        "docker_engine_buildx": "url",
        "docker_engine_buildx_url": URLS["at"],
        "docker_engine_buildx_checksum": "sha256:00",
        "docker_engine_min_free_gib": 0,
    },
    "drone_pipelines": {
        "drone_pipelines_url": "https://joe:" + MARK + "pw@127.0.0.1:1",
        "drone_pipelines_token": TOKEN,
        "drone_pipelines_git_password": ALL_SHAPES,
        "drone_pipelines_pipelines": [
            {
                "pipeline": {"repo": "a/b", "tags": ["latest"], "settings": {"password": SHAPES["quotes"]}},
                "repos": [{"url": URLS["at"]}],
            }
        ],
    },
    "drone_repos": {
        "drone_repos_url": "http://127.0.0.1:1",
        "drone_repos_token": TOKEN,
        "drone_repos_timeout": 1,
        "drone_repos_users": [{"login": "bot", "machine": True, "token": SHAPES["quotes"]}],
        "drone_repos_secrets": [
            {"repo": "a/b", "name": "x", "value": ALL_SHAPES},
            {"repo": "a/b", "name": "y", "values": SHAPES["tab"]},
        ],
        "drone_repos_repos": [{"slug": "a/b"}],
    },
    "drone_runner": {
        "drone_runner_url": "http://127.0.0.1:1",
        "drone_runner_rpc_secret": f"{MARK}rpc-secret",
        "drone_runner_token": TOKEN,
        "drone_runner_secrets": {"password": SHAPES["short"]},
        "drone_runner_ui_bind": "127.0.0.1:1",
        "drone_runner_ui_username": "joe",
        "drone_runner_ui_password": SHAPES["quotes"],
        "drone_runner_env": {"DRONE_ENV_PLUGIN_TOKEN": SHAPES["short"]},
        "drone_runner_plugin_defaults": {"password": SHAPES["quotes"], "http_proxy": URLS["slash"]},
        "drone_runner_build_environment": {"GITHUB_TOKEN": ALL_SHAPES, "HTTPS_PROXY": URLS["at"]},
    },
    "qemu": {"qemu_source": "path", "qemu_path": "/nowhere"},
    "lab": {"lab_state": "absent", "lab_step_secrets": {"password": ALL_SHAPES}, "lab_name": "no-such-lab"},
}
# A role's variables where its author let no_log be forgotten, or a person mistook the type.
WRONG = {
    "builder": {"builder_builders": [f"{MARK}text"]},
    "buildkitd": {"buildkitd_instances": {"name": "one", "tls": {"key": SHAPES["key"]}}},
    "docker_engine": {
        "docker_engine_registry_logins": [{"registry": "r", "username": "joe", "pass": SHAPES["quotes"]}]
    },
    "drone_pipelines": {
        "drone_pipelines_pipelines": [{"repos": [{"url": URLS["at"]}]}],
        "drone_pipelines_token": {"a": TOKEN},
    },
    "drone_repos": {"drone_repos_secrets": [f"{MARK}text", {"value": SHAPES["quotes"]}]},
    "drone_runner": {"drone_runner_secrets": f"{MARK}text", "drone_runner_rpc_secret": [SHAPES["quotes"]]},
}


def role_tasks(role, variables):
    values = {name: f"{{{{ given[{name!r}] }}}}" for name in variables}
    return [{"name": role, "ansible.builtin.include_role": {"name": f"multiarch.drone.{role}"}, "vars": values}]


@pytest.mark.parametrize("wrong", [False, True], ids=["", "with a mistake"])
@pytest.mark.parametrize("role", sorted(path.name for path in (DIRECTORY.parents[1] / "roles").iterdir()))
def test_a_role_leaves_its_secrets_nowhere(machine, role, wrong):
    variables = {**ROLES[role], **(WRONG.get(role, {}) if wrong else {})}
    if wrong and role not in WRONG:
        pytest.skip("it has no secret that a mistake could show")
    place = machine.directory / "context"
    place.mkdir()
    for program in ("buildkitd", "buildctl"):
        (place / program).write_text("#!/bin/sh\nexit 1\n")
    variables = json.loads(json.dumps(variables).replace('"/context', f'"{place}'))
    plays = [{**PLAY, "tasks": role_tasks(role, variables)}]
    if role == "buildkitd":  # once more, when all certificates are due
        variables["given_days"] = 5000
        again = {"name": "again", "ansible.builtin.include_role": {"name": "multiarch.drone.buildkitd"}}
        plays[0]["tasks"] += [
            {**again, "vars": {**role_tasks(role, variables)[0]["vars"], "buildkitd_renew_days": 5000}}
        ]
    seen = machine.play(plays, {"given": variables}, fail=role != "buildkitd")
    assert seen.leaks() == []
    for key in place.rglob("*key.pem"):
        # The other lines of such a key have the public one in them.
        assert seen.leaks(key.read_text().splitlines()[1]) == [], key
    if role == "buildkitd" and not wrong:
        assert list(place.rglob("*key.pem")), seen.output[-5000:]
        assert "ends on" in seen.output
    assert "Traceback" not in seen.output
