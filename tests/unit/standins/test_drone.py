# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in's own promises: faults, pace, and what Drone does that no recording holds."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.multiarch.drone.tests.standins.drone import REAL_PACE, DroneServer, Pace
from ansible_collections.multiarch.drone.tests.standins.drone.golang import is_cron, slug


@pytest.fixture
def server(request):
    """A Drone server; parametrise it indirectly with a version."""
    with DroneServer(version=getattr(request, "param", "2.28.1")) as server:
        yield server


def ask(server, method, path, body=None, *, login="octocat", http_client=None):
    """Return status, headers and content of one request."""
    client = http_client or http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    token = server.tokens.get(login, "")
    data = None if body is None else json.dumps(body)
    client.request(method, path, data, {"Authorization": f"Bearer {token}"} if token else {})
    answer = client.getresponse()
    text = answer.read().decode()
    is_json = answer.getheader("Content-Type") == "application/json"
    return answer.status, dict(answer.getheaders()), json.loads(text) if is_json else text


APP = "/api/repos/octocat/app1"


def test_a_fault_is_answered_as_often_as_it_says_and_the_change_is_not_made(server):
    server.faults.add(kind="status", status=429, retry_after="7", method="PATCH", times=2)
    for _unused in range(2):
        status, headers, _content = ask(server, "PATCH", APP, {"trusted": True})
        assert (status, headers["Retry-After"]) == (429, "7")
    assert not server.repo("octocat/app1")["trusted"]
    assert ask(server, "PATCH", APP, {"trusted": True})[0] == 200


def test_a_fault_may_come_after_the_change_was_made(server):
    server.faults.add(kind="cut", path="*/app1", done=True)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(server, "PATCH", APP, {"trusted": True})
    assert server.repo("octocat/app1")["trusted"]
    assert server.requests[-1].status == 0


def test_an_answer_may_end_in_the_middle(server):
    server.faults.add(kind="half")
    with pytest.raises(http.client.IncompleteRead):
        ask(server, "GET", "/api/user/repos")


def test_a_proxys_page_and_a_redirect_are_answered(server):
    server.faults.add(kind="html", skip=1)
    server.faults.add(kind="redirect", location="http://elsewhere.test/", skip=1)
    assert ask(server, "GET", "/api/user")[0] == 200
    assert "Sign in" in ask(server, "GET", "/api/user")[2]
    status, headers, _content = ask(server, "GET", "/api/user")
    assert (status, headers["Location"]) == (302, "http://elsewhere.test/")


def test_a_slow_answer_takes_its_time(server):
    server.faults.add(kind="slow", seconds=0.2)
    started = time.monotonic()
    assert ask(server, "GET", "/api/user")[0] == 200
    assert time.monotonic() - started >= 0.2


def test_a_kind_of_fault_that_does_not_exist_is_refused(server):
    with pytest.raises(ValueError, match="known are status, slow"):
        server.faults.add(kind="explode")


def test_faults_and_requests_are_reached_over_http_too(server):
    fault = {"kind": "status", "status": 502}
    assert ask(server, "POST", "/_standin/faults", fault)[0] == 204
    assert ask(server, "GET", "/api/user")[0] == 502
    assert ask(server, "POST", "/_standin/faults", fault)[0] == 204
    assert ask(server, "DELETE", "/_standin/faults")[0] == 204
    assert ask(server, "GET", "/api/user")[0] == 200
    seen = ask(server, "GET", "/_standin/requests")[2]
    assert [request["status"] for request in seen] == [502, 200]


def test_a_real_servers_pace_is_kept():
    with DroneServer(pace=REAL_PACE, fleet=999) as server:
        client = http.client.HTTPConnection(urlsplit(server.url).netloc)

        def seconds(*request):
            started = time.perf_counter()
            assert ask(server, *request, http_client=client)[0] == 200
            return time.perf_counter() - started

        seconds("GET", "/api/repos?per_page=10000")
        # The machine may be busy: never quicker is a promise, and how much slower is not.
        assert min(seconds("GET", "/api/repos?per_page=10000") for _unused in range(5)) >= 0.013
        assert min(seconds("GET", APP) for _unused in range(5)) >= 0.010
        assert min(seconds("PATCH", APP, {}) for _unused in range(5)) >= 0.008


def test_writes_come_one_after_the_other():
    with DroneServer(pace=Pace(write=0.02), fleet=8) as server:
        started = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            paths = [f"/api/repos/fleet/repo-000{number}" for number in range(1, 9)]
            assert {answer[0] for answer in pool.map(lambda path: ask(server, "PATCH", path, {}), paths)} == {200}
        assert time.perf_counter() - started >= 8 * 0.02


def test_a_connection_is_kept(server):
    client = http.client.HTTPConnection(urlsplit(server.url).netloc)
    ask(server, "GET", "/api/user", http_client=client)
    socket = client.sock
    for method, path in (("DELETE", "/api/users/alice"), ("PUT", APP), ("GET", "/api/nope"), ("GET", "/")):
        ask(server, method, path, http_client=client)
        assert client.sock is socket


