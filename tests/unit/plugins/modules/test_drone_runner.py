# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The runner's module as Ansible runs it: its result, what it did to the host, and what is left where any of it fails."""

from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._arguments import Module
from ansible_collections.multiarch.drone.plugins.module_utils._files import File
from ansible_collections.multiarch.drone.plugins.module_utils._runner.wish import ENVIRONMENT, TIMER, UNIT, UNITS
from ansible_collections.multiarch.drone.plugins.modules import drone_runner, drone_runner_info

from .runner_host import IMAGE, Host, each_call

SECRET = "b0t-secret"
NAME = "runner-1"
# What may fail without an error: what is asked only so that systemd forgets, and what clears up before or after.
CLEARING_UP = ("systemctl reset-failed", "docker rm --force", "rmdir")


@pytest.fixture
def host(server, monkeypatch):
    server.rpc.secret = SECRET
    made = Host(server)
    made.install(monkeypatch)
    return made


@pytest.fixture
def declare(host, server, run_module, looks_alike):
    def run(*, check=False, token=True, **options):
        wanted = {"drone_url": server.url, "rpc_secret": server.rpc.secret, "name": NAME, "ready_timeout": 5, **options}
        if token:
            wanted["drone_token"] = server.tokens["octocat"]
        done = run_module(drone_runner, wanted, check=check)
        if check:
            looks_alike("runner", wanted, done)
        return done

    return run


@pytest.fixture
def running(host, declare):
    """A runner that works."""
    done = declare()
    assert not done.failed, done["msg"]
    host.now += 10
    return done


def test_a_runner_is_made_and_a_second_run_changes_nothing(host, declare):
    predicted = declare(check=True)
    assert host.calls == []
    done = declare()
    assert {key: done[key] for key in ("changed", "steps", "diff")} == {
        key: predicted[key] for key in ("changed", "steps", "diff")
    }
    assert done["steps"][1:] == [f"start {UNIT}", f"enable {UNIT}", f"enable {TIMER}"]
    assert (done["runner"]["healthy"], done["runner"]["reaches_server"], done["cancelled"]) == (True, True, [])
    assert [call for call in host.calls if not call.startswith(("makedirs", "docker rm"))] == [
        "write environment run drone-runner.service prune.py drone-runner-prune.service drone-runner-prune.timer",
        "systemctl daemon-reload",
        f"systemctl stop --no-block {UNIT}",
        f"systemctl reset-failed {UNIT}",
        f"systemctl start {UNIT}",
        f"systemctl enable {UNIT}",
        f"systemctl enable --now {TIMER}",
    ]
    host.forget()
    again = declare()
    assert (again["changed"], host.calls) == (False, [])


@pytest.mark.parametrize("token", [True, False])
def test_validate_certs_false_warns_once_that_anybody_gets_what_proves_the_runner(declare, monkeypatch, token):
    said = []
    monkeypatch.setattr(Module, "warn", lambda _module, text: said.append(text))
    declare(token=token)
    assert said == []
    declare(token=token, validate_certs=False)
    assert [text.partition(":")[0] for text in said] == ["validate_certs is false"]


def test_a_change_waits_for_the_builds_that_run(host, declare, running):
    host.builds = {7: host.now + 30}
    done = declare(capacity=5)
    assert done["steps"] == ["write environment, run", f"drain and restart {UNIT}"]
    assert done["runner"]["waited_for"] == ["octocat/app1 #7"]
    assert host.container["started"] > host.now - 30


def test_builds_that_take_too_long_are_left_alone_and_the_old_runner_starts_again(host, declare, running):
    before = host.state
    host.builds = {7: host.now + 100}
    failed = declare(capacity=5, drain_timeout=60)
    assert "after 60 s the runner still has octocat/app1 #7" in failed["msg"]
    assert failed["draining"] == ["octocat/app1 #7"]
    assert host.state["files"] == before["files"]
    host.now += 100
    assert host.state == before


