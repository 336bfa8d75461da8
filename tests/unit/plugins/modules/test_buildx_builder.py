# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""buildx_builder and buildx_builder_info from arguments to result, with a model of Docker's CLI that answers in the shape of the real one."""

from __future__ import annotations

import base64
import copy
import json
import os
import re

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Transaction
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Docker
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import buildx_builder, buildx_builder_info

from .docker_cli import Call

IMAGE = "moby/buildkit:buildx-stable-1"
NETWORK_HOST = "--allow-insecure-entitlement=network.host"
# `buildctl debug workers` of BuildKit 0.34.2, less what is not looked at.
WORKER = {
    "platforms": [{"architecture": "amd64", "os": "linux"}, {"architecture": "386", "os": "linux"}],
    "gcPolicy": [],
    "buildkitVersion": {"package": "github.com/moby/buildkit", "version": "v0.34.2"},
}


class Engine:
    """A Docker engine with buildx, in which containers, volumes and images are entries of dictionaries."""

    def __init__(self):
        self.containers, self.volumes = {}, set()
        self.images = {IMAGE: {"Id": "sha256:aaaa", "RootFS": {}, "Config": {"Env": ["PATH=/bin"]}}}
        self.calls, self.failing, self.made = [], "", 0

    def fail(self, pattern):
        """Let the first command that matches fail, once."""
        self.failing = pattern

    def state(self):
        return copy.deepcopy((self.containers, self.volumes, sorted(self.images)))

    def changes(self):
        """Return the commands that change something, in short."""
        looking = r"exec \S+ sh|inspect|ps |volume inspect|volume ls"
        return [call for call in self.calls if not re.match(looking, call)]

    def answer(self, argv, env):
        argv = ["buildx", *argv[1:]] if argv[0].endswith("docker-buildx") else list(argv[1:])
        if argv[0] in ("--host", "--context"):
            argv = argv[2:]
        call = " ".join(argv)
        self.calls.append(call)
        if self.failing and re.search(self.failing, call):
            self.failing = ""
            return 1, "", "Error response from daemon: it was made to fail"
        command = argv[:2] if argv[0] in ("buildx", "volume", "image") else argv[:1]
        return getattr(self, "_".join(command))(argv[len(command) :], env)

    def inspect(self, names, _env):
        found = [table[name] for name in names for table in (self.containers, self.images) if name in table]
        return (
            (0, json.dumps(found), "")
            if len(found) == len(names)
            else (1, json.dumps(found), f"Error: No such object: {names[0]}")
        )

    def exec(self, words, _env):
        there = self.containers.get(words[0])
        if there is None or not there["State"]["Running"]:
            return 1, "", f"Error response from daemon: No such container: {words[0]}"
        if words[1] == "buildctl":
            return 0, "", ""
        return 0, f"{json.dumps([WORKER])}\n\n--multiarch.drone--\n{there['Toml']}\n--multiarch.drone--\n", ""

    def pull(self, words, _env):
        self.images[words[-1]] = {"Id": "sha256:bbbb", "RootFS": {}, "Config": {"Env": []}}
        return 0, "", ""

    def image_rm(self, words, _env):
        self.images.pop(words[-1], None)
        return 0, "", ""

    def rm(self, words, _env):
        missing = [name for name in words[1:] if self.containers.pop(name, None) is None]
        return (
            (1, "", "\n".join(f"Error response from daemon: No such container: {name}" for name in missing))
            if missing
            else (0, "", "")
        )

    def stop(self, words, _env):
        self.containers[words[0]]["State"]["Running"] = False
        return 0, "", ""

    def start(self, words, _env):
        self.containers[words[0]]["State"]["Running"] = True
        return 0, "", ""

    def rename(self, words, _env):
        self.containers[words[1]] = self.containers.pop(words[0])
        return 0, "", ""

    def volume_inspect(self, words, _env):
        return (0, "[]", "") if words[0] in self.volumes else (1, "[]", f"Error: no such volume: {words[0]}")

    def volume_rm(self, words, _env):
        self.volumes.discard(words[0])
        return 0, "", ""

    def volume_ls(self, _words, _env):
        return 0, "\n".join(json.dumps({"Name": name}) for name in sorted(self.volumes)), ""

    def ps(self, _words, _env):
        return 0, "\n".join(json.dumps({"Names": name, "State": "running"}) for name in sorted(self.containers)), ""

    def buildx_create(self, words, env):
        options, opts, place = {}, {}, ""
        words = iter(words)
        for word in words:
            if word == "--append":
                continue
            if not word.startswith("--"):
                place = word
            elif word == "--driver-opt":
                name, _found, value = next(words).strip('"').partition("=")
                opts[name] = value
            else:
                options[word[2:]] = next(words)
        flags = options.get("buildkitd-flags", "").split()
        if options["driver"] == "docker-container":
            flags += [] if any("insecure-entitlement" in flag for flag in flags) else [NETWORK_HOST]
        files = {}
        if "buildkitd-config" in options:
            with open(options["buildkitd-config"], "rb") as file:
                files["buildkitd.toml"] = base64.b64encode(file.read()).decode()
        platforms = [
            dict(zip(("os", "architecture"), item.split("/")))
            for item in options.get("platform", "").split(",")
            if item
        ]
        node = {
            "Name": options["node"],
            "Endpoint": place,
            "Platforms": platforms or None,
            "DriverOpts": opts or None,
            "Flags": flags or None,
            "Files": files or None,
        }
        path = os.path.join(env["BUILDX_CONFIG"], "instances", options["name"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        nodes = []
        if os.path.exists(path):
            with open(path) as file:
                nodes = json.load(file)["Nodes"]
        with open(path, "w") as file:
            json.dump(
                {"Name": options["name"], "Driver": options["driver"], "Nodes": [*nodes, node], "Dynamic": False}, file
            )
        return 0, options["name"], ""

    def buildx_inspect(self, words, env):
        with open(os.path.join(env["BUILDX_CONFIG"], "instances", words[-1])) as file:
            builder = json.load(file)
        text = f"Name:   {builder['Name']}\nDriver: {builder['Driver']}\n\nNodes:\n"
        for node in builder["Nodes"]:
            if builder["Driver"] == "docker-container" and "--bootstrap" in words:
                self.boot(node)
            text += (
                f"Name:             {node['Name']}\nEndpoint:         {node['Endpoint']}\nStatus:           running\n"
            )
            text += "BuildKit version: v0.34.2\nPlatforms:        linux/amd64*, linux/386\n\n"
        return 0, text, ""

    def boot(self, node):
        name = f"buildx_buildkit_{node['Name']}"
        if name in self.containers:
            self.containers[name]["State"]["Running"] = True
            return
        opts = node["DriverOpts"] or {}
        toml = base64.b64decode((node["Files"] or {}).get("buildkitd.toml", "")).decode()
        self.made += 1
        self.volumes.add(f"{name}_state")
        memory = int(opts["memory"][:-1]) * 2**30 if "memory" in opts else 0
        image = opts.get("image", IMAGE)
        self.containers[name] = {
            "Id": f"c0ffee{self.made}",
            "Image": self.images[image]["Id"],
            "State": {"Running": True},
            "Config": {
                "Image": image,
                "Cmd": [*(["--config", "/etc/buildkit/buildkitd.toml"] if toml else []), *node["Flags"]],
                "Env": [
                    "PATH=/bin",
                    *(f"{name[4:]}={value}" for name, value in opts.items() if name.startswith("env.")),
                ],
            },
            "HostConfig": {"Memory": memory, "NetworkMode": "bridge", "RestartPolicy": {"Name": "unless-stopped"}},
            "Toml": toml,
        }


@pytest.fixture
def engine(monkeypatch, tmp_path):
    engine = Engine()

    def start(self, argv, env, stdin, timeout):
        return Call(argv, engine.answer(argv, {**os.environ, **(env or {})}))

    monkeypatch.setattr(Docker, "_start", start)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return engine


@pytest.fixture
def declare(engine, run_module, looks_alike, no_engine, tmp_path):
    def run(check=False, **arguments):
        engine.calls.clear()
        result = run_module(buildx_builder, {"name": "ci", **arguments}, check=check)
        if check:
            called = list(engine.calls)
            looks_alike("builders", {"name": "ci", **arguments}, result)
            engine.calls[:] = called
        assert "Traceback" not in result.get("msg", "") + result.get("exception", "")
        return result

    run.instance = tmp_path / "docker/buildx/instances/ci"
    return run


SMALL, BIG = ({"nodes": [{"driver_opts": {"memory": memory}}]} for memory in ("1g", "2g"))
BOOT = "buildx inspect --bootstrap ci"


def test_a_builder_is_created_and_a_second_run_looks_with_two_commands(declare, engine):
    predicted = declare(check=True, **SMALL)
    assert not declare.instance.exists()
    assert engine.state() == (({}), set(), [IMAGE])
    done = declare(**SMALL)
    assert done["changed"]
    assert (
        done["steps"]
        == predicted["steps"]
        == [
            "start ci: every node must answer",
            "create the builder ci (docker-container)",
        ]
    )
    assert done["diff"] == predicted["diff"]
    assert engine.changes()[:2] == [
        "buildx create --name ci --driver docker-container --node ci0 --driver-opt memory=1g unix:///var/run/docker.sock",
        BOOT,
    ]
    assert done["builder"]["nodes"][0]["status"] == "running"
    again = declare(**SMALL)
    assert not again["changed"]
    assert [call.split()[0] for call in engine.calls] == ["exec", "inspect"]


def test_a_change_sets_the_old_container_aside_and_removes_it_last(declare, engine):
    declare(**SMALL)
    done = declare(**BIG)
    assert done["steps"] == [
        "make buildx_buildkit_ci0 anew, its cache kept (memory)",
        "start ci: every node must answer",
        "change the builder ci (ci0 driver_opts)",
    ]
    assert done["drift"] == ["ci0: memory: 1073741824, declared 2147483648"]
    assert engine.changes() == [
        "buildx create --name ci --driver docker-container --node ci0 --driver-opt memory=2g unix:///var/run/docker.sock",
        "rm --force buildx_buildkit_ci0.replaced",
        "stop buildx_buildkit_ci0",
        "rename buildx_buildkit_ci0 buildx_buildkit_ci0.replaced",
        BOOT,
        "rm --force buildx_buildkit_ci0.replaced",
    ]
    assert list(engine.containers) == ["buildx_buildkit_ci0"]
    assert engine.containers["buildx_buildkit_ci0"]["HostConfig"]["Memory"] == 2**31
    assert engine.volumes == {"buildx_buildkit_ci0_state"}


@pytest.mark.parametrize("command", ["buildx create", "^pull", "^stop", "^rename", "buildx inspect --bootstrap"])
def test_whichever_command_fails_the_old_builder_is_as_it_was_and_the_next_run_ends_well(declare, engine, command):
    declare(**SMALL)
    before, file = engine.state(), declare.instance.read_bytes()
    other = {"nodes": [{"driver_opts": {"memory": "2g", "image": "example.org/buildkit:v1"}}]}
    engine.fail(command)
    failed = declare(**other)
    assert failed.failed
    assert "it was made to fail" in failed["msg"]
    assert "not taken back" not in failed["msg"]
    assert engine.failing == "", "the command was never given"
    assert engine.state() == before
    assert declare.instance.read_bytes() == file
    assert not declare(**SMALL)["changed"]
    assert declare(**other)["changed"]
    assert not declare(**other)["changed"]


@pytest.mark.parametrize("place", ["instances/ci", "current", "defaults/"])
def test_whichever_file_cannot_be_written_everything_is_as_it_was(declare, engine, monkeypatch, place):
    declare(**SMALL)
    before, file = engine.state(), declare.instance.read_bytes()
    write = Transaction.write

    def broken(self, relative, data):
        if relative.startswith(place):
            monkeypatch.setattr(Transaction, "write", write)
            raise Problem(f"{relative}: No space left on device", "free some space")
        write(self, relative, data)

    monkeypatch.setattr(Transaction, "write", broken)
    failed = declare(**BIG, default=True)
    assert failed.failed
    assert "No space left on device" in failed["msg"]
    assert "taken back: start ci: every node must answer, make buildx_buildkit_ci0 anew" in failed["msg"].replace(
        "change the builder ci (ci0 driver_opts), ", ""
    )
    assert engine.state() == before
    assert declare.instance.read_bytes() == file


@pytest.mark.parametrize("volume", [False, True])
def test_a_new_builder_that_cannot_start_leaves_only_the_volume_that_was_there(declare, engine, volume, monkeypatch):
    if volume:
        engine.volumes.add("buildx_buildkit_ci0_state")
    before = engine.state()
    monkeypatch.setitem(WORKER, "platforms", [])
    failed = declare(nodes=[{"platforms": ["arm64"]}])
    assert failed.failed
    assert "declares linux/arm64, and its BuildKit executes only linux/amd64, linux/386" in failed["msg"]
    assert engine.made == 1
    assert engine.state() == before
    assert not declare.instance.exists()


def test_a_container_that_stood_still_stands_still_again_when_the_start_fails(declare, engine):
    declare(**SMALL)
    engine.containers["buildx_buildkit_ci0"]["State"]["Running"] = False
    before = engine.state()
    engine.fail("buildx inspect --bootstrap")
    assert declare(**SMALL).failed
    assert engine.state() == before
    assert "rm --force buildx_buildkit_ci0" not in engine.calls
    assert declare(**SMALL)["steps"] == ["start ci: every node must answer"]


def test_a_container_that_runs_is_never_stopped_by_a_change_of_the_file_alone(declare, engine, monkeypatch):
    declare(**SMALL)
    before = engine.state()

    def broken(self, relative, data):
        raise Problem(f"{relative}: No space left on device")

    monkeypatch.setattr(Transaction, "write", broken)
    assert declare(nodes=[{"driver_opts": {"memory": "1g"}, "platforms": ["amd64"]}]).failed
    assert engine.state() == before
    assert not [call for call in engine.changes() if call.startswith(("stop", "rm ", "volume rm"))]


def test_never_and_always_are_obeyed(declare, engine):
    declare(**SMALL)
    before = engine.state()
    refused = declare(recreate="never", **BIG)
    assert refused.failed
    assert "recreate is never: memory: 1073741824, declared 2147483648" in refused["msg"]
    assert engine.state() == before
    first = engine.containers["buildx_buildkit_ci0"]["Id"]
    assert declare(recreate="always", **SMALL)["changed"]
    assert engine.containers["buildx_buildkit_ci0"]["Id"] != first


def test_the_cache_is_emptied_where_it_is_not_to_be_kept(declare, engine):
    declare(**SMALL)
    done = declare(keep_cache=False, **BIG)
    assert done["steps"][-1] == "empty the cache of ci0"
    assert engine.calls[-1].startswith("exec buildx_buildkit_ci0 buildctl prune --all")


def test_absent_forgets_the_builder_and_removes_container_and_cache(declare, engine):
    declare(default=True, **SMALL)
    predicted = declare(check=True, state="absent")
    assert declare.instance.exists()
    done = declare(state="absent")
    assert done["steps"] == predicted["steps"] == ["remove the builder ci", "remove buildx_buildkit_ci0 and its cache"]
    assert engine.changes() == [
        "rm --force buildx_buildkit_ci0 buildx_buildkit_ci0.replaced",
        "volume rm buildx_buildkit_ci0_state",
    ]
    assert engine.state() == ({}, set(), [IMAGE])
    assert not declare(state="absent")["changed"]


@pytest.mark.parametrize("command", ["^rm --force", "^volume rm"])
def test_absent_that_fails_brings_the_builders_file_back(declare, engine, command):
    declare(default=True, **SMALL)
    file = declare.instance.read_bytes()
    engine.fail(command)
    failed = declare(state="absent")
    assert failed.failed
    assert "taken back: remove the builder ci" in failed["msg"]
    assert declare.instance.read_bytes() == file
    assert declare(state="absent")["changed"]


def test_another_users_container_that_differs_is_refused(declare, engine):
    declare(**SMALL)
    declare.instance.unlink()
    before = engine.state()
    refused = declare(**BIG)
    assert refused.failed
    assert "no builder of this user has it" in refused["msg"]
    assert engine.state() == before


def test_exclusive_and_orphans_are_removed_after_the_builder_holds(declare, engine):
    declare(name="old")
    engine.volumes.add("buildx_buildkit_lost0_state")
    done = declare(exclusive=["ci"], remove_orphans=["buildx_buildkit_lost0_state"], **SMALL)
    assert done["steps"][-3:] == [
        "remove the builder old",
        "remove buildx_buildkit_old0 and its cache",
        "remove the orphan volume buildx_buildkit_lost0_state",
    ]
    assert sorted(engine.containers) == ["buildx_buildkit_ci0"]
    assert engine.volumes == {"buildx_buildkit_ci0_state"}


def test_info_tells_of_builders_and_orphans_and_changes_nothing(declare, engine, run_module):
    declare(default=True, **SMALL)
    engine.containers["buildx_buildkit_ci0"]["HostConfig"]["Memory"] = 0
    engine.volumes.add("buildx_buildkit_lost0_state")
    engine.calls.clear()
    before = engine.state()
    told = run_module(buildx_builder_info, {"cache": False, "orphans": True})
    [builder] = told["builders"]
    assert builder["default"] is True
    assert builder["nodes"][0]["problems"] == ["memory: 0, declared 1073741824"]
    assert told["orphans"] == [{"name": "buildx_buildkit_lost0_state", "type": "volume", "status": ""}]
    assert engine.changes() == []
    assert engine.state() == before


@pytest.mark.parametrize(
    "more", [{}, {"flags": 3}, {"driver": "nothing"}, {"nodes": [{"driver_opts": {"env.TOKEN": "s3cret-value"}}, "x"]}]
)
def test_the_values_of_variables_are_in_no_result(declare, engine, more):
    done = declare(**{"nodes": [{"driver_opts": {"env.TOKEN": "s3cret-value"}}], "check": True, **more})
    assert "s3cret-value" not in json.dumps(done)


def test_the_values_of_variables_are_no_arguments_of_a_process(declare, engine, tmp_path):
    value = "http://joe:s3cret<&>\"\\'@proxy\u2028é"
    done = declare(nodes=[{"driver_opts": {"env.HTTP_PROXY": value, "memory": "1g"}}])
    assert not done.failed, done
    assert not any("s3cret" in call for call in map(str, engine.calls))
    [path] = [path for path in tmp_path.rglob("instances/*") if path.is_file()]
    assert json.loads(path.read_text())["Nodes"][0]["DriverOpts"]["env.HTTP_PROXY"] == value
    assert not declare(nodes=[{"driver_opts": {"env.HTTP_PROXY": value, "memory": "1g"}}])["changed"]


def test_absent_that_fails_keeps_the_default_builder(declare, engine, run_module):
    declare(default=True, **SMALL)
    engine.fail("^rm --force")
    assert declare(state="absent").failed
    [builder] = run_module(buildx_builder_info, {"cache": False})["builders"]
    assert builder["default"] is True
