# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import Drone
from ansible_collections.multiarch.drone.plugins.module_utils._runner.queue import builds_of, cancel, lost, ping

from tests.standins.drone import DroneServer


@pytest.fixture
def server():
    with DroneServer(rpc_secret="b0t-secret") as running:
        yield running


@pytest.fixture
def drone(server):
    return Drone(server.url, server.tokens["octocat"])


def ask(url, secret="b0t-secret"):
    return ping(url, secret, validate_certs=True, ca_path=None, timeout=5)


def test_a_server_that_takes_the_secret_says_so(server):
    assert ask(server.url) == ""


def test_a_server_that_does_not_is_told_apart_from_one_that_is_away(server):
    assert "does not take rpc_secret (401)" in ask(server.url, "another")
    assert "nothing listens there" in ask("http://127.0.0.1:1")


def test_what_is_no_drone_server_is_noticed(server):
    server.rpc.secret = ""
    assert "does not take rpc_secret (403)" in ask(server.url)
    assert "as no Drone server does" in ask(server.url + "/elsewhere")


def test_the_builds_of_a_machine_are_named(server, drone):
    build = server.state.add_build("octocat/app1", machine="runner-1")
    server.state.add_build("octocat/app2", machine="runner-2")
    server.state.add_build("octocat/app3", status="pending")
    assert [str(one) for one in builds_of(drone, "runner-1")] == [f"octocat/app1 #{build.number}"]
    assert builds_of(drone, "runner-3") == []


def test_a_build_that_the_newest_fifty_do_not_have_is_named_too(server, drone):
    old = server.state.add_build("octocat/app1", machine="runner-1")
    for _unused in range(51):
        server.state.add_build("octocat/app2", status="pending")
    assert [str(one) for one in builds_of(drone, "runner-1")] == [f"octocat/app1 #{old.number}"]


@pytest.mark.parametrize(
    ("since", "is_lost"),
    [
        (0.0, True),  # no runner runs
        (+2.0, True),
        (+0.9, False),  # Drone keeps whole seconds: the build may have begun after the runner
        (-5.0, False),
    ],
)
def test_only_what_began_before_the_runner_is_lost(server, drone, since, is_lost):
    build = server.state.add_build("octocat/app1", machine="runner-1")
    found = lost(drone, "runner-1", build.started + since if since else 0.0)
    assert [one.number for one in found] == [build.number] * is_lost


def test_a_cancelled_build_is_no_longer_on_the_machine(server, drone):
    build = server.state.add_build("octocat/app1", machine="runner-1")
    cancel(drone, builds_of(drone, "runner-1"))
    assert builds_of(drone, "runner-1") == []
    assert server.changes == [f"DELETE /api/repos/octocat/app1/builds/{build.number}"]
