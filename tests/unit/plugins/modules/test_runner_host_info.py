# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is and lacks, as Ansible asks for it: the result, and what the engine was asked."""

from __future__ import annotations

import fcntl
import json
import os
import time
import types

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import kernel
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.module_utils._host import busy, limit, look, proof
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import runner_host_info

INFO = {
    "ServerVersion": "26.1.5",
    "Images": 2,
    "Containers": 1,
    "ContainersRunning": 1,
    "DockerRootDir": "/var/lib/docker",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
}


@pytest.fixture
def asked(monkeypatch):
    """A running engine with two images; what it was asked for."""
    urls = []
    answers = {"/info": INFO, "/images/json": [{"RepoTags": ["b:1"]}, {"RepoTags": ["a:1", "<none>:<none>"]}, {}]}

    def ask(url, kind, **_unused):
        urls.append(url)
        return answers[url]

    monkeypatch.setattr(engine, "_ask", ask)
    monkeypatch.setattr(engine, "unit_now", lambda: engine.Unit(installed=True, active=True, enabled=True, pid=1))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return urls


def test_a_host_is_told_in_one_look(asked, run_module):
    told = run_module(runner_host_info, {"packages": ["no-such-package"]})
    assert not told.failed
    assert (told["changed"], told["packages"], told["uid"]) == (False, {"no-such-package": ""}, 0)
    assert told["docker"] == {
        "installed": True,
        "running": True,
        "enabled": True,
        "version": "26.1.5",
        "containers": 1,
        "containers_running": 1,
        "images": 2,
        "containerd_store": False,
        "data_root": "/var/lib/docker",
    }
    assert "2 images (a:1, b:1) and 1 containers" in told["problems"]["image_store"]
    assert asked == ["/info", "/images/json"]


def test_what_is_required_and_lacks_fails_with_all_that_lacks(asked, run_module):
    failed = run_module(runner_host_info, {"require": ["image_store", "disk"], "min_free_gib": 10**8})
    assert failed["msg"].startswith("this host cannot become what is declared: this engine holds 2 images")
    assert "GiB are free at" in failed["msg"]
    assert failed["msg"].endswith("nothing was changed")
    assert "docker" not in failed  # the facts, which would hide the words, only at -v


def test_an_engine_that_does_not_answer_is_told(asked, run_module, monkeypatch):
    def ask(url, kind, **_unused):
        raise Problem(
            "the Docker engine at /run/docker.sock does not answer within 20 s", "look at: journalctl -u docker"
        )

    monkeypatch.setattr(engine, "_ask", ask)
    assert "does not answer within 20 s" in run_module(runner_host_info, {})["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disk_path": "/var/a\0b"}, "disk_path has a NUL character"),
        ({"min_free_gib": 1e300}, "min_free_gib is 1e+300, which is too large"),
    ],
)
def test_what_no_host_has_is_refused(asked, run_module, options, message):
    assert message in run_module(runner_host_info, options)["msg"]
    assert asked == []


@pytest.fixture
def layers(asked, monkeypatch, tmp_path):
    """Let layers be functions of the test's own, by their option: layers["qemu"] = lambda module: {…}; all but these are real."""
    works = {}
    real = look.layer

    def layer(name):
        return real(name)._replace(work=works[name]) if name in works else real(name)

    monkeypatch.setattr(look, "layer", layer)
    monkeypatch.setattr(busy, "traces", lambda *_unused: None)
    monkeypatch.setattr(look, "traces", lambda *_unused: None)
    monkeypatch.setattr(busy, "DPKG_LOCK", str(tmp_path / "none"))
    monkeypatch.setattr(kernel, "ROOT", str(tmp_path))
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    return works


def as_declared(_module):
    return {"changed": False, "steps": [], "diff": {"before": {}, "after": {}}, "fact": 1}


def drifted(_module):
    return {"changed": True, "steps": ["mend it"], "diff": {"before": {"a": 1}, "after": {"a": 2}}}


ENGINE = {"path": "/no/such/daemon.json", "containerd_store": "false"}
QEMU = {"platforms": ["arm64"]}
RUNNER = {"drone_url": "https://drone.example.com", "rpc_secret": "sha-la-la-secret"}


def test_layers_are_told_in_one_answer_each_with_its_plan(layers, run_module):
    layers.update(qemu=as_declared, builders=drifted, runner=as_declared)
    told = run_module(runner_host_info, {"qemu": QEMU, "builders": [{"name": "ci"}], "runner": RUNNER})
    assert not told["changed"]
    assert told["as_declared"] == ["qemu", "runner"]
    assert told["layers"]["qemu"]["facts"] == {"fact": 1}
    builders = told["layers"]["builders"]
    assert builders["steps"] == ["ci of root: mend it"]
    assert builders["diff"] == {"before": {"ci of root": {"a": 1}}, "after": {"ci of root": {"a": 2}}}
    assert [(one["name"], one["user"], one["steps"]) for one in builders["results"]] == [("ci", "root", ["mend it"])]
    assert "layers" not in run_module(runner_host_info, {})


