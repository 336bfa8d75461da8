# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The server of the scenarios: a real one that DRONE_SERVER names, or the stand-in in both its versions.

    DRONE_SERVER=https://drone.example.com DRONE_TOKEN=… DRONE_TEST_REPOS=octocat/a,octocat/b pytest tests/drone

A real server gets everything back: settings, trust and activation of the repositories as they were found; secrets, cron
jobs, templates and accounts have names of their own (`multiarch-test-…`) and are deleted. Two things stay: a repository
that was activated and deactivated again belongs to the token's owner, and `version` and `updated` count on.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import Drone, Refused, repo_route, route
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.conftest import run_module  # noqa: F401

REAL = os.environ.get("DRONE_SERVER", "")
SETTINGS = (
    "trusted",
    "protected",
    "visibility",
    "timeout",
    "throttle",
    "config_path",
    "ignore_forks",
    "ignore_pull_requests",
    "auto_cancel_pull_requests",
    "auto_cancel_pushes",
    "auto_cancel_running",
)


@dataclass
class Server:
    """A server that scenarios run against."""

    url: str
    token: str
    repos: list[str]  # what scenarios may change

    @property
    def client(self) -> Drone:
        return Drone(self.url, self.token)

    @property
    def namespace(self) -> str:
        return self.repos[0].split("/")[0]

    def row(self, slug: str) -> dict:
        return self.client.get(repo_route(slug))

    def names(self, *parts: str) -> set[str]:
        """Return the names of what is listed at a route."""
        return {row.get("name") or row["login"] for row in self.client.get(route(*parts)) or ()}


@pytest.fixture(scope="module", params=["real"] if REAL else ["2.28.1", "2.0.4"])
def server(request):
    """The server, with all that scenarios could change noted before and put back afterwards."""
    if request.param != "real":
        with DroneServer(version=request.param) as standin:
            yield from _guarded(Server(standin.url, standin.tokens["octocat"], ["octocat/app1", "octocat/app2"]))
        return
    repos = os.environ.get("DRONE_TEST_REPOS", "").replace(",", " ").split()
    if not repos:
        pytest.fail("DRONE_TEST_REPOS names no repository that the scenarios may change, such as octocat/a,octocat/b")
    server = Server(REAL, os.environ.get("DRONE_TOKEN", ""), repos)
    me = server.client.me()
    if not me.admin or me.machine:
        pytest.fail(f"DRONE_TOKEN is {me.login}'s: the scenarios need a person's account that is an administrator")
    yield from _guarded(server)


def _guarded(server: Server):
    client = server.client
    before = {slug: server.row(slug) for slug in server.repos}
    lists = {path: server.names(*path) for path in _lists(server)}
    yield server
    # What cannot be put back must not keep the rest from being: all of it is tried, then told.
    problems = []
    for slug, row in before.items():
        try:
            _put_back(server, slug, row)
        except (Problem, AssertionError) as problem:
            problems.append(f"{slug}: {problem}")
    for path, names in lists.items():
        try:
            for name in server.names(*path) - names:
                if name.startswith("multiarch-test-"):
                    client.delete(route(*path, name), look=lambda: None)
            assert server.names(*path) == names
        except (Problem, AssertionError) as problem:
            problems.append(f"{'/'.join(path)}: {problem}")
    assert not problems, "not put back: " + "; ".join(problems)


def _put_back(server: Server, slug: str, row: dict) -> None:
    """Give a repository the settings, the trust and the activation that it had."""
    client = server.client
    if server.row(slug)["active"] and not row["active"]:
        client.delete(repo_route(slug), look=lambda: None)
    settings = {name: row.get(name, 0) for name in SETTINGS if name in row or name == "throttle"}
    client.patch(repo_route(slug), settings, look=lambda: None)
    now = server.row(slug)
    kept = (*SETTINGS, "active")
    assert {name: now.get(name) for name in kept} == {name: row.get(name) for name in kept}


def _lists(server: Server):
    """Return where scenarios make things, but what the server does not have at all."""
    paths = [("repos", *slug.split("/"), what) for slug in server.repos for what in ("secrets", "cron")]
    for path in [*paths, ("secrets", server.namespace), ("templates", server.namespace), ("users",)]:
        try:
            server.client.get(route(*path))
        except Refused as refused:
            if refused.status != 501:  # an `oss` build
                raise
            continue
        yield path


@pytest.fixture
def name():
    """A name that nothing else on the server has."""
    return f"multiarch-test-{time.time_ns() // 1000 % 10**9}"


@pytest.fixture
def drone(server, run_module):  # noqa: F811
    """Run a module as the owner of DRONE_TOKEN: drone(drone_repo, {…}, check=True)."""

    def run(module, arguments, *, token=None, **options):
        access = {"drone_url": server.url, "drone_token": token or server.token}
        return run_module(module, {**access, **arguments}, **options)

    return run


@pytest.fixture
def converge(drone):
    """Check, run, check again, run again: a run does what check mode says, and the second one changes nothing."""

    def run(module, arguments, **options):
        predicted = drone(module, arguments, check=True, **options)
        assert not predicted.failed, predicted["msg"]
        done = drone(module, arguments, **options)
        assert not done.failed, done["msg"]
        same = ("changed", "steps", "results", "unchanged", "diff")
        assert {key: predicted[key] for key in same} == {key: done[key] for key in same}
        for check in (True, False):
            again = drone(module, arguments, check=check, **options)
            assert not again.failed, again["msg"]
            assert not again["changed"], again["steps"]
        return done

    return run