def test_also_where_no_file_had_to_be_written(host, declare, running):
    host.images[IMAGE] = "sha256:moved"
    host.builds = {7: host.now + 100}
    failed = declare(drain_timeout=60)
    assert "starts again as it was" in failed["msg"]
    host.now += 100
    assert host.state["active"][UNIT] == "active"


@pytest.mark.parametrize("state", ["drained", "absent"])
def test_a_runner_that_shall_stop_and_has_builds_for_too_long_works_on(host, declare, running, state):
    before = host.state
    host.builds = {7: host.now + 100}
    assert "starts again as it was" in declare(state=state, drain_timeout=60)["msg"]
    host.now += 100
    assert host.state == before


def test_a_runner_of_somebody_else_stays_where_ours_shall_be_absent_and_that_is_told(host, declare):
    host.files[f"{UNITS}/{UNIT}"] = File("[Service]\nExecStart=/usr/bin/docker run drone/drone-runner-docker:1\n")
    before = host.state
    assert "which this module has not made" in declare()["msg"]
    done = declare(state="absent")
    assert (done.failed, done["changed"], done["steps"]) == (False, False, [])
    assert "it stays" in str(done["warnings"])
    assert host.state == before


@pytest.mark.parametrize("then", ["cancel", "kill"])
def test_builds_that_take_too_long_are_ended_where_that_is_wished_and_drone_is_told(
    server, host, declare, running, then
):
    build = server.state.add_build("octocat/app1", machine=NAME)
    host.builds = {build.number: host.now + (100 if then == "cancel" else 1e6)}
    server.forget_requests()
    done = declare(capacity=5, drain_timeout=60, on_drain_timeout=then)
    assert not done.failed, done["msg"]
    assert server.changes == [f"DELETE /api/repos/octocat/app1/builds/{build.number}"]
    assert ("docker kill drone-runner" in host.calls) == (then == "kill")


def test_a_build_that_a_dead_runner_left_is_cancelled_and_check_mode_says_so(server, host, declare, running):
    build = server.state.add_build("octocat/app1", machine=NAME)
    host.container["started"] = build.started + 100
    name = f"octocat/app1 #{build.number}"
    predicted = declare(check=True)
    assert (predicted["cancelled"], server.changes) == ([name], [])
    done = declare()
    assert (done["cancelled"], done["steps"]) == ([name], predicted["steps"])
    assert declare()["changed"] is False


def test_a_lost_build_that_cannot_be_cancelled_takes_nothing_back(server, host, declare, running):
    build = server.state.add_build("octocat/app1", machine=NAME)
    host.container["started"] = build.started + 100
    server.faults.add(kind="status", status=403, method="DELETE", path="*/builds/*", times=9)
    failed = declare(capacity=5)
    assert failed.failed
    assert f"octocat/app1 #{build.number}" in failed["msg"]
    assert "done before: write environment, run" in failed["msg"]
    assert "DRONE_RUNNER_CAPACITY=5" in host.files[ENVIRONMENT].text


@pytest.mark.parametrize("state", ["present", "absent", "drained"])
def test_builds_that_a_rotated_secret_has_lost_are_cancelled_and_no_reason_to_go_back(
    server, host, declare, running, state
):
    build = server.state.add_build("octocat/app1", machine=NAME)  # it runs, and its end will not be heard
    host.now = build.started - 10.0
    host.container["started"] = host.now - 60
    host.builds = {build.number: host.now + 30}
    server.rpc.rotate("an0ther")
    done = declare(state=state)
    assert not done.failed, done["msg"]
    assert done["cancelled"] == [f"octocat/app1 #{build.number}"]
    if state == "present":
        assert "DRONE_RPC_SECRET=an0ther" in host.files[ENVIRONMENT].text
        assert done["runner"]["healthy"]
        assert declare()["changed"] is False


