# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a module's `main()` as Ansible does, in this process, against a Drone server of the test's own."""

from __future__ import annotations

import json
import re

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common import warnings
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.module_utils._drone import client
from ansible_collections.multiarch.drone.plugins.modules import runner_host_info
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer


class Result(dict):
    """What a module returned; `warnings` and all."""

    @property
    def failed(self):
        return bool(self.get("failed"))


@pytest.fixture
def run_module(monkeypatch, capsys):
    """Run a module: run_module(drone_repo_trust, {"repos": […]}, check=True) returns what it printed as JSON."""

    def run(module, arguments, *, check=False, diff=True):
        arguments = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        # A module is a process of its own, in which nothing has warned before.
        monkeypatch.setattr(warnings, "_global_warnings", type(warnings._global_warnings)())
        monkeypatch.setattr(warnings, "_global_deprecations", type(warnings._global_deprecations)())
        capsys.readouterr()
        with pytest.raises(SystemExit):
            module.main()
        return Result(json.loads(capsys.readouterr().out))

    return run


@pytest.fixture
def looks_alike(run_module):
    """Hold runner_host_info to what a layer's own module told in check mode, of the same world: plan, facts and refusal."""

    def compare(option, arguments, predicted):
        told = run_module(runner_host_info, {option: [arguments] if option == "builders" else arguments})
        assert not told.failed, told["msg"]
        assert not told["changed"]
        layer = told["layers"][option]
        seen = layer["results"][0] if option == "builders" else layer
        if predicted.failed:
            (problem,) = seen["problems"]
            where, _colon, why = problem.partition(": ")
            assert where.startswith(option)
            # The module's name, and the names of all options, of which there is one more for whose builder it is.
            same = re.sub(r" for \(.*?\) module|Supported parameters include.*", "", predicted["msg"])
            assert why.startswith(same)
        else:
            assert (seen["problems"], layer["problems"]) == ([], [])
            plan = ("changed", "steps", "diff")
            assert {key: seen[key] for key in plan} == {key: predicted[key] for key in plan}
            beside = (*plan, "warnings", "deprecations", "invocation")
            assert seen["facts"] == {key: value for key, value in predicted.items() if key not in beside}
            assert [text for text in predicted.get("warnings", ()) if text not in told.get("warnings", ())] == []
        assert layer["as_declared"] == (option in told["as_declared"])
        assert layer["as_declared"] == (not predicted.failed and not predicted["changed"] and not layer["busy"])
        return layer

    return compare


@pytest.fixture
def no_engine(monkeypatch):
    """A host that systemd has no engine of."""
    monkeypatch.setattr(engine, "unit_now", engine.Unit)


@pytest.fixture
def no_naps(monkeypatch):
    """Let the Drone client not wait between its attempts."""
    monkeypatch.setattr(client, "WAITS", (0.001,) * 5)


@pytest.fixture
def server(monkeypatch, no_naps):
    """A Drone server: administrator octocat, user alice; octocat/app1 to app3 and alice/svc, all inactive."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "DRONE_SERVER", "DRONE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with DroneServer() as running:
        yield running


@pytest.fixture
def drone(server, run_module):
    """Run a module against `server` as somebody: drone(drone_repo, {…}, by="alice")."""

    def run(module, arguments, *, by="octocat", token=None, **options):
        access = {"drone_url": server.url, "drone_token": server.tokens[by] if token is None else token}
        server.forget_requests()
        return run_module(module, {**access, **arguments}, **options)

    return run


@pytest.fixture
def converge(drone, server):
    """Check, run, check again, run again: check mode predicts all that a run returns, and the second run changes nothing."""

    def run(module, arguments, **options):
        predicted = drone(module, arguments, check=True, **options)
        assert server.changes == []
        done = drone(module, arguments, **options)
        assert not done.failed, done["msg"]
        same = ("changed", "steps", "results", "unchanged", "diff")
        assert {name: predicted[name] for name in same} == {name: done[name] for name in same}
        made = server.changes
        assert bool(made) == done["changed"]
        for check in (True, False):
            assert not drone(module, arguments, check=check, **options)["changed"]
            assert server.changes == []
        return done, made

    return run
