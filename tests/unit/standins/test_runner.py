# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in for the runner refuses what drone-runner-docker 1.8.4 refuses, and our checks refuse no less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.standins.drone import DroneServer

RUNNER = Path(__file__).parents[3] / "tests/standins/runner/runner.py"
NEEDED = {"DRONE_RPC_HOST": "127.0.0.1:1", "DRONE_RPC_SECRET": "x"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        # What the real one said, run with each.
        ({"DRONE_RUNNER_VOLUMES": "/a:/b:ro"}, "converting '/a:/b:ro' to type map[string]string. details: invalid map item: \"/a:/b:ro\""),
        ({"DRONE_RUNNER_ENVIRON": "http_proxy:http://p:3128"}, 'details: invalid map item: "http_proxy:http://p:3128"'),
        ({"DRONE_RUNNER_CAPACITY": "two"}, "converting 'two' to type int. details: strconv.ParseInt: parsing \"two\": invalid syntax"),
        ({"DRONE_LIMIT_TRUSTED": "yes"}, "converting 'yes' to type bool. details: strconv.ParseBool: parsing \"yes\": invalid syntax"),
        ({"DRONE_MEMORY_LIMIT": "2g"}, "converting '2g' to type int64. details: strconv.ParseInt: parsing \"2g\": invalid syntax"),
        ({"DRONE_RUNNER_ENV_FILE": "/nonexistent"}, "open /nonexistent: no such file or directory"),
        ({"DRONE_RUNNER_LABELS": "a:b,"}, 'details: invalid map item: ""'),
    ],
)  # fmt: skip
def test_it_leaves_at_its_start_with_the_words_of_the_real_one(variables, words):
    ran = subprocess.run(
        [sys.executable, RUNNER],
        env={**NEEDED, **variables},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=20,
    )
    assert ran.returncode == 1
    assert words in ran.stderr


@pytest.fixture
def rpc():
    with DroneServer(rpc_secret="x") as server:
        server.rpc.poll = 0.1

        def ask(method, path, body=b"{}", secret="x"):
            return server.rpc.answer(method, path, secret, body)

        ask.server = server
        yield ask


def test_the_server_knows_runners_by_the_secret_alone(rpc):
    assert rpc("POST", "/rpc/v2/ping").status == 200
    assert rpc("POST", "/rpc/v2/ping", secret="y").status == 401


def test_a_secret_that_is_rotated_in_the_middle_of_a_build_leaves_the_build_running(rpc):
    build = rpc.server.rpc.add("octocat/app1", "kind: pipeline\n")
    id = build.stages[0].id
    rpc("POST", f"/rpc/v2/stage/{id}?machine=a")
    rpc("PUT", f"/rpc/v2/stage/{id}", b'{"status": "running", "started": 7}')
    rpc.server.rpc.rotate("y")
    assert rpc("PUT", f"/rpc/v2/stage/{id}", b'{"status": "success"}').status == 401
    assert rpc("POST", f"/rpc/v2/build/{build.id}/watch").status == 401
    assert rpc.server.state.builds.get(build.id).status == "running"
    assert rpc("POST", "/rpc/v2/ping", secret="y").status == 200


def test_a_stage_is_one_runners(rpc):
    build = rpc.server.rpc.add("octocat/app1", "kind: pipeline\n")
    wanted = b'{"os": "linux", "arch": "amd64"}'
    stage = rpc("POST", "/rpc/v2/stage", wanted).content
    assert stage["build_id"] == build.id
    assert rpc("POST", f"/rpc/v2/stage/{stage['id']}?machine=a").status == 200
    assert rpc("POST", f"/rpc/v2/stage/{stage['id']}?machine=b").status == 409
    assert rpc("POST", "/rpc/v2/stage", wanted).status == 204


def test_a_runner_of_another_architecture_waits(rpc):
    rpc.server.rpc.add("octocat/app1", "kind: pipeline\n", arch="arm64")
    assert rpc("POST", "/rpc/v2/stage", b'{"os": "linux", "arch": "amd64"}').status == 204


def test_a_cancelled_build_is_told_to_whom_watches_and_stays_cancelled(rpc):
    build = rpc.server.rpc.add("octocat/app1", "kind: pipeline\n")
    stage = build.stages[0].id
    assert rpc("POST", f"/rpc/v2/build/{build.id}/watch").status == 204
    rpc("PUT", f"/rpc/v2/stage/{stage}", b'{"status": "running", "started": 1}')
    rpc.server.answer("DELETE", f"/api/repos/octocat/app1/builds/{build.number}", rpc.server.tokens["octocat"], b"")
    assert rpc("POST", f"/rpc/v2/build/{build.id}/watch").status == 200
    rpc("PUT", f"/rpc/v2/stage/{stage}", b'{"status": "success", "started": 1, "stopped": 2}')
    assert rpc.server.state.builds.get(build.id).status == "killed"