def test_a_server_that_fails_after_the_change_is_a_warning(server, host, declare, running):
    server.rpc.rotate("an0ther")
    real = host.start

    def start():  # until then, the server has answered
        server.faults.add(kind="status", status=500, method="GET", path="/api/queue*", times=99)
        real()

    host.start = start
    done = declare()
    assert not done.failed, done["msg"]
    assert "cancel them there" in str(done["warnings"])
    assert done["runner"]["healthy"]


def test_without_a_token_it_says_which_builds_drone_will_not_hear_of(server, host, declare, running):
    host.builds = {7: host.now + 5}
    server.rpc.rotate("an0ther")
    done = declare(token=False)
    assert "octocat/app1 #7: Drone will go on to show them as running" in str(done["warnings"])
    assert SECRET not in str(done)


def test_a_comment_in_the_environment_is_a_difference_that_the_diff_shows(host, declare, running):
    host.files[ENVIRONMENT] = host.files[ENVIRONMENT].__class__(
        "# mine\n" + host.files[ENVIRONMENT].text, 0o600, secret=True
    )
    done = declare()
    assert not done.failed, done["msg"]
    assert "write environment" in done["steps"]


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ("nothing", {}),
        ("a runner", {"capacity": 5}),
        ("a runner", {"image": "drone/drone-runner-docker:1.8.5"}),
        ("a runner", {"prune": False}),
        ("a runner", {"state": "drained"}),
        ("a runner", {"state": "absent"}),
        ("a runner of an older image", {}),
    ],
)
def test_a_change_of_which_any_call_fails_leaves_the_host_as_it_was(host, declare, found, options):
    if found != "nothing":
        declare()
        host.now += 100
    if found == "a runner of an older image":
        host.images[IMAGE] = "sha256:moved"
    before, world = host.state, host.save()
    broken = []
    for call, result in each_call(host, lambda: host.restore(world), lambda: declare(**options)):
        broken.append(call)
        if not result.failed:
            assert call.startswith(CLEARING_UP), f"{call} failed, and nobody was told"
            continue
        assert "broken" in result["msg"]
        assert "not taken back" not in result["msg"]
        assert host.state == before, f"{call} failed: {result['msg']}"
    assert broken


def test_an_image_that_does_not_start_is_found_out_before_anything_is_changed(host, declare, running):
    before = host.state
    host.rehearsal = "drone-runner-docker: error: this build is broken, try --help"
    failed = declare(capacity=5)
    assert "this build is broken" in failed["msg"]
    assert "nothing was changed" in failed["msg"]
    assert host.state == before


def test_a_runner_that_does_not_reach_its_server_gives_way_to_the_old_one(server, host, declare, running):
    before = host.state
    failed = declare(network="drone", rpc_secret="wrong")  # on a network of its own, nobody asks the server beforehand
    assert (
        'has not reached its server within 5 s: "cannot ping the remote server" error="Unauthorized"' in failed["msg"]
    )
    assert f"taken back: drain and restart {UNIT}, write environment, run" in failed["msg"]
    assert host.state == before


def test_what_a_runner_is_can_be_asked_without_knowing_it(server, host, running, run_module):
    host.builds = {7: host.now + 30}
    told = run_module(drone_runner_info, {})
    assert SECRET not in str(told)
    assert {
        key: told[key] for key in ("state", "healthy", "reaches_server", "name", "server", "capacity", "builds", "left")
    } == {
        "state": "active",
        "healthy": True,
        "reaches_server": True,
        "name": NAME,
        "server": server.url,
        "capacity": 2,
        "builds": ["octocat/app1 #7"],
        "left": [],
    }
    server.rpc.rotate("an0ther")
    assert run_module(drone_runner_info, {})["reaches_server"] is False


def test_a_host_without_a_runner_has_none_to_tell_of(host, run_module):
    told = run_module(drone_runner_info, {})
    assert (told["state"], told["healthy"], told["reaches_server"], told["name"]) == ("absent", False, False, "")