def test_what_the_engine_said_once_is_not_asked_again(layers, asked, run_module):
    layers["builders"] = lambda module: engine.get("/info", path="/run/docker.sock") and as_declared(module)
    asked.clear()
    told = run_module(runner_host_info, {"engine": ENGINE, "builders": [{"name": "ci"}, {"name": "cd"}]})
    assert not told.failed
    assert asked.count("/info") == 1
    engine.get("/info")
    assert asked.count("/info") == 2  # elsewhere the engine is asked each time


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"engine": {**ENGINE, "containerd_store": "perhaps"}}, ["engine: ", "containerd_store"]),
        ({"engine": {**ENGINE, "no_such": 1}}, ["engine: ", "no_such"]),
        ({"engine": {**ENGINE, "defaults": 7}}, ["engine: ", "defaults"]),
        ({"qemu": {}}, ["qemu: ", "platforms"]),
        ({"qemu": {"platforms": ["linux/arm9"]}}, ["qemu: ", "linux/arm9"]),
        ({"qemu": {"platforms": ["arm64"], "source": "path"}}, ["qemu: ", "path"]),
        ({"builders": [{"name": "Bad Name"}]}, ["builders[0] (Bad Name of root): ", "'Bad Name'"]),
        ({"builders": [{"name": "a", "driver": "dokcer"}]}, ["builders[0] (a of root): ", "driver"]),
        ({"builders": [{"name": "a", "timeout": 1e400}]}, ["builders[0] (a of root): ", "too large"]),
        ({"builders": [{"name": "a", "user": "no-such-user"}]}, ["builders[0] (a of no-such-user): ", "make it first"]),
        ({"builders": [{"name": "a", "user": "no\0such"}]}, ["builders[0] (", "user has a NUL"]),
        ({"builders": ["a"]}, ["builders[0] ( of root): ", "dictionary"]),
        ({"builders": "a"}, ["builders is not a list", "list"]),
        ({"qemu": "arm64"}, ["qemu: ", "dictionary"]),
        ({"qemu": 7}, ["qemu: ", "dict"]),
        ({"buildkitd": {"instances": [{"port": 1}]}}, ["buildkitd: ", "name"]),
        ({"buildkitd": {"instances": [7]}}, ["buildkitd: ", "instances[0]"]),
        ({"runner": {**RUNNER, "capacity": "many"}}, ["runner: ", "capacity"]),
        ({"runner": {"drone_url": "https://drone.example.com"}}, ["runner: ", "rpc_secret"]),
        ({"runner": {**RUNNER, "drone_url": "a\0b"}}, ["runner: ", "drone_url"]),
    ],
)  # fmt: skip
def test_a_refused_wish_names_layer_and_option_and_the_others_are_told(layers, run_module, wish, words):
    (wrong,) = wish
    good = {"engine": ENGINE, "qemu": QEMU, "builders": [{"name": "ci"}], "runner": RUNNER}
    layers.update({name: as_declared for name in good if name != wrong})
    told = run_module(runner_host_info, {**good, **wish})
    assert not told.failed, told["msg"]
    assert told["as_declared"] == [name for name in good if name != wrong]
    (problem,) = told["layers"][wrong]["problems"]
    assert problem.startswith(words[0])
    assert words[1] in problem
    assert "this is a bug" not in problem
    assert "sha-la-la" not in str(told)


def test_an_engine_that_hangs_is_told_by_each_layer_that_needs_it_after_one_wait(layers, run_module, monkeypatch):
    urls = []

    def hang(url, kind, **_unused):
        urls.append(url)
        raise Problem("the Docker engine does not answer within 20 s")

    monkeypatch.setattr(engine, "_ask", hang)
    layers.update(qemu=as_declared, builders=as_declared, runner=as_declared, buildkitd=as_declared)
    builders = [{"name": "ci"}, {"name": "default", "driver": "docker"}]
    told = run_module(
        runner_host_info,
        {"engine": ENGINE, "qemu": QEMU, "builders": builders, "buildkitd": {}, "runner": RUNNER},
    )
    assert told["as_declared"] == ["qemu", "buildkitd"]
    assert urls == ["/info"]
    for name in ("engine", "builders", "runner"):
        assert "does not answer within 20 s" in told["layers"][name]["problems"][0]
    assert told["docker"]["running"]