def test_trust_survives_deactivation_and_renaming_but_not_being_removed(server):
    ask(server, "POST", APP)
    ask(server, "PATCH", APP, {"trusted": True})
    ask(server, "DELETE", APP)
    server.state.host.rename("octocat/app1", "octocat/new")
    ask(server, "POST", "/api/user/repos")
    assert ask(server, "GET", APP)[0] == 404
    assert server.repo("octocat/new")["trusted"]
    ask(server, "POST", "/api/repos/octocat/new/secrets", {"name": "a", "data": "b"})
    ask(server, "DELETE", "/api/repos/octocat/new?remove=true")
    assert ask(server, "GET", "/api/repos/octocat/new")[0] == 404
    ask(server, "POST", "/api/user/repos")
    assert not server.repo("octocat/new")["trusted"]
    assert ask(server, "GET", "/api/repos/octocat/new/secrets")[2] == []


def test_a_machine_account_that_takes_a_repository_over_breaks_its_repair(server):
    server.machine("robot")
    assert ask(server, "POST", APP)[0] == 200
    assert ask(server, "POST", APP + "/repair")[0] == 200
    assert ask(server, "POST", APP + "/chown", login="robot")[0] == 200
    assert ask(server, "POST", APP + "/repair")[0] == 404


def test_a_flag_of_a_secret_is_changed_without_its_value(server):
    secrets = APP + "/secrets"
    ask(server, "POST", secrets, {"name": "password", "data": "hunter2"})
    assert ask(server, "PATCH", secrets + "/password", {"pull_request": True})[2]["pull_request"]
    assert server.state.secrets.find(lambda row: row.name == "password").data == "hunter2"
    assert "hunter2" not in str(ask(server, "GET", secrets)[2])


@pytest.mark.parametrize("server", ["2.28.1"], indirect=True)
def test_a_template_with_a_wrong_extension_is_refused_by_newer_servers(server):
    answer = ask(server, "POST", "/api/templates/octocat", {"name": "a.txt", "data": "x"})
    assert answer[::2] == (400, {"message": "Template extension invalid. Must be yaml, starlark or jsonnet"})


@pytest.mark.parametrize("server", ["2.0.4"], indirect=True)
def test_a_templates_name_is_unique_on_the_whole_older_server(server):
    template = {"name": "a.yaml", "namespace": "octocat", "data": "x"}
    assert ask(server, "POST", "/api/templates", template)[0] == 200
    status, _headers, content = ask(server, "POST", "/api/templates", {**template, "namespace": "acme"})
    assert (status, content) == (500, {"message": "UNIQUE constraint failed: templates.template_name"})


def test_the_queue_shows_who_is_busy_and_a_build_can_be_cancelled(server):
    build = server.state.add_build("octocat/app1", machine="runner-1")
    server.state.add_build("octocat/app2", status="pending")
    queue = ask(server, "GET", "/api/queue")[2]
    assert [(stage["status"], stage.get("machine")) for stage in queue] == [("running", "runner-1"), ("pending", None)]
    incomplete = ask(server, "GET", "/api/builds/incomplete")[2]
    assert {repo["slug"] for repo in incomplete} == {"octocat/app1", "octocat/app2"}
    assert "runner-1" not in json.dumps(incomplete)
    cancelled = ask(server, "DELETE", f"{APP}/builds/{build.number}")[2]
    assert (cancelled["status"], cancelled["stages"][0]["status"]) == ("killed", "killed")
    assert len(ask(server, "GET", "/api/queue")[2]) == 1
    assert ask(server, "DELETE", f"{APP}/builds/99")[0] == 404


def test_an_oss_build_lacks_what_it_lacks():
    with DroneServer(oss=True) as server:
        paths = ("/api/queue", "/api/secrets/octocat", APP + "/secrets", APP + "/cron")
        assert {ask(server, "GET", path)[0] for path in paths} == {501}
        assert ask(server, "GET", APP)[0] == 200


def test_a_member_of_an_organisation_reads_and_its_administrator_writes(server):
    server.state.host.orgs["acme"] = {"alice": "member"}
    secret = {"name": "a", "data": "b"}
    assert ask(server, "GET", "/api/secrets/acme", login="alice")[0] == 200
    assert ask(server, "POST", "/api/secrets/acme", secret, login="alice")[0] == 401
    server.state.host.orgs["acme"] = {"alice": "admin"}
    assert ask(server, "POST", "/api/secrets/acme", secret, login="alice")[0] == 200


@pytest.mark.parametrize(
    "expr",
    ["0 0 1 * * *", "0 1 * * *", "@daily", "@every 1h30m", "0 */15 8-18 * jan,MAR mon-fri", "0 0 0 ? * SUN"],
)
def test_a_cron_expression_that_drone_takes_is_taken(expr):
    assert is_cron(expr)


@pytest.mark.parametrize(
    "expr", ["", "whenever", "* * * *", "* * * * * * *", "60 * * * * *", "0 0 24 * * *", "@fortnightly", "0 0 1 0 * *"]
)
def test_a_cron_expression_that_drone_refuses_is_refused(expr):
    assert not is_cron(expr)


def test_a_cron_jobs_name_becomes_a_slug():
    assert [slug(name) for name in ("Nightly Build", "a  b", "-x-", "Q&A")] == ["nightly-build", "a-b", "x", "qanda"]


def test_it_serves_from_the_command_line():
    command = [sys.executable, "-m", "tests.standins.drone", "--version", "2.0.4", "--token", "octocat=chosen"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        try:
            told = json.loads(process.stdout.readline())
            client = http.client.HTTPConnection(urlsplit(told["url"]).netloc, timeout=10)
            client.request("GET", "/version")
            assert json.loads(client.getresponse().read()) == {"version": "2.0.4"}
            assert told["tokens"]["octocat"] == "chosen"
        finally:
            process.terminate()