def test_a_stopped_engine_is_not_started_by_the_look(layers, run_module, monkeypatch):
    monkeypatch.setattr(engine, "unit_now", lambda: engine.Unit(installed=True))
    layers.update(builders=as_declared, qemu=as_declared)
    builders = [{"name": "ci"}, {"name": "far", "driver": "remote"}]
    image = {**QEMU, "source": "image", "image": "tonistiigi/binfmt"}
    told = run_module(runner_host_info, {"builders": builders, "qemu": image})
    assert "does not run" in told["layers"]["qemu"]["problems"][0]
    first, second = told["layers"]["builders"]["results"]
    assert "does not run" in first["problems"][0]
    assert second["problems"] == []
    assert told["as_declared"] == []


def test_a_layer_that_takes_too_long_is_told_and_the_others_too(layers, run_module):
    def slow(module):
        try:
            time.sleep(30)
        except Problem:  # as code does that takes a daemon's silence for an answer
            return as_declared(module)

    layers.update(qemu=slow, runner=as_declared)
    told = run_module(runner_host_info, {"qemu": QEMU, "runner": RUNNER, "timeout": 1})
    assert told["layers"]["qemu"]["problems"] == [
        "qemu: qemu was not read within 1 s; look at what hangs, or raise timeout"
    ]
    assert told["as_declared"] == ["runner"]


def test_a_bug_in_one_layer_does_not_hide_the_others(layers, run_module):
    layers.update(qemu=lambda _module: [][1], runner=as_declared)
    told = run_module(runner_host_info, {"qemu": QEMU, "runner": RUNNER})
    assert "bug" in told["layers"]["qemu"]["problems"][0]
    assert told["as_declared"] == ["runner"]


@pytest.mark.parametrize(("option", "wish", "file"), [
    ("qemu", QEMU, "status"), ("builders", [{"name": "ci"}], "buildx/.multiarch.drone.lock"),
])  # fmt: skip
def test_a_lock_that_another_task_holds_is_told_and_left(layers, run_module, tmp_path, option, wish, file):
    layers[option] = as_declared
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert run_module(runner_host_info, {option: wish})["as_declared"] == [option]
    with open(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = run_module(runner_host_info, {option: wish})
    assert (told["as_declared"], told["layers"][option]["steps"]) == ([], [])
    assert "is locked" in told["layers"][option]["busy"][0]
    assert run_module(runner_host_info, {option: wish})["as_declared"] == [option]


def test_apt_at_work_is_told_without_taking_its_lock(layers, run_module, monkeypatch, tmp_path):
    layers["qemu"] = as_declared
    path = tmp_path / "lock-frontend"
    path.touch()
    monkeypatch.setattr(busy, "DPKG_LOCK", str(path))
    assert run_module(runner_host_info, {"qemu": QEMU})["as_declared"] == ["qemu"]
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with open(path, "w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(ready[1], b"x")
            os.close(end[1])
            os.read(end[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        told = run_module(runner_host_info, {"qemu": QEMU})
    finally:
        os.close(end[1])
        os.waitpid(child, 0)
    assert "apt or dpkg is at work" in told["layers"]["qemu"]["busy"][0]
    assert told["as_declared"] == []


def test_what_changes_while_it_is_read_is_not_as_declared(layers, run_module, monkeypatch):
    layers["qemu"] = as_declared
    moments = iter(range(9))
    monkeypatch.setattr(look, "traces", lambda *_unused: next(moments))
    told = run_module(runner_host_info, {"qemu": QEMU})
    assert (told["as_declared"], told["layers"]["qemu"]["busy"]) == (
        [], ["qemu: it was changed by something else while it was read"],
    )  # fmt: skip


def test_an_engine_that_restarts_meanwhile_makes_nothing_that_stands_on_it_as_declared(layers, run_module, monkeypatch):
    layers.update(engine=as_declared, qemu=as_declared, builders=as_declared, runner=as_declared)
    units = iter([engine.Unit(True, True, True, 1), engine.Unit(True, True, True, 2)])
    monkeypatch.setattr(engine, "unit_now", lambda: next(units))
    wishes = {"engine": ENGINE, "qemu": QEMU, "builders": [{"name": "ci"}], "runner": RUNNER}
    assert run_module(runner_host_info, wishes)["as_declared"] == ["qemu"]


def test_a_runner_that_drains_is_told(layers, run_module, monkeypatch):
    layers["runner"] = drifted
    monkeypatch.setattr(
        "ansible_collections.multiarch.drone.plugins.module_utils._runner.world.services",
        lambda *_unused: [types.SimpleNamespace(state="deactivating")],
    )
    told = run_module(runner_host_info, {"runner": RUNNER})
    assert "ends its builds" in told["layers"]["runner"]["busy"][0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_builders_of_another_user_are_looked_for_as_that_user(layers, run_module, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "me")

    def who(_module):
        told = {name: os.environ.get(name) for name in ("HOME", "USER", "SUDO_USER")}
        return {**as_declared(None), "uid": os.getuid(), "groups": os.getgroups(), **told, "warnings": ["beware"]}

    layers["builders"] = who
    told = run_module(runner_host_info, {"builders": [{"name": "ci", "user": "nobody"}, {"name": "mine"}]})
    theirs, mine = (one["facts"] for one in told["layers"]["builders"]["results"])
    assert theirs["uid"] == 65534
    assert 0 not in theirs["groups"]
    assert (theirs["HOME"], theirs["USER"], theirs["SUDO_USER"]) == ("/nonexistent", "nobody", None)
    assert mine["uid"] == 0
    assert "beware" in str(told["warnings"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
@pytest.mark.parametrize("end", [lambda: os._exit(1), lambda: os.kill(os.getpid(), 9), lambda: [][1]])
def test_a_look_as_another_user_that_dies_is_a_problem(layers, run_module, end):
    layers["builders"] = lambda _module: end()
    told = run_module(runner_host_info, {"builders": [{"name": "ci", "user": "nobody"}]})
    assert told["as_declared"] == []
    assert told["layers"]["builders"]["problems"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_a_look_as_another_user_that_hangs_is_given_up(layers, run_module, monkeypatch):
    monkeypatch.setattr(limit, "GRACE", 0.2)

    def hang(_module):
        while True:
            try:
                time.sleep(30)
            except Problem:
                continue

    layers["builders"] = hang
    told = run_module(runner_host_info, {"builders": [{"name": "ci", "user": "nobody"}], "timeout": 1})
    assert "not read within 1 s" in told["layers"]["builders"]["problems"][0]


def test_secrets_of_every_layer_are_hidden(layers, run_module):
    def telltale(module):
        return {**as_declared(module), "said": json.dumps(module.params)}

    layers.update(engine=telltale, qemu=telltale, builders=telltale, buildkitd=telltale, runner=telltale)
    secret = "zq7 hush"
    told = run_module(
        runner_host_info,
        {
            "engine": {"options": {"proxies": {"http-proxy": f"http://u:{secret}@proxy"}, "my-secret": secret}},
            "builders": [{"name": "ci", "nodes": [{"driver_opts": {"env.TOKEN": secret}}]}],
            "buildkitd": {"instances": [{"name": "a", "tls": {"key": secret}, "environment": {"X": f"{secret}2"}}]},
            "runner": {"rpc_secret": secret, "env": {"DRONE_TOKEN": f"{secret}3"}, "secrets": {"a": f"{secret}4"}},
        },
    )
    assert told["layers"]["runner"]["facts"]["said"]
    assert secret not in json.dumps(told)


def test_a_proof_holds_for_one_engine_its_builders_handlers_and_boot(layers, run_module, monkeypatch, tmp_path):
    row = {"platform": "linux/arm64", "version": "10.0"}
    builder = {"driver": "docker"}
    layers["qemu"] = lambda module: {**as_declared(module), "platforms": [row]}
    layers["builders"] = lambda module: {**as_declared(module), "builder": builder}
    monkeypatch.setattr(proof, "PATH", str(tmp_path / "proof"))
    monkeypatch.setattr(proof, "BOOT", str(tmp_path / "boot"))
    (tmp_path / "boot").write_text("boot-1\n")

    def look_again():
        return run_module(runner_host_info, {"qemu": QEMU, "builders": [{"name": "ci"}]})["proof"]

    first = look_again()
    assert not first["kept"]
    (tmp_path / "proof").write_text(first["of"])
    assert look_again() == {"of": first["of"], "kept": True}
    assert not run_module(runner_host_info, {"qemu": QEMU, "builders": [{"name": "other"}]})["proof"]["kept"]
    for change in (
        lambda: row.update(version="10.1"),
        lambda: builder.update(driver="remote"),
        lambda: (tmp_path / "boot").write_text("boot-2"),
        lambda: monkeypatch.setitem(INFO, "ServerVersion", "27.0"),
        lambda: monkeypatch.setitem(INFO, "ID", "another"),
    ):
        change()
        told = look_again()
        assert not told["kept"]
        (tmp_path / "proof").write_text(told["of"])
        assert look_again()["kept"]
    # What is not as declared proves nothing.
    layers["builders"] = drifted
    assert look_again() == {"of": "", "kept": False}
    layers["builders"] = lambda module: {**as_declared(module), "builder": builder}
    (tmp_path / "boot").unlink()
    assert look_again() == {"of": "", "kept": False}
